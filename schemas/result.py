"""`result/{camera}`: one inspection, in the words of OPC 40100-1 (machine vision)."""

from enum import IntEnum, StrEnum
from typing import Literal

from pydantic import Field

from schemas.base import Id, Sha256, Text, UtcTime, Wire
from schemas.codes import FailureCode
from schemas.manifest import Severity
from schemas.recipe import Evaluation
from schemas.status import Location, ModelInfo


class ResultState(IntEnum):
    UNDEFINED = 0
    COMPLETED = 1
    PROCESSING = 2
    ABORTED = 3
    FAILED = 4


class Station(Location):
    camera: Id


class ProcessingTimes(Wire):
    """Durations in ms. `stages` has acquire, wait, prepare, segment, inference, regions, judge; align where the
    model takes a reference, refine where it has a crf.
    """

    start_time: UtcTime
    end_time: UtcTime
    acquisition_duration: float = Field(ge=0)
    processing_duration: float = Field(ge=0)
    stages: dict[str, float]


class ModelInput(Wire):
    """What the model was given: (width, height) of its input in pixels, of each tile where the picture is tiled.
    `complexity`, 0 to 1, is the share of the picture that is structure, where it chose this size among several.
    """

    width: int = Field(gt=0)
    height: int = Field(gt=0)
    complexity: float | None = Field(default=None, ge=0, le=1)


class ImageInfo(Wire):
    """`model_input` is None where nothing was judged."""

    id: Id
    width: int = Field(gt=0)
    height: int = Field(gt=0)
    frame_id: int = Field(ge=0)
    capture_time: UtcTime
    pixel_size_mm: float | None = Field(default=None, gt=0)
    sha256: Sha256 | None = None
    model_input: ModelInput | None = None


class Box(Wire):
    """Pixels of the camera's picture; x and y of the upper left corner."""

    x: int
    y: int
    width: int = Field(gt=0)
    height: int = Field(gt=0)


class Rle(Wire):
    """COCO's uncompressed run lengths: column by column, beginning with background."""

    size: tuple[int, int]
    """(height, width)"""
    counts: list[int]


class Defect(Wire):
    defect_id: int = Field(ge=1)
    class_id: int = Field(ge=1, le=254)
    class_name: Id
    severity: Severity
    score: float = Field(ge=0, le=1)
    area_px: int = Field(gt=0)
    area_mm2: float | None = None
    bbox: Box
    polygon: list[tuple[int, int]]
    rle: Rle | None = None


class Summary(Wire):
    """`listed_count` is lower than `defect_count` where the list was cut to keep the message small."""

    defect_count: int = Field(ge=0)
    listed_count: int = Field(ge=0)
    max_score: float = Field(ge=0, le=1)
    total_area_px: int = Field(ge=0)


class QualityStatus(StrEnum):
    GOOD = "good"
    POOR = "poor"
    UNKNOWN = "unknown"


class Quality(Wire):
    status: QualityStatus
    reasons: list[Text] = Field(default_factory=list)


class Clock(Wire):
    synced: bool | None = None
    offset_ms: float | None = None


class Evidence(Wire):
    uri: str
    format: str
    sha256: Sha256


class Fault(Wire):
    """Why a result has state 4: the part was not judged."""

    code: FailureCode
    text: Text


class Result(Wire):
    """A fault of the inspection is `resultState` 4 with `resultEvaluation` 0, never a bad part; an uncertain score is
    evaluation 3. Readers dedupe on `resultId` and see gaps by `(bootId, sequenceNumber)`.
    """

    schema_id: Literal["rkfleet.result/1"] = Field(default="rkfleet.result/1", alias="schema")
    result_id: Id
    job_id: Id | None = None
    part_id: Id | None = None
    product_id: Id | None = None
    lot_id: Id | None = None
    work_order_id: Id | None = None
    station: Station
    external_recipe_id: Id | None = None
    internal_recipe_id: Id
    is_simulated: bool
    is_partial: bool = False
    creation_time: UtcTime
    boot_id: Id
    sequence_number: int = Field(ge=1)
    result_state: ResultState
    result_evaluation: Evaluation
    reasons: list[Text] = Field(default_factory=list)
    fault: Fault | None = None
    processing_times: ProcessingTimes
    model: ModelInfo
    image: ImageInfo
    defects: list[Defect]
    summary: Summary
    quality: Quality
    clock: Clock
    evidence: list[Evidence] = Field(default_factory=list)
