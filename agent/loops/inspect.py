"""What a lane does with pictures: lay the reference over them, prepare, segment, find regions, judge."""

import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import numpy.typing as npt

from agent.core import vision
from agent.core.batch import Batcher, Room
from agent.core.bundle import Bundle
from agent.core.frame import Frame, Picture
from agent.core.result import Origin
from agent.core.update import ModelRef
from agent.core.verdict import judge
from agent.core.vision import Found
from agent.core.vision.align import Golden, Limits, align, laid
from agent.errors import Permanent
from agent.ports import Segmentation, Segmenter
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
class Reference:
    """What the pictures of one camera are compared with, and what still counts as the same view."""

    golden: Golden
    limits: Limits


@dataclass(frozen=True, slots=True)
class CameraPlan:
    """How the pictures of one camera are looked at with one model. `view` is at the model's preferred shape, which is
    the only one where `shape` is None; `reference` is for models that have such an input.
    """

    view: vision.View
    recipe: Recipe
    origin: Origin
    topic: str
    shape: InputShape | None = None
    reference: Reference | None = None


Map = npt.NDArray[np.uint8]
Plans = Mapping[tuple[str, str | None], CameraPlan]
"""By camera and recipe; None is the camera's own recipe."""


@dataclass(frozen=True, slots=True)
class Loaded:
    """A model that is ready on one core. `batcher` and `room` say how many pictures its calls take; without a batcher
    as many as the segmenter does.
    """

    segmenter: Segmenter
    ref: ModelRef
    model: ModelInfo
    bundle: Bundle
    plans: Plans
    batcher: Batcher | None = None
    room: Callable[[], Room] = Room

    def plan_for(self, frame: Frame) -> CameraPlan | None:
        """None where the camera is no longer among the settings."""
        recipe = frame.order.recipe if frame.order else None
        return self.plans.get((frame.camera, recipe))


@dataclass(frozen=True, slots=True)
class Look:
    """What a model made of a picture. class_map (H, W) uint8, at the model's scale, refined where the model has that
    step, before thresholds; valid until the segmenter's next call. A picture that does not fit its reference was not
    given to the model.
    """

    class_map: Map
    found: Found
    evaluation: Evaluation
    reasons: tuple[str, ...]
    quality: Quality
    inference_ms: float
    model_input: ModelInput | None = None
    is_misfit: bool = False


@dataclass(frozen=True, slots=True)
class Sight:
    """A picture that is ready for the model."""

    frame: Frame
    plan: CameraPlan
    watch: "StopWatch"
    prepared: vision.Prepared
    complexity: float | None
    misfit: str | None


def look(frame: Frame, loaded: Loaded, plan: CameraPlan, watch: "StopWatch") -> Look:
    """`watch` gets the time of each stage. Errors: those of the segmenter and of `sight`."""
    ((_, seen),) = look_all([sight(frame, plan, watch)], loaded)
    return seen


def sight(frame: Frame, plan: CameraPlan, watch: "StopWatch") -> Sight:
    """Errors: Permanent(CONFIG_INVALID) where the region of interest or the reference does not fit the picture."""
    try:
        reference, misfit = _reference(frame.picture, plan.reference, watch)
        prepared, complexity = _prepared(frame.picture, plan, reference)
    except ValueError as error:
        raise Permanent(FailureCode.CONFIG_INVALID, f"camera {frame.camera}: {error}") from error
    watch.lap("prepare")
    return Sight(frame, plan, watch, prepared, complexity, misfit)


def look_all(sights: Sequence[Sight], loaded: Loaded) -> Iterator[tuple[Sight, Look]]:
    """Each sight once, in any order; those of one shape share calls, as many in one as the model takes. A sight's time
    in a call is that of the whole call. Errors: those of the segmenter, for all sights that have not been given back.
    """
    for each in sights:
        if each.misfit is not None:
            yield each, _undecided(each, each.misfit)
    by_shape: dict[tuple[int, int], list[Sight]] = {}
    for each in sights:
        if each.misfit is None:
            by_shape.setdefault(each.prepared.placement.tile_hw, []).append(each)
    for group in by_shape.values():
        for each, class_map, score, inference_ms in _segmented(group, loaded):
            yield each, _judged(each, class_map, score, inference_ms)


