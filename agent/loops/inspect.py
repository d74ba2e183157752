"""What a lane does with one picture: prepare, segment, find regions, judge."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from agent.core import vision
from agent.core.bundle import Bundle
from agent.core.frame import Frame
from agent.core.result import Origin
from agent.core.update import ModelRef
from agent.core.verdict import judge
from agent.core.vision import Found
from agent.errors import Permanent
from agent.ports import Segmenter
from schemas.codes import FailureCode
from schemas.recipe import Evaluation, Recipe
from schemas.result import Quality, QualityStatus
from schemas.status import ModelInfo


@dataclass(frozen=True, slots=True)
class CameraPlan:
    """How the pictures of one camera are looked at with one model."""

    view: vision.View
    recipe: Recipe
    origin: Origin
    topic: str


Plans = Mapping[tuple[str, str | None], CameraPlan]
"""By camera and recipe; None is the camera's own recipe."""


@dataclass(frozen=True, slots=True)
class Loaded:
    """A model that is ready on one core."""

    segmenter: Segmenter
    ref: ModelRef
    model: ModelInfo
    bundle: Bundle
    plans: Plans

    def plan_for(self, frame: Frame) -> CameraPlan | None:
        """None where the camera is no longer among the settings."""
        recipe = frame.order.recipe if frame.order else None
        return self.plans.get((frame.camera, recipe))


@dataclass(frozen=True, slots=True)
class Look:
    """What a model made of a picture. class_map (H, W) uint8, at the model's scale, before thresholds."""

    class_map: npt.NDArray[np.uint8]
    found: Found
    evaluation: Evaluation
    reasons: tuple[str, ...]
    quality: Quality
    inference_ms: float


def look(frame: Frame, loaded: Loaded, plan: CameraPlan, watch: "StopWatch") -> Look:
    """`watch` gets the time of each stage. Errors: those of the segmenter; Permanent(CONFIG_INVALID) where the region
    of interest does not fit the picture.
    """
    try:
        prepared = vision.prepare(frame.picture, plan.view)
    except ValueError as error:
        raise Permanent(FailureCode.CONFIG_INVALID, f"camera {frame.camera}: {error}") from error
    watch.lap("prepare")
    stitch = vision.Stitch(prepared.placement)
    inference_ms = 0.0
    for tile, inputs in enumerate(prepared.inputs):
        segmentation = loaded.segmenter.segment(inputs)
        stitch.add(tile, segmentation.class_map, segmentation.score)
        inference_ms += segmentation.inference_ms
    watch.stages["inference"] = inference_ms
    watch.lap("segment")
    class_map, score = stitch.result()
    found = vision.regions(class_map, score, prepared.placement, plan.view)
    watch.lap("regions")
    verdict = judge(found, plan.recipe, vision.quality(prepared))
    watch.lap("judge")
    poor = [reason for reason in verdict.reasons if verdict.evaluation is Evaluation.NOT_DECIDABLE]
    quality = Quality(status=QualityStatus.POOR if poor else QualityStatus.GOOD, reasons=poor)
    return Look(class_map, found, verdict.evaluation, tuple(verdict.reasons), quality, inference_ms)


class StopWatch:
    """Times of stages, in ms."""

    def __init__(self, monotonic: Callable[[], float], stages: dict[str, float]) -> None:
        self.stages = stages
        self._monotonic = monotonic
        self._last_s = monotonic()

    def lap(self, stage: str) -> None:
        now_s = self._monotonic()
        self.stages[stage] = (now_s - self._last_s) * 1e3
        self._last_s = now_s
