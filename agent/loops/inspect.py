"""One thread a lane: takes the latest frame of its cameras in turn and turns it into a committed result."""

import logging
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime

from agent.core import vision
from agent.core.frame import Frame
from agent.core.outgoing import Outgoing, Place
from agent.core.result import Judged, Origin, draft, fit, place
from agent.core.verdict import judge
from agent.errors import AgentError, Permanent, Retryable
from agent.loops.exhibits import Exhibits
from agent.loops.latest import Slots
from agent.loops.outbox import Outbox
from agent.loops.stats import Stats
from agent.ports import Segmenter
from schemas.codes import FailureCode
from schemas.recipe import Evaluation, Recipe
from schemas.result import Fault, Quality, QualityStatus, Result
from schemas.status import ModelInfo

log = logging.getLogger(__name__)

_LOOK_AT_STOP_S = 0.25
_MOST_PAUSE_S = 30.0


@dataclass(frozen=True, slots=True)
class CameraPlan:
    """How the pictures of one camera are looked at with the present model."""

    view: vision.View
    recipe: Recipe
    origin: Origin
    topic: str


@dataclass(frozen=True, slots=True)
class Loaded:
    """A model that is ready on one core."""

    segmenter: Segmenter
    model: ModelInfo
    plans: Mapping[str, CameraPlan]


@dataclass(frozen=True, slots=True)
class LaneReport:
    """A fault of the lane (code and text), or that it works again (code is None) with this model."""

    lane: str
    code: FailureCode | None
    text: str = ""
    model: ModelInfo | None = None


@dataclass(frozen=True, slots=True)
class SpoolState:
    """The spool takes no results (code and text), or takes them again (code is None)."""

    code: FailureCode | None
    text: str = ""


@dataclass(frozen=True, slots=True)
class LaneParts:
    """What a lane works with."""

    outbox: Outbox
    stats: Stats
    report: Callable[[LaneReport | SpoolState], None]
    exhibits: Exhibits
    now: Callable[[], datetime]
    monotonic: Callable[[], float]
    new_id: Callable[[], str]


class Lane:
    """Owns one segmenter, which `load` gives anew whenever the lane starts or a load has failed."""

    def __init__(self, name: str, slots: Slots[Frame], load: Callable[[], Loaded], parts: LaneParts) -> None:
        self._name = name
        self._slots = slots
        self._load = load
        self._parts = parts
        self._faulty = False
        self._loaded: Loaded | None = None

    @property
    def segmenter(self) -> Segmenter | None:
        """For telemetry: read only, may be closed at any moment."""
        loaded = self._loaded
        return loaded.segmenter if loaded else None

    def run(self, stop: threading.Event) -> None:
        while not stop.is_set():
            try:
                self._loaded = self._load()
            except AgentError as error:
                self._fault(error)
                stop.wait(min(_MOST_PAUSE_S, error.delay_s if isinstance(error, Retryable) else _MOST_PAUSE_S))
                continue
            self._faulty = False
            self._parts.report(LaneReport(self._name, None, model=self._loaded.model))
            try:
                self._serve(self._loaded, stop)
            finally:
                loaded, self._loaded = self._loaded, None
                loaded.segmenter.close()

    def _serve(self, loaded: Loaded, stop: threading.Event) -> None:
        while not stop.is_set():
            taken = self._slots.take(_LOOK_AT_STOP_S)
            if taken is not None:
                self._inspect(*taken, loaded, stop)

    def _inspect(self, camera: str, frame: Frame, loaded: Loaded, stop: threading.Event) -> None:
        parts, plan = self._parts, loaded.plans[camera]
        started_at, began_s = parts.now(), parts.monotonic()
        stages = {"acquire": frame.acquisition_ms, "wait": (began_s - frame.captured_mono_s) * 1e3}
        judged = Judged(frame, loaded.model, started_at, started_at, 0.0, stages)
        pause_s = 0.0
        try:
            judged = self._look(judged, plan, loaded.segmenter, stages)
            self._well(loaded.model)
        except AgentError as error:
            judged = replace(judged, fault=Fault(code=error.code, text=error.text[:2000]))
            self._fault(error)
            pause_s = error.delay_s if isinstance(error, Retryable) else 1.0
        processing_ms = (parts.monotonic() - began_s) * 1e3
        judged = replace(judged, ended_at=parts.now(), processing_ms=processing_ms)
        result_id = parts.new_id()
        judged = replace(judged, evidence=parts.exhibits.keep(judged, plan.origin, result_id))
        self._commit(draft(judged, plan.origin, result_id, parts.stats.clock), plan.topic, stages, stop)
        if pause_s:
            stop.wait(min(pause_s, 1.0))

    def _look(self, judged: Judged, plan: CameraPlan, segmenter: Segmenter, stages: dict[str, float]) -> Judged:
        watch = _StopWatch(self._parts.monotonic, stages)
        try:
            prepared = vision.prepare(judged.frame.picture, plan.view)
        except ValueError as error:
            raise Permanent(FailureCode.CONFIG_INVALID, f"camera {judged.frame.camera}: {error}") from error
        watch.lap("prepare")
        stitch = vision.Stitch(prepared.placement)
        for tile, inputs in enumerate(prepared.inputs):
            segmentation = segmenter.segment(inputs)
            stitch.add(tile, segmentation.class_map, segmentation.score)
            stages["inference"] = stages.get("inference", 0.0) + segmentation.inference_ms
        watch.lap("segment")
        found = vision.regions(*stitch.result(), prepared.placement, plan.view)
        watch.lap("regions")
        measures = vision.quality(prepared)
        verdict = judge(found, plan.recipe, measures)
        watch.lap("judge")
        poor = [reason for reason in verdict.reasons if verdict.evaluation is Evaluation.NOT_DECIDABLE]
        return replace(
            judged,
            evaluation=verdict.evaluation,
            reasons=verdict.reasons,
            found=found,
            quality=Quality(status=QualityStatus.POOR if poor else QualityStatus.GOOD, reasons=poor),
        )

    def _commit(self, result: Result, topic: str, stages: Mapping[str, float], stop: threading.Event) -> None:
        """Wait until the spool takes it: frames are dropped meanwhile, results are not."""
        parts = self._parts
        result = fit(result)
        blocked = False
        began_s = parts.monotonic()
        while True:
            last_try = stop.is_set()
            try:
                parts.outbox.result(lambda spot: Outgoing(topic, _placed(result, spot)))
                break
            except Retryable as error:
                if last_try:
                    log.error("result %s of frame %s is not kept: %s", result.result_id, result.image.id, error.text)
                    return
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

    def _fault(self, error: AgentError) -> None:
        self._faulty = True
        self._parts.report(LaneReport(self._name, error.code, error.text))

    def _well(self, model: ModelInfo) -> None:
        if self._faulty:
            self._faulty = False
            self._parts.report(LaneReport(self._name, None, model=model))


class _StopWatch:
    def __init__(self, monotonic: Callable[[], float], stages: dict[str, float]) -> None:
        self._monotonic = monotonic
        self._stages = stages
        self._last_s = monotonic()

    def lap(self, stage: str) -> None:
        now_s = self._monotonic()
        self._stages[stage] = (now_s - self._last_s) * 1e3
        self._last_s = now_s


def _placed(result: Result, spot: Place) -> bytes:
    return place(result, spot.boot_id, spot.sequence_number).to_json()
