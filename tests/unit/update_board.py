"""The updater with everything around it played."""

from collections.abc import Collection
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import cast

from agent.core import update
from agent.core.alarms import AlarmState
from agent.core.outgoing import Outgoing
from agent.core.update import ModelRef, Update
from agent.core.update.events import Outcome
from agent.errors import AgentError, Retryable
from agent.loops.ledger import Ledger
from agent.loops.orders import LaneOrder
from agent.loops.updater import Updater, UpdaterParts
from agent.loops.workshop import Workshop
from schemas.codes import FailureCode
from schemas.recipe import Evaluation
from schemas.state import Defer, DesiredModel, Phase, ProbationPlan, ReportedModel
from schemas.topics import Topics

INSTALLED, OLD, NEW = (ModelRef(f"m{n}", "1", f"{n}" * 64) for n in range(3))
FULL = Retryable(FailureCode.DISK_FULL, "no space left")
NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)


@dataclass
class MemoryJournal:
    content: bytes | None = None
    failure: AgentError | None = None
    writes: int = 0

    def read(self) -> bytes | None:
        return self.content

    def write(self, content: bytes) -> None:
        self.writes += 1
        if self.failure is not None:
            raise self.failure
        self.content = content

    @property
    def state(self) -> Update:
        assert self.content is not None
        return update.load(self.content)


@dataclass
class Shop:
    """Notes what it is asked for."""

    asked: list[str] = field(default_factory=list)
    progress: float | None = None

    def fetch(self, work: int, desired: DesiredModel, pinned: Collection[str]) -> None:
        self.asked.append("fetch")

    def verify(self, work: int, ref: ModelRef) -> None:
        self.asked.append("verify")

    def load(self, work: int, ref: ModelRef, *, alone: bool) -> None:
        self.asked.append("load alone" if alone else "load")

    def self_test(self, work: int) -> None:
        self.asked.append("self_test")

    def start_shadow(self, work: int) -> None:
        self.asked.append("start_shadow")

    def flip(self, work: int) -> None:
        self.asked.append("flip")

    def abandon(self) -> None:
        self.asked.append("abandon")

    def clean_up(self, pinned: Collection[str]) -> None:
        self.asked.append("clean_up")


@dataclass
class Desk:
    alarms: set[tuple[FailureCode, str]] = field(default_factory=set)
    events: list[FailureCode] = field(default_factory=list)

    def set(self, code: FailureCode, source: str, text: str) -> None:
        self.alarms.add((code, source))

    def clear(self, code: FailureCode, source: str) -> None:
        self.alarms.discard((code, source))

    def happened(self, code: FailureCode, source: str, text: str) -> None:
        self.events.append(code)

    def active(self) -> tuple[AlarmState, ...]:
        return ()


class Board:
    """`now` and `mono_s` are its clocks; `has` names the models whose files are there."""

    def __init__(self, journal: MemoryJournal | None = None, chance: float = 0.5) -> None:
        self.journal = journal or MemoryJournal()
        self.shop, self.desk = Shop(), Desk()
        self.ledger = Ledger(self._recorded)
        self.orders: list[LaneOrder] = []
        self.published: list[ReportedModel] = []
        self.now, self.mono_s, self.lot = NOON, 1_000.0, False
        self.has = {INSTALLED, OLD, NEW}
        self.updater = Updater(
            UpdaterParts(
                journal=self.journal,
                workshop=cast("Workshop", self.shop),
                ledger=self.ledger,
                desk=self.desk,
                send=self.orders.append,
                publish=self._publish,
                topics=Topics("a", "b"),
                installed=INSTALLED,
                has=lambda ref: ref in self.has,
                lot_is_open=lambda: self.lot,
                now=lambda: self.now,
                monotonic=lambda: self.mono_s,
                chance=lambda: chance,
            )
        )

    def _recorded(self) -> None:
        self.updater.recorded()

    def _publish(self, message: Outgoing) -> None:
        self.published.append(ReportedModel.model_validate_json(message.payload))

    def start(self, *, is_clean: bool = True) -> "Board":
        self.updater.boot(is_clean=is_clean)
        self.updater.begin()
        self.shop.asked.clear()
        return self

    def phase(self) -> Phase:
        return self.updater.state.phase

    def do(self, *events: type[Outcome]) -> None:
        """The work that is under way has come out so."""
        for event in events:
            self.updater.happened(cast("update.Event", event(self.updater.state.work)))

    def fail(self, *, retryable: bool = False, delay_s: float = 0.0) -> None:
        work, code = self.updater.state.work, FailureCode.DOWNLOAD_FAILED
        self.updater.happened(update.Failed(work, {}, code, "why", is_retryable=retryable, delay_s=delay_s))

    def to_probation(self, old_results: int = 30) -> None:
        for _ in range(old_results):
            self.ledger.recorded(self.updater.current.manifest_sha256, Evaluation.OK, 5.0)
        self.updater.wanted(wish())
        self.updater.tick()
        self.do(update.Fetched, update.Verified, update.Loaded, update.SelfTested)
        assert self.phase() is Phase.PROBATION

    def tick_after(self, seconds: float) -> None:
        self.mono_s += seconds
        self.now += timedelta(seconds=seconds)
        self.updater.tick()


def wish(generation: int = 1, ref: ModelRef = NEW, defer: Defer | None = None, frames: int = 30) -> DesiredModel:
    return DesiredModel(
        generation=generation,
        name=ref.name,
        version=ref.version,
        manifest_sha256=ref.manifest_sha256,
        urls=["http://h"],
        defer=defer or Defer(),
        probation=ProbationPlan(frames=frames),
    )


def committed(current: ModelRef = OLD, last_good: ModelRef = INSTALLED, unclean_starts: int = 0) -> MemoryJournal:
    state = Update(current, last_good, generation=0, unclean_starts=unclean_starts)
    return MemoryJournal(update.dump(state))
