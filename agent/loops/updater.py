"""The update of the model: holds the machine's state, writes the journal, has effects done, takes their outcomes.

Owned by control. The order of things is that of `agent.core.update`: step, journal, effects.
"""

import logging
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime

from agent.core import update
from agent.core.health import Healthy, Shadowing, Undecided, Unhealthy, probation, shadow
from agent.core.outgoing import Outgoing
from agent.core.update import Effect, Event, ModelRef, Update
from agent.loops.desk import Desk
from agent.loops.ledger import Ledger
from agent.loops.orders import Commit, FellBack, LaneOrder, LaneReport, Restore, ShadowSaw
from agent.loops.update_journal import UpdateJournal
from agent.loops.workshop import Workshop
from agent.ports import Journal
from schemas.codes import FailureCode
from schemas.command import Failure
from schemas.state import DesiredModel, Phase, PhaseTime, ReportedModel
from schemas.topics import Topics

log = logging.getLogger(__name__)

SOURCE = "update"
_UNUSABLE = frozenset(
    {
        FailureCode.MODEL_MISSING,
        FailureCode.MODEL_INVALID,
        FailureCode.MODEL_WRONG_TARGET,
        FailureCode.MODEL_TOO_NEW,
        FailureCode.MODEL_DIGEST_MISMATCH,
        FailureCode.RUNTIME_TOO_OLD,
        FailureCode.SHAPE_MISMATCH,
    }
)
"""With these the current model will never load again as it is."""
_PROGRESS_STEP = 0.05


@dataclass(frozen=True, slots=True)
class UpdaterParts:
    """`send` reaches every lane. `installed` is the model that the settings file names, `has` tells whether the files
    of another are there. `chance` is uniform in [0, 1).
    """

    journal: Journal
    workshop: Workshop
    ledger: Ledger
    desk: Desk
    send: Callable[[LaneOrder], None]
    publish: Callable[[Outgoing], None]
    topics: Topics
    installed: ModelRef
    has: Callable[[ModelRef], bool]
    lot_is_open: Callable[[], bool]
    now: Callable[[], datetime]
    monotonic: Callable[[], float]
    chance: Callable[[], float]
    settle_s: float = 600.0
    compare_within_s: float = 60.0
    """How long a flip waits for results of the old model to compare with."""


