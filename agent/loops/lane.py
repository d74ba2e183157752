"""One thread a lane: takes the latest frame of its cameras in turn and turns it into a committed result."""

import logging
import queue
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime

from agent.core.frame import Frame
from agent.core.outgoing import Outgoing
from agent.core.result import Fitted, Judged, draft, fitted
from agent.errors import AgentError, Retryable
from agent.loops.exhibits import Exhibits
from agent.loops.generations import Generations
from agent.loops.inspect import CameraPlan, Loaded, Look, StopWatch, look
from agent.loops.latest import Slots
from agent.loops.ledger import Ledger
from agent.loops.orders import FellBack, LaneItem, LaneOrder, LaneReport, SpoolState
from agent.loops.outbox import Outbox
from agent.loops.shadow import compare
from agent.loops.stats import Stats
from agent.ports import Segmenter
from schemas.result import Fault, Result

log = logging.getLogger(__name__)

_LOOK_AT_STOP_S = 0.25
_MOST_PAUSE_S = 30.0


@dataclass(frozen=True, slots=True)
class LaneParts:
    """What a lane works with. `witness` sees each committed result with its frame and must be quick; `retire` ends a
    segmenter that the lane no longer needs, without holding the lane up.
    """

    outbox: Outbox
    stats: Stats
    ledger: Ledger
    report: Callable[[LaneItem], None]
    exhibits: Exhibits
    witness: Callable[[Frame, Result], None]
    retire: Callable[[Segmenter], None]
    now: Callable[[], datetime]
    monotonic: Callable[[], float]
    new_id: Callable[[], str]