def _reference(picture: Picture, reference: Reference | None, watch: "StopWatch") -> tuple[Picture | None, str | None]:
    """The reference as it lies to the picture, and why it does not fit."""
    if reference is None:
        return None, None
    alignment = align(picture, reference.golden, reference.limits)
    moved = laid(reference.golden, alignment, picture)
    watch.lap("align")
    return moved, alignment.misfit


def _prepared(picture: Picture, plan: CameraPlan, reference: Picture | None) -> tuple[vision.Prepared, float | None]:
    """The inputs, and the picture's complexity where that chooses their shape: it is measured on the inputs of the
    shape in use, and they are made anew only where the shape changes.
    """
    if plan.shape is None:
        return vision.prepare(picture, plan.view, reference), None
    prepared = vision.prepare(picture, plan.view.at(plan.shape.now()), reference)
    complexity = vision.complexity(prepared)
    shape = plan.shape.saw(complexity)
    if shape != prepared.placement.tile_hw:
        prepared = vision.prepare(picture, plan.view.at(shape), reference)
    return prepared, round(complexity, 4)


def _segmented(sights: Sequence[Sight], loaded: Loaded) -> Iterator[tuple[Sight, Map, Map, float]]:
    """Class map, score and time of inference in ms. All inputs have one shape."""
    segmenter = loaded.segmenter
    batcher = loaded.batcher or Batcher(segmenter.batch, lambda: 0.0)
    items = [(each, tile) for each in sights for tile in range(len(each.prepared.inputs))]
    stitch, inference_ms = vision.Stitch(sights[0].prepared.placement), 0.0
    for (each, tile), made in batcher.run(items, partial(_call, segmenter), loaded.room()):
        if tile == 0:
            stitch, inference_ms = vision.Stitch(each.prepared.placement), 0.0
        stitch.add(tile, made.class_map, made.score)
        inference_ms += made.inference_ms
        if tile + 1 == len(each.prepared.inputs):
            yield each, *stitch.result(), inference_ms


def _call(segmenter: Segmenter, items: Sequence[tuple[Sight, int]]) -> Sequence[Segmentation]:
    return segmenter.segment_all([each.prepared.inputs[tile] for each, tile in items])


def _judged(seen: Sight, class_map: Map, score: Map, inference_ms: float) -> Look:
    watch = seen.watch
    watch.stages["inference"] = inference_ms
    watch.lap("segment")
    if seen.plan.view.crf is not None:
        class_map, score = vision.refine(seen.prepared, seen.plan.view, class_map, score)
        watch.lap("refine")
    found = vision.regions(class_map, score, seen.prepared.placement, seen.plan.view)
    watch.lap("regions")
    verdict = judge(found, seen.plan.recipe, vision.quality(seen.prepared))
    watch.lap("judge")
    poor = [reason for reason in verdict.reasons if verdict.evaluation is Evaluation.NOT_DECIDABLE]
    quality = Quality(status=QualityStatus.POOR if poor else QualityStatus.GOOD, reasons=poor)
    reasons = tuple(verdict.reasons)
    return Look(class_map, found, verdict.evaluation, reasons, quality, inference_ms, _model_input(seen))


def _undecided(seen: Sight, misfit: str) -> Look:
    quality = Quality(status=QualityStatus.POOR, reasons=[misfit])
    nothing = np.zeros(seen.prepared.placement.canvas_hw, np.uint8)
    undecidable = Evaluation.NOT_DECIDABLE
    return Look(nothing, Found(), undecidable, (misfit,), quality, 0.0, _model_input(seen), is_misfit=True)


def _model_input(seen: Sight) -> ModelInput:
    height, width = seen.prepared.placement.tile_hw
    return ModelInput(width=width, height=height, complexity=seen.complexity)


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
