"""A running workshop whose models, store and servers do as they are told."""

import threading
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import cast

import numpy as np

from agent.core.bundle import Bundle, GoldenFrame
from agent.core.fetch_plan import FetchPlan, Wanted
from agent.core.update import Event, Loaded, ModelRef
from agent.errors import AgentError, Retryable
from agent.loops import inspect
from agent.loops.orders import LaneOrder, Release
from agent.loops.workshop import Workshop, WorkshopParts
from agent.ports import Fetcher, Segmenter, Store, Trust
from schemas.codes import FailureCode
from schemas.state import DesiredModel
from tests.unit.a_model import BUNDLE, SIZE_PX, Counted, a_model, a_ref

PATIENCE_S = 20.0
NEW = a_ref(2)
WISH = DesiredModel(generation=1, name="m", version="2", manifest_sha256=NEW.manifest_sha256, urls=["http://h"])


class Bug(Exception):
    """What nobody foresaw."""


@dataclass
class World:
    """Trust, store, fetcher and models in one; `meets` is raised in, or waits at, the step of its name."""

    meets: dict[str, Exception | threading.Event] = field(default_factory=dict)
    reached: dict[str, threading.Event] = field(default_factory=dict)
    is_roomy: bool = True
    golden_value: int = 0
    segmenters: list[Counted] = field(default_factory=list)
    faults: list[AgentError | None] = field(default_factory=list)
    pruned: list[Collection[str]] = field(default_factory=list)

    def _at(self, step: str) -> None:
        self.reached.setdefault(step, threading.Event()).set()
        met = self.meets.get(step)
        if isinstance(met, threading.Event):
            assert met.wait(PATIENCE_S)
        elif met is not None:
            raise met

    def await_step(self, step: str) -> None:
        assert self.reached.setdefault(step, threading.Event()).wait(PATIENCE_S), step

    def authorise(self, desired: DesiredModel, stop: threading.Event) -> FetchPlan:
        self._at("authorise")
        return cast("FetchPlan", "plan")

    def make_room(self, chosen: FetchPlan, pinned: Collection[str]) -> None:
        self._at("make_room")

    def missing(self, chosen: FetchPlan) -> tuple[Wanted, ...]:
        return (Wanted("a", "a" * 64, 30, 30), Wanted("b", "b" * 64, 10, 10))

    def partial(self, sha256: str) -> Path:
        return Path(sha256)

    def fetch(
        self,
        wanted: Wanted,
        urls: Sequence[str],
        partial: Path,
        stop: threading.Event,
        *,
        progress: Callable[[int], None] | None = None,
    ) -> None:
        assert progress is not None
        progress(wanted.max_bytes // 2)
        self.reached.setdefault("fetch", threading.Event()).set()
        met = self.meets.get("fetch")
        if isinstance(met, threading.Event):
            assert stop.wait(PATIENCE_S)
            raise Retryable(FailureCode.CANCELED, "stopped")
        if met is not None:
            raise met
        progress(wanted.max_bytes)

    def add(self, sha256: str) -> None:
        self._at("add")

    def prune(self, pinned: Collection[str]) -> None:
        self.pruned.append(pinned)
        self._at("prune")

    def open(self, ref: ModelRef) -> Bundle:
        self._at("open")
        return BUNDLE

    def examine(self, bundle: Bundle) -> None:
        self._at("examine")

    def load(self, lane: str, ref: ModelRef, bundle: Bundle) -> inspect.Loaded:
        self._at("load")
        self._at(f"load {lane}")
        segmenter = Counted(self.faults.pop(0) if self.faults else None)
        self.segmenters.append(segmenter)
        return a_model(2, segmenter)

    def golden(self, bundle: Bundle) -> Sequence[GoldenFrame]:
        self._at("golden")
        picture = np.zeros((SIZE_PX, SIZE_PX, 3), np.uint8)
        return [GoldenFrame((picture,), np.full((SIZE_PX, SIZE_PX), self.golden_value, np.uint8))] * 2

    def has_room(self, bundle: Bundle, lanes: int) -> bool:
        return self.is_roomy


class Bench:
    """A running workshop with two lanes that answer a release at once."""

    def __init__(self) -> None:
        self.world = World()
        self.orders: dict[str, list[LaneOrder]] = {"core-0": [], "core-1": []}
        self.out: set[str] = set()
        self.events: list[Event] = []
        self._told = threading.Condition()
        self.crashed: Exception | None = None
        parts = WorkshopParts(
            trust=cast("Trust", self.world),
            store=cast("Store", self.world),
            fetcher=cast("Fetcher", self.world),
            models=self.world,
            lanes={name: self._send_to(name) for name in self.orders},
            retire=self._retire,
            tell=self._tell,
            is_out=lambda lane: lane in self.out,
        )
        self.shop = Workshop(parts)
        self.stop = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self) -> None:
        """Start it again after a crash, as the runner does."""
        while True:
            try:
                self.shop.run(self.stop)
            except Bug as error:
                self.crashed = error
            else:
                return

    def _send_to(self, name: str) -> Callable[[LaneOrder], None]:
        def send(order: LaneOrder) -> None:
            self.orders[name].append(order)
            if isinstance(order, Release):
                order.done.set()

        return send

    def _retire(self, segmenter: Segmenter) -> None:
        segmenter.close()

    def _tell(self, event: Event) -> None:
        with self._told:
            self.events.append(event)
            self._told.notify_all()

    def outcome(self) -> Event:
        with self._told:
            assert self._told.wait_for(lambda: bool(self.events), PATIENCE_S)
            return self.events.pop(0)

    def settle(self) -> None:
        """Until all that is queued is done."""
        done = threading.Event()
        self.world.reached["prune"] = done
        self.shop.clean_up(())
        assert done.wait(PATIENCE_S)

    def loaded(self) -> None:
        self.shop.load(1, NEW, alone=False)
        assert self.outcome() == Loaded(1)

    def close(self) -> None:
        for met in self.world.meets.values():
            if isinstance(met, threading.Event):
                met.set()
        self.stop.set()
        self.shop.wake()
        self._thread.join(PATIENCE_S)
        assert not self._thread.is_alive()