class Lane:
    """`load` gives the current model, whenever the lane has none. `send` may be called from any thread."""

    def __init__(self, name: str, slots: Slots[Frame], load: Callable[[], Loaded], parts: LaneParts) -> None:
        self._name = name
        self._slots = slots
        self._load = load
        self._parts = parts
        self._orders: queue.SimpleQueue[LaneOrder] = queue.SimpleQueue()
        self._ordered = threading.Event()
        self._models = Generations(parts.retire)
        self._faulty = False

    def send(self, order: LaneOrder) -> None:
        """Obeyed before the next frame."""
        self._orders.put(order)
        self._ordered.set()
        self._slots.nudge()

    def segmenters(self) -> list[Segmenter]:
        """For telemetry: read only, may be closed at any moment."""
        return self._models.segmenters()

    def run(self, stop: threading.Event) -> None:
        try:
            while not stop.is_set():
                self._obey()
                if self._models.active is not None:
                    taken = self._slots.take(_LOOK_AT_STOP_S)
                    if taken is not None and self._ordered.is_set():
                        self._obey()
                    if taken is not None:
                        self._inspect(taken[1], stop)
                elif self._models.is_released:
                    self._pause(_LOOK_AT_STOP_S, stop)
                else:
                    self._revive(stop)
        finally:
            self._models.close()

    def _obey(self) -> None:
        """All orders that wait; tell when another model inspects than before."""
        self._ordered.clear()
        before = self._models.active
        while not self._orders.empty():
            self._models.obey(self._orders.get_nowait())
        after = self._models.active
        if after is not None and (before is None or after.segmenter is not before.segmenter):
            self._tell(after)

    def _revive(self, stop: threading.Event) -> None:
        try:
            loaded = self._load()
        except AgentError as error:
            self._fault(error)
            self._pause(min(_MOST_PAUSE_S, error.delay_s if isinstance(error, Retryable) else _MOST_PAUSE_S), stop)
            return
        self._models.begin(loaded)
        self._tell(loaded)

    def _pause(self, most_s: float, stop: threading.Event) -> None:
        """At most so long; an order or the stop ends it."""
        left_s = most_s
        while left_s > 0 and not stop.is_set() and not self._ordered.wait(min(left_s, _LOOK_AT_STOP_S)):
            left_s -= _LOOK_AT_STOP_S

    def _inspect(self, frame: Frame, stop: threading.Event) -> None:
        parts, loaded = self._parts, self._models.active
        plan = loaded.plan_for(frame) if loaded else None
        if loaded is None or plan is None:
            return
        started_at, began_s = parts.now(), parts.monotonic()
        watch = StopWatch(parts.monotonic, _waited(frame, began_s))
        judged = Judged(frame, loaded.model, started_at, started_at, 0.0, watch.stages)
        pause_s, seen = 0.0, None
        try:
            loaded, plan, seen = self._look(frame, loaded, plan, watch)
            judged = _judged(judged, loaded, seen)
            self._well(loaded)
        except AgentError as error:
            loaded = self._models.active or loaded  # the one before may have been asked last, and failed as well
            judged = replace(judged, model=loaded.model, fault=Fault(code=error.code, text=error.text[:2000]))
            self._fault(error)
            pause_s = error.delay_s if isinstance(error, Retryable) else 1.0
        processing_ms = (parts.monotonic() - began_s) * 1e3
        judged = replace(judged, ended_at=parts.now(), processing_ms=processing_ms)
        result_id = parts.new_id()
        judged = replace(judged, evidence=parts.exhibits.keep(judged, plan.origin, result_id))
        kept = fitted(draft(judged, plan.origin, result_id, parts.stats.clock))
        result = kept.result
        if self._commit(kept, plan.topic, watch.stages, stop):
            parts.ledger.recorded(loaded.ref.manifest_sha256, result.result_evaluation, processing_ms)
            parts.witness(frame, result)
        if seen is not None and self._models.shadow is not None:
            saw = compare(frame, (loaded, seen), self._models.shadow, parts.monotonic)
            parts.report(saw)
            if saw.agreement is None:
                self._models.end_shadow()  # one fault decides, and to start its child again would hold the lane up
        if pause_s:
            stop.wait(min(pause_s, 1.0))

    def _look(
        self, frame: Frame, loaded: Loaded, plan: CameraPlan, watch: StopWatch
    ) -> tuple[Loaded, CameraPlan, Look]:
        """What was seen, and by which model: where one on probation fails, the one before takes the same frame."""
        try:
            return loaded, plan, look(frame, loaded, plan, watch)
        except AgentError as error:
            before = self._models.fall_back()
            if before is None:
                raise
            self._parts.report(FellBack(self._name, loaded.ref.manifest_sha256, error.code, error.text))
            self._tell(before)
            plan_before = before.plan_for(frame)
            if plan_before is None:
                raise
            return before, plan_before, look(frame, before, plan_before, watch)

    def _commit(self, kept: Fitted, topic: str, stages: Mapping[str, float], stop: threading.Event) -> bool:
        """Wait until the spool takes it: frames are dropped meanwhile, results are not."""
        parts, result = self._parts, kept.result
        blocked = False
        began_s = parts.monotonic()
        while True:
            last_try = stop.is_set()
            try:
                parts.outbox.result(lambda spot: Outgoing(topic, kept.placed(spot.boot_id, spot.sequence_number)))
                break
            except Retryable as error:
                if last_try:
                    log.error("result %s of frame %s is not kept: %s", result.result_id, result.image.id, error.text)
                    return False
                parts.report(SpoolState(error.code, error.text))
                blocked = True
                stop.wait(error.delay_s)
        if blocked:
            parts.report(SpoolState(None))
        spool_ms = (parts.monotonic() - began_s) * 1e3
        total_ms = result.processing_times.processing_duration + spool_ms
        parts.stats.recorded(
            result.station.camera, result.result_evaluation, {**stages, "spool": spool_ms, "total": total_ms}
        )
        return True

    def _fault(self, error: AgentError) -> None:
        self._faulty = True
        active = self._models.active
        sha256 = active.ref.manifest_sha256 if active else ""
        self._parts.report(LaneReport(self._name, error.code, error.text, manifest_sha256=sha256))

    def _well(self, loaded: Loaded) -> None:
        if self._faulty:
            self._tell(loaded)

    def _tell(self, loaded: Loaded) -> None:
        self._faulty = False
        self._parts.report(LaneReport(self._name, None, model=loaded.model, manifest_sha256=loaded.ref.manifest_sha256))


def _waited(frame: Frame, began_s: float) -> dict[str, float]:
    return {"acquire": frame.acquisition_ms, "wait": (began_s - frame.captured_mono_s) * 1e3}


def _judged(judged: Judged, loaded: Loaded, seen: Look) -> Judged:
    return replace(
        judged,
        model=loaded.model,
        evaluation=seen.evaluation,
        reasons=seen.reasons,
        found=seen.found,
        quality=seen.quality,
    )