class Updater:
    """`boot` before anything runs, `begin` once lanes run; then `wanted`, `happened`, the lanes' items, and `tick`."""

    def __init__(self, parts: UpdaterParts) -> None:
        self._parts = parts
        self._state = update.first(parts.installed)
        self._unwritten: list[Event] = []
        self._records = UpdateJournal(parts.journal, parts.desk)
        self._boot_effects: tuple[Effect, ...] = ()
        self._waits = False
        self._due_s: float | None = None
        self._flip_by_s: float | None = None
        self._settling_since_s = parts.monotonic()
        self._shadowing = Shadowing()
        self._told_progress: float | None = None
        self._phases: list[PhaseTime] = []

    @property
    def current(self) -> ModelRef:
        """What a lane without a model is to load. Any thread may ask."""
        return self._state.current

    @property
    def state(self) -> Update:
        return self._state

    def boot(self, *, is_clean: bool) -> None:
        """Read the journal and decide what inspects, without broker or network. Never raises AgentError: a board whose
        journal is lost goes on with the installed model.
        """
        state = self._records.read(self._state)
        if not any(self._is_there(ref) for ref in (state.current, state.last_good)):
            state = self._on_installed(state, "neither the current model nor the last good one is on the disk")
        self._state, self._boot_effects = update.step(state, update.Booted(is_clean))
        if self._state.last_error is not None and self._state.last_error != state.last_error:
            self._parts.desk.happened(self._state.last_error.code, SOURCE, self._state.last_error.text)
        self._records.write(self._state)

    def begin(self) -> None:
        """Run the effects of the boot."""
        effects, self._boot_effects = self._boot_effects, ()
        self._perform(effects)

    def wanted(self, desired: DesiredModel) -> None:
        """`desired/model` has come, perhaps again."""
        state = self._state
        if desired.generation < state.generation:
            text = f"desired/model of generation {desired.generation}, {state.generation} is known"
            self._parts.desk.happened(FailureCode.STALE_GENERATION, SOURCE, text)
        elif desired.generation == state.generation and desired != state.desired:
            text = f"desired/model differs from what came before under its generation, {desired.generation}"
            self._parts.desk.happened(FailureCode.STALE_GENERATION, SOURCE, text)
        self.happened(update.Desired(desired))

    def cancel(self, generation: int) -> bool:
        """False where there is nothing of this generation to cancel."""
        before = self._state
        for each in self._unwritten:
            if isinstance(each, update.Desired) and each.desired.generation == generation:
                self._unwritten.append(update.Canceled(generation))
                return True
        self.happened(update.Canceled(generation))
        return self._state is not before

    def happened(self, event: Event) -> None:
        """One step. What cannot be journalled for want of disk is tried again at each tick, but for going back."""
        later, effects = update.step(self._state, event)
        if later == self._state and not effects:
            return
        if not self._records.write(later) and not update.SAFE_UNJOURNALLED.issuperset(effects):
            # The latest of a kind is enough, and a disk may be full for days.
            self._unwritten = [each for each in self._unwritten if type(each) is not type(event)] + [event]
            return
        before, self._state = self._state, later
        self._note(before)
        self._perform(effects)
        self.report()

    def lane_reported(self, report: LaneReport) -> None:
        """A lane works, or does not."""
        state = self._state
        if report.code is None:
            if report.manifest_sha256 == state.current.manifest_sha256:
                self._settling_since_s = self._parts.monotonic()
            return
        self._settling_since_s = self._parts.monotonic()
        candidate = state.candidate
        if state.phase is Phase.PROBATION and candidate and candidate.manifest_sha256 == report.manifest_sha256:
            self._fail(report.code, report.text)
        elif report.code in _UNUSABLE and not report.manifest_sha256 and not state.alone:
            self._unusable(report.code, report.text)

    def fell_back(self, event: FellBack) -> None:
        candidate = self._state.candidate
        if self._state.phase is Phase.PROBATION and candidate and candidate.manifest_sha256 == event.manifest_sha256:
            self._fail(FailureCode.PROBATION_FAILED, f"{event.lane}: {event.code.value}: {event.text}")

    def lane_crashed(self, text: str) -> None:
        """A lane's thread has ended and been started again: its models are gone."""
        if self._state.phase in {Phase.SHADOW, Phase.PROBATION}:
            self._fail(FailureCode.INTERNAL, text)

    def shadow_saw(self, saw: ShadowSaw) -> None:
        state = self._state
        plan = state.desired.shadow if state.desired else None
        candidate = state.candidate
        if state.phase is not Phase.SHADOW or plan is None or candidate is None:
            return
        if candidate.manifest_sha256 != saw.manifest_sha256:
            return
        if saw.agreement is None:
            self._shadowing = self._shadowing.faulted()
        else:
            self._shadowing = self._shadowing.saw(
                saw.agreement, is_same_verdict=saw.is_same_verdict, old_ms=saw.old_ms, new_ms=saw.new_ms
            )
        match shadow(plan, self._shadowing):
            case Healthy(measured):
                self.happened(update.Shadowed(state.work, measured))
            case Unhealthy(code, text, measured):
                self.happened(update.Failed(state.work, measured, code, f"{text} {saw.text}".strip()))
            case Undecided():
                return

    def recorded(self) -> None:
        """A result has been committed while the ledger was watched."""
        if self._flip_by_s is not None:
            self._flip_when_comparable()
        elif self._state.phase is Phase.PROBATION:
            self._judge_probation()

    def tick(self) -> None:
        """Waits, pauses, the journal that could not be written, the model that has settled, the progress."""
        parts, state = self._parts, self._state
        self._catch_up()
        if self._waits and state.desired is not None:
            if update.is_due(state.desired.defer, parts.now(), lot_is_open=parts.lot_is_open()):
                self._waits = False
                self.happened(update.Due(state.work))
        elif self._due_s is not None and parts.monotonic() >= self._due_s:
            self._due_s = None
            self.happened(update.Due(state.work))
        if self._flip_by_s is not None:
            self._flip_when_comparable()
        is_news = state.current != state.last_good or state.unclean_starts > 0
        if is_news and parts.monotonic() - self._settling_since_s >= parts.settle_s:
            sha256 = state.current.manifest_sha256
            if parts.ledger.recent(sha256).results:
                self.happened(update.Settled(sha256))
        progress = parts.workshop.progress
        if progress is not None and abs(progress - (self._told_progress or 0.0)) >= _PROGRESS_STEP:
            self.report()

    def report(self) -> None:
        """`reported/model`, as it is now."""
        parts = self._parts
        self._told_progress = parts.workshop.progress
        message: ReportedModel = update.report(self._state, parts.now(), self._told_progress)
        message = message.model_copy(update={"phases": list(self._phases)})
        parts.publish(Outgoing(parts.topics.reported("model"), message.to_json(), retain=True))

    def _perform(self, effects: tuple[Effect, ...]) -> None:
        for effect in effects:
            self._one(effect)

    def _one(self, effect: Effect) -> None:
        state, shop = self._state, self._parts.workshop
        work = state.work
        desired, candidate = state.desired, state.candidate
        self._waits, self._due_s, self._flip_by_s = False, None, None
        self._parts.ledger.is_watched = False
        match effect:
            case Effect.WAIT:
                self._waits = True
            case Effect.PAUSE:
                self._due_s = self._parts.monotonic() + update.pause_s(state) * (0.75 + 0.5 * self._parts.chance())
            case Effect.FETCH if desired:
                shop.fetch(work, desired, update.kept(state))
            case Effect.VERIFY if candidate:
                shop.verify(work, candidate)
            case Effect.LOAD | Effect.LOAD_ALONE if candidate:
                shop.load(work, candidate, alone=effect is Effect.LOAD_ALONE)
            case Effect.SELF_TEST:
                shop.self_test(work)
            case Effect.START_SHADOW:
                self._shadowing = Shadowing()
                shop.start_shadow(work)
            case Effect.FLIP:
                self._flip_by_s = self._parts.monotonic() + self._parts.compare_within_s
                self._parts.ledger.is_watched = True
                self._flip_when_comparable()
            case _:
                self._undo_or_keep(effect)

    def _undo_or_keep(self, effect: Effect) -> None:
        parts, state = self._parts, self._state
        kept = update.kept(state)
        if effect is Effect.COMMIT:
            parts.send(Commit(state.current.manifest_sha256))
            self._settling_since_s = parts.monotonic()
        else:
            parts.workshop.abandon()
        if effect is Effect.RESTORE:
            parts.send(Restore(state.work, state.current.manifest_sha256))
        if state.candidate is None:
            parts.workshop.clean_up(kept)
            parts.ledger.keep(kept)

    def _flip_when_comparable(self) -> None:
        """The old model's results are the measure of the new one's: let there be enough of them, within reason."""
        parts, state = self._parts, self._state
        if state.candidate is None or self._flip_by_s is None:
            return
        old = parts.ledger.recent(state.current.manifest_sha256)
        if old.is_enough or state.alone or parts.monotonic() >= self._flip_by_s:
            self._flip_by_s = None
            parts.ledger.begin(state.candidate.manifest_sha256)
            parts.ledger.is_watched = True
            parts.workshop.flip(state.work)

    def _judge_probation(self) -> None:
        state, ledger = self._state, self._parts.ledger
        if state.candidate is None or state.desired is None:
            return
        old = ledger.recent(state.current.manifest_sha256)
        new = ledger.whole(state.candidate.manifest_sha256)
        match probation(state.desired.probation, old, new):
            case Healthy(measured):
                self.happened(update.PassedProbation(state.work, measured))
            case Unhealthy(code, text, measured):
                self.happened(update.Failed(state.work, measured, code, text))
            case Undecided():
                return

    def _fail(self, code: FailureCode, text: str) -> None:
        self.happened(update.Failed(self._state.work, code=code, text=text))

    def _unusable(self, code: FailureCode, text: str) -> None:
        state = self._state
        if state.current != state.last_good:
            self.happened(update.Unusable(state.current.manifest_sha256, code, text))
        elif state.current != self._parts.installed:
            self._state = self._on_installed(state, text)
            self._records.write(self._state)
            self._parts.send(Restore(self._state.work, self._state.current.manifest_sha256))
            self.report()

    def _is_there(self, ref: ModelRef) -> bool:
        return ref == self._parts.installed or self._parts.has(ref)

    def _on_installed(self, state: Update, text: str) -> Update:
        installed = self._parts.installed
        text = f"back to the installed {installed.name} {installed.version}: {text}"
        self._parts.desk.happened(FailureCode.MODEL_MISSING, SOURCE, text)
        failure = Failure(code=FailureCode.MODEL_MISSING, text=text[:500])
        return replace(state, current=installed, last_good=installed, last_error=failure)

    def _catch_up(self) -> None:
        if not self._records.write(self._state):
            return
        waiting, self._unwritten = self._unwritten, []
        for event in waiting:
            self.happened(event)

    def _note(self, before: Update) -> None:
        """The times of the phases, for people who wonder what takes so long."""
        state = self._state
        if state.generation != before.generation:
            self._phases = []
        if state.phase is not before.phase or state.generation != before.generation:
            log.info("update %d: %s", state.generation, state.phase.value)
            self._phases = [*self._phases, PhaseTime(phase=state.phase, time=self._parts.now())][-32:]
