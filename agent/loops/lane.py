"""One thread a lane: takes frames of the cameras in turn, looks at them, and hands each result in for its turn."""

import logging
import queue
import threading
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import replace

from agent.core.frame import Frame
from agent.core.result import Judged
from agent.errors import AgentError, Retryable
from agent.loops.generations import Generations
from agent.loops.inspect import CameraPlan, Loaded, Look, StopWatch, look, look_all, sight
from agent.loops.latest import Slots, Taken
from agent.loops.orders import FellBack, LaneOrder, LaneReport
from agent.loops.quarantine import Metered, Standing
from agent.loops.record import LaneParts, Recorder
from agent.loops.shadow import compare
from agent.loops.work import Work
from agent.ports import Segmenter
from schemas.codes import FailureCode

__all__ = ["Lane", "LaneParts"]

log = logging.getLogger(__name__)

_LOOK_AT_STOP_S = 0.25
_MOST_PAUSE_S = 30.0


class Lane:
    """`load` gives the current model, whenever the lane has none. `send` may be called from any thread."""

    def __init__(self, name: str, slots: Slots[Frame], load: Callable[[], Loaded], parts: LaneParts) -> None:
        self._name = name
        self._slots = slots
        self._load = load
        self._parts = parts
        self._recorder = Recorder(parts)
        self._standing = Standing(name, parts.quarantine, parts.stats)
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
                active, is_out = self._models.active, self._standing.is_out
                if self._models.is_released or (is_out and not self._standing.is_due):
                    self._pause(_LOOK_AT_STOP_S, stop)
                elif active is None:
                    self._revive(stop)
                elif is_out:
                    self._try_again(active)
                else:
                    self._take(stop)
        finally:
            self._standing.has_model(is_ready=False)
            self._models.close()

    def _obey(self) -> None:
        """All orders that wait; tell when another model inspects than before."""
        self._ordered.clear()
        before = self._models.active
        while not self._orders.empty():
            self._models.obey(self._orders.get_nowait())
        after = self._models.active
        if after is None and before is not None:
            self._standing.has_model(is_ready=False)
        elif after is not None and (before is None or after.segmenter is not before.segmenter):
            self._begun(after)

    def _revive(self, stop: threading.Event) -> None:
        try:
            loaded = self._load()
        except AgentError as error:
            self._fault(error)
            self._went_out(self._standing.failed(error))
            self._pause(min(_MOST_PAUSE_S, error.delay_s if isinstance(error, Retryable) else _MOST_PAUSE_S), stop)
            return
        self._models.begin(loaded)
        self._begun(loaded)

    def _try_again(self, active: Loaded) -> None:
        """What fails here says nothing of the model, which others inspect with: it is told as the core's matter."""
        why = self._standing.try_again(active)
        if why is None:
            log.info("%s is back", self._name)
            self._tell(active)
        else:
            log.info("%s stays out: %s", self._name, why)

    def _pause(self, most_s: float, stop: threading.Event) -> None:
        """At most so long; an order or the stop ends it."""
        left_s = most_s
        while left_s > 0 and not stop.is_set() and not self._ordered.wait(min(left_s, _LOOK_AT_STOP_S)):
            left_s -= _LOOK_AT_STOP_S

    def _take(self, stop: threading.Event) -> None:
        turns = self._slots.turns
        if not turns.wait_for_room(_LOOK_AT_STOP_S):
            return
        first = self._slots.take(_LOOK_AT_STOP_S)
        if first is None:
            turns.move_on()
            return
        pause_s = 0.0
        with ExitStack() as held:
            taken = [first, *self._slots.take_more(self._room_in_a_call() - 1)]
            for each in taken:
                held.enter_context(each.turn)
            if self._ordered.is_set():
                self._obey()
            if (loaded := self._models.active) is not None:
                pause_s = self._inspect(taken, loaded, stop)
        if pause_s:
            stop.wait(min(pause_s, 1.0))

    def _room_in_a_call(self) -> int:
        """Pictures that go together. While another model stands by or is in the shadow each goes alone: what fails or
        differs must be told of it.
        """
        models = self._models
        if models.active is None or models.active.batcher is None or models.standby or models.shadow:
            return 1
        return models.active.batcher.most

    def _inspect(self, taken: Sequence[Taken[Frame]], loaded: Loaded, stop: threading.Event) -> float:
        """Look and hand in what comes of it; return how long to pause, in s."""
        parts = self._parts
        works = [Work.begin(each, plan, parts) for each in taken if (plan := loaded.plan_for(each.item)) is not None]
        if len(works) > 1:
            works = self._inspect_together(works, loaded, stop)
        return max((self._inspect_alone(work, loaded, stop) for work in works), default=0.0)

    def _inspect_together(self, works: Sequence[Work], loaded: Loaded, stop: threading.Event) -> list[Work]:
        """Pictures of several cameras in as few calls as the model takes. Those without an answer are given back, to be
        tried alone: so one that the model cannot bear costs the others nothing but time.
        """
        metered = Metered(loaded)
        left = {id(work.watch): work for work in works}
        times_ms = []
        try:
            sights = [sight(work.frame, work.plan, work.watch) for work in works]
            for one, seen in look_all(sights, replace(loaded, segmenter=metered)):
                work = left.pop(id(one.watch))
                self._hand_in(work, work.judged(loaded, seen, self._parts), loaded, stop)
                times_ms.append(seen.inference_ms)
        except AgentError as error:
            log.info("%s: no answer to %d pictures together, each goes alone: %s", self._name, len(left), error.text)
        if times_ms:
            self._well(loaded, metered, times_ms, is_compared=True)
        return list(left.values())

    def _inspect_alone(self, work: Work, loaded: Loaded, stop: threading.Event) -> float:
        pause_s, seen, plan = 0.0, None, work.plan
        try:
            loaded, plan, seen = self._look(work.frame, (loaded, plan), work.watch)
            judged = work.judged(loaded, seen, self._parts)
        except AgentError as error:
            loaded = self._models.active or loaded  # the one before may have been asked last, and failed as well
            judged = work.failed(loaded, error, self._parts)
            pause_s = error.delay_s if isinstance(error, Retryable) else 1.0
        self._hand_in(replace(work, plan=plan), judged, loaded, stop)
        if seen is not None and self._models.shadow is not None:
            saw = compare(work.frame, (loaded, seen), self._models.shadow, self._parts.monotonic)
            if saw is not None:
                self._parts.report(saw)
                if saw.agreement is None:
                    self._models.end_shadow()  # one fault decides; starting its child again would hold the lane up
        return pause_s

    def _hand_in(self, work: Work, judged: Judged, loaded: Loaded, stop: threading.Event) -> None:
        record = self._recorder.made(judged, work.plan, loaded.ref.manifest_sha256)
        work.turn.hand_in(lambda: self._recorder.commit(record, stop))

    def _look(self, frame: Frame, by: tuple[Loaded, CameraPlan], watch: StopWatch) -> tuple[Loaded, CameraPlan, Look]:
        """What was seen and by which model, noted for the lane and for its core. While a model stands by, what is slow
        or fails may be the new one, which others judge: no core is compared then.
        """
        is_compared = self._models.standby is None
        metered = Metered(by[0])
        try:
            loaded, plan, seen = self._look_or_fall_back(frame, by, metered, watch)
        except AgentError as error:
            self._fault(error)
            self._went_out(self._standing.failed(error, metered))
            raise
        self._well(loaded, metered, [] if seen.is_misfit else [seen.inference_ms], is_compared=is_compared)
        return loaded, plan, seen

    def _well(self, loaded: Loaded, metered: Metered, times_ms: Sequence[float], *, is_compared: bool) -> None:
        if self._faulty:
            self._tell(loaded)
        self._went_out(self._standing.looked(metered, times_ms, is_compared=is_compared))

    def _look_or_fall_back(
        self, frame: Frame, by: tuple[Loaded, CameraPlan], metered: Metered, watch: StopWatch
    ) -> tuple[Loaded, CameraPlan, Look]:
        """Where a model on probation fails, the one before takes the same frame."""
        loaded, plan = by
        try:
            return loaded, plan, look(frame, replace(loaded, segmenter=metered), plan, watch)
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

    def _fault(self, error: AgentError) -> None:
        self._faulty = True
        active = self._models.active
        sha256 = active.ref.manifest_sha256 if active else ""
        self._parts.report(LaneReport(self._name, error.code, error.text, manifest_sha256=sha256))

    def _went_out(self, why: str | None) -> None:
        """Told without a model: it is not to blame."""
        if why is not None:
            log.warning("%s is taken out: %s", self._name, why)
            self._parts.report(LaneReport(self._name, FailureCode.NPU_CORE_OUT, why))

    def _begun(self, loaded: Loaded) -> None:
        """Another model inspects, or will when the core is back: until then the lane does not say that it works."""
        self._standing.has_model(is_ready=True)
        if not self._standing.is_out:
            self._tell(loaded)

    def _tell(self, loaded: Loaded) -> None:
        self._faulty = False
        self._parts.report(LaneReport(self._name, None, model=loaded.model, manifest_sha256=loaded.ref.manifest_sha256))
