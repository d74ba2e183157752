"""What a lane does with one picture: prepare, segment, find regions, judge."""

import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from agent.core import vision
from agent.core.bundle import Bundle
from agent.core.frame import Frame, Picture
from agent.core.result import Origin
from agent.core.update import ModelRef
from agent.core.verdict import judge
from agent.core.vision import Found
from agent.errors import Permanent
from agent.ports import Segmenter
from schemas.codes import FailureCode
from schemas.recipe import Evaluation, Recipe
from schemas.result import ModelInput, Quality, QualityStatus
from schemas.status import ModelInfo


class InputShape:
    """The model's input shape, (height, width), that one camera's pictures get at the moment. Any lane may call: those
    that share it agree on the shape.
    """

    def __init__(self, rule: vision.ShapeRule) -> None:
        self._rule = rule
        self._lock = threading.Lock()
        self._choice = vision.Choice.begin(rule)

    def now(self) -> tuple[int, int]:
        return self._rule.shapes[self._choice.index]

    def saw(self, complexity: float) -> tuple[int, int]:
        """The shape for the picture of this complexity, and for those that follow until they differ."""
        with self._lock:
            self._choice = self._choice.saw(self._rule, complexity)
            return self.now()


@dataclass(frozen=True, slots=True)
class CameraPlan:
    """How the pictures of one camera are looked at with one model. `view` is at the model's preferred shape, which is
    the only one where `shape` is None.
    """

    view: vision.View
    recipe: Recipe
    origin: Origin
    topic: str
    shape: InputShape | None = None


Map = npt.NDArray[np.uint8]
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

    class_map: Map
    found: Found
    evaluation: Evaluation
    reasons: tuple[str, ...]
    quality: Quality
    inference_ms: float
    model_input: ModelInput | None = None


def look(frame: Frame, loaded: Loaded, plan: CameraPlan, watch: "StopWatch") -> Look:
    """`watch` gets the time of each stage. Errors: those of the segmenter; Permanent(CONFIG_INVALID) where the region
    of interest does not fit the picture.
    """
    try:
        prepared, complexity = _prepared(frame.picture, plan)
    except ValueError as error:
        raise Permanent(FailureCode.CONFIG_INVALID, f"camera {frame.camera}: {error}") from error
    watch.lap("prepare")
    class_map, score, inference_ms = _segmented(prepared, loaded.segmenter)
    watch.stages["inference"] = inference_ms
    watch.lap("segment")
    found = vision.regions(class_map, score, prepared.placement, plan.view)
    watch.lap("regions")
    verdict = judge(found, plan.recipe, vision.quality(prepared))
    watch.lap("judge")
    poor = [reason for reason in verdict.reasons if verdict.evaluation is Evaluation.NOT_DECIDABLE]
    quality = Quality(status=QualityStatus.POOR if poor else QualityStatus.GOOD, reasons=poor)
    height, width = prepared.placement.tile_hw
    model_input = ModelInput(width=width, height=height, complexity=complexity)
    return Look(class_map, found, verdict.evaluation, tuple(verdict.reasons), quality, inference_ms, model_input)


def _prepared(picture: Picture, plan: CameraPlan) -> tuple[vision.Prepared, float | None]:
    """The inputs, and the picture's complexity where that chooses their shape: it is measured on the inputs of the
    shape in use, and they are made anew only where the shape changes.
    """
    if plan.shape is None:
        return vision.prepare(picture, plan.view), None
    prepared = vision.prepare(picture, plan.view.at(plan.shape.now()))
    complexity = vision.complexity(prepared)
    shape = plan.shape.saw(complexity)
    if shape != prepared.placement.tile_hw:
        prepared = vision.prepare(picture, plan.view.at(shape))
    return prepared, round(complexity, 4)


def _segmented(prepared: vision.Prepared, segmenter: Segmenter) -> tuple[Map, Map, float]:
    """Class map, score and time of inference in ms. Tiles go as many in a call as the model takes."""
    stitch = vision.Stitch(prepared.placement)
    tiles = prepared.inputs
    size = segmenter.batch if len(tiles) > 1 else 1
    inference_ms = 0.0
    for first in range(0, len(tiles), size):
        chunk = tiles[first : first + size]
        made = segmenter.segment_all(chunk) if len(chunk) > 1 else [segmenter.segment(chunk[0])]
        for tile, segmentation in enumerate(made, start=first):
            stitch.add(tile, segmentation.class_map, segmentation.score)
            inference_ms += segmentation.inference_ms
    return *stitch.result(), inference_ms


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
