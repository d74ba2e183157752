"""From a judged picture to the message `rkfleet.result/1`. Pure."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from agent.core.frame import Frame, Order
from agent.core.vision import Found, Region
from schemas.base import Id
from schemas.manifest import DefectClass
from schemas.recipe import Evaluation
from schemas.result import (
    Box,
    Clock,
    Defect,
    Evidence,
    Fault,
    ImageInfo,
    ModelInput,
    ProcessingTimes,
    Quality,
    QualityStatus,
    Result,
    ResultState,
    Rle,
    Station,
    Summary,
)
from schemas.status import ModelInfo

MAX_INLINE_BYTES = 16_384
NOTHING_FOUND = Found()
_NO_ORDER = Order("")
UNKNOWN_QUALITY = Quality(status=QualityStatus.UNKNOWN)


@dataclass(frozen=True, slots=True)
class Origin:
    """What stays the same for all results of one camera."""

    station: Station
    recipe_id: Id
    external_recipe_id: Id | None
    is_simulated: bool
    pixel_size_mm: float | None
    classes: Sequence[DefectClass]


@dataclass(frozen=True, slots=True)
class Judged:
    """What the inspection of one frame came to. Durations in ms; `fault` set means that nothing was judged."""

    frame: Frame
    model: ModelInfo
    started_at: datetime
    ended_at: datetime
    processing_ms: float
    stages_ms: Mapping[str, float]
    evaluation: Evaluation = Evaluation.UNDEFINED
    reasons: Sequence[str] = ()
    found: Found = NOTHING_FOUND
    quality: Quality = UNKNOWN_QUALITY
    fault: Fault | None = None
    evidence: Sequence[Evidence] = ()
    model_input: ModelInput | None = None


def draft(judged: Judged, origin: Origin, result_id: str, clock: Clock) -> Result:
    """The result with a placeholder for its place in the sequence; `Fitted.placed` fills it in."""
    frame = judged.frame
    order = frame.order or _NO_ORDER
    frame_hw = (frame.picture.height_px, frame.picture.width_px)
    defects = [_defect(n, region, origin, frame_hw) for n, region in enumerate(judged.found.regions, start=1)]
    return Result(
        result_id=result_id,
        job_id=order.job_id or None,
        part_id=order.part_id,
        product_id=order.product_id,
        lot_id=order.lot_id,
        work_order_id=order.work_order_id,
        station=origin.station,
        external_recipe_id=origin.external_recipe_id,
        internal_recipe_id=origin.recipe_id,
        is_simulated=origin.is_simulated,
        creation_time=judged.ended_at,
        boot_id="-",
        sequence_number=1,
        result_state=ResultState.FAILED if judged.fault else ResultState.COMPLETED,
        result_evaluation=judged.evaluation,
        reasons=list(judged.reasons),
        fault=judged.fault,
        processing_times=ProcessingTimes(
            start_time=judged.started_at,
            end_time=judged.ended_at,
            acquisition_duration=round(frame.acquisition_ms, 3),
            processing_duration=round(judged.processing_ms, 3),
            stages={name: round(value, 3) for name, value in judged.stages_ms.items()},
        ),
        model=judged.model,
        image=ImageInfo(
            id=f"{frame.camera}.{frame.seq}.{frame.captured_at:%Y%m%dT%H%M%S%f}",
            width=frame_hw[1],
            height=frame_hw[0],
            frame_id=frame.seq,
            capture_time=frame.captured_at,
            pixel_size_mm=origin.pixel_size_mm,
            model_input=judged.model_input,
        ),
        defects=defects,
        summary=Summary(
            defect_count=len(defects) + judged.found.omitted,
            listed_count=len(defects),
            max_score=max((defect.score for defect in defects), default=0.0),
            total_area_px=sum(defect.area_px for defect in defects),
        ),
        quality=judged.quality,
        clock=clock,
        evidence=list(judged.evidence),
    )


@dataclass(frozen=True, slots=True)
class Fitted:
    """A result that is small enough, written once: whoever commits it holds a lock, and only fills in its place."""

    result: Result
    head: bytes
    """Its JSON as far as the place in the sequence; `tail` is the rest."""
    tail: bytes

    def placed(self, boot_id: Id, sequence_number: int) -> bytes:
        """The JSON of the result with this place."""
        return self.head + _place_json(boot_id, sequence_number) + self.tail


def fitted(result: Result, max_bytes: int = MAX_INLINE_BYTES) -> Fitted:
    """Keep the message small: masks go first, then outlines, then the lesser half of the defects until it fits.

    `summary` keeps counting all of them; `isPartial` says that something was left out of the list.
    """
    written = result.to_json()
    if len(written) > max_bytes:
        result = _with(result, [defect.model_copy(update={"rle": None}) for defect in result.defects])
        written = result.to_json()
    if len(written) > max_bytes:
        result = _with(result, [defect.model_copy(update={"polygon": []}) for defect in result.defects])
        written = result.to_json()
    while len(written) > max_bytes and result.defects:
        result = _with(result, result.defects[: len(result.defects) // 2]).model_copy(update={"is_partial": True})
        written = result.to_json()
    # No text can hold this by chance: its quotes would be escaped. Nothing before it has fields of these names.
    head, _, tail = written.partition(_place_json(result.boot_id, result.sequence_number))
    return Fitted(result, head, tail)


def _place_json(boot_id: Id, sequence_number: int) -> bytes:
    """As `Result` writes these two fields, which stand side by side."""
    return b'"bootId":%b,"sequenceNumber":%d' % (json.dumps(boot_id).encode(), sequence_number)


def _with(result: Result, defects: list[Defect]) -> Result:
    summary = result.summary.model_copy(update={"listed_count": len(defects)})
    return result.model_copy(update={"defects": defects, "summary": summary})


def _defect(number: int, region: Region, origin: Origin, frame_hw: tuple[int, int]) -> Defect:
    x, y, width, height = region.bbox
    pixel_mm = origin.pixel_size_mm
    return Defect(
        defect_id=number,
        class_id=region.class_id,
        class_name=region.class_name,
        severity=origin.classes[region.class_id].severity,
        score=round(region.score, 4),
        area_px=region.area_px,
        area_mm2=None if pixel_mm is None else round(region.area_px * pixel_mm**2, 6),
        bbox=Box(x=x, y=y, width=width, height=height),
        polygon=list(region.polygon),
        rle=Rle(size=frame_hw, counts=region.rle),
    )
