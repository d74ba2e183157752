"""`manifest.json` of a model bundle: all that a board must know to run the model rightly, and how good it is.

A bundle is a folder: `manifest.json`, one model file a variant, and the golden frames. Paths in it are relative, with
forward slashes, and never leave the folder.
"""

from collections.abc import Sequence
from enum import StrEnum
from itertools import pairwise
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from schemas.base import Id, Sha256, Strict, Text, UtcTime
from schemas.stages import BundlePath, ModelFile, Stage, check_chain, check_shapes
from schemas.target import Target


class Severity(StrEnum):
    NONE = "none"
    MINOR = "minor"
    MAJOR = "major"
    CRITICAL = "critical"


Ratio = Annotated[float, Field(ge=0, le=1)]


class DefectClass(Strict):
    """Class 0 is the background, severity none."""

    id: int = Field(ge=0, le=254)
    name: Id
    colour: str = Field(pattern=r"^#[0-9a-f]{6}$")
    severity: Severity


class ModelInput(Strict):
    """The model takes raw uint8 pixels (1, H, W, 3) NHWC; mean and deviation are inside the model.

    `shapes` are (height, width) in pixels, the preferred one first.
    """

    name: Id
    role: Literal["image", "reference"] = "image"
    shapes: list[tuple[int, int]] = Field(min_length=1, max_length=8)
    colour: Literal["RGB"] = "RGB"
    layout: Literal["NHWC"] = "NHWC"


class Letterbox(Strict):
    """Scale to the model's input, aspect ratio kept, the rest filled."""

    op: Literal["letterbox"] = "letterbox"
    fill: int = Field(default=114, ge=0, le=255)


class Tile(Strict):
    """Cut the region of interest, scaled by `scale`, into overlapping pieces of the model's input size."""

    op: Literal["tile"] = "tile"
    overlap_px: int = Field(default=32, ge=0, le=512)
    scale: float = Field(default=1.0, gt=0, le=8)


class Clahe(Strict):
    """Contrast-limited adaptive histogram equalisation of the lightness."""

    op: Literal["clahe"] = "clahe"
    clip_limit: float = Field(default=2.0, gt=0, le=40)
    grid: int = Field(default=8, ge=1, le=64)


class Adaptive(Strict):
    """A busy scene gets a larger input: the shapes of `inputs`, by rising area, and the complexities that part them.

    Complexity is the share of the picture, 0 to 1, that is structure. `thresholds` rise, one fewer than there are
    shapes; the larger shape of a pair is asked for from threshold + `hysteresis` on, the smaller one below threshold -
    `hysteresis`. A picture that asks for a larger shape gets it at once; a smaller one comes with the last of
    `hold_frames` pictures in a row that ask for it. Each camera begins with the preferred shape.
    """

    thresholds: list[Ratio] = Field(min_length=1, max_length=7)
    hysteresis: float = Field(default=0.05, ge=0, le=0.5)
    hold_frames: int = Field(default=3, ge=1, le=1000)

    @model_validator(mode="after")
    def _can_be_passed(self) -> Self:
        if any(high - low <= 2 * self.hysteresis for low, high in pairwise(self.thresholds)):
            raise ValueError("adaptive: each threshold must lie above the one before by more than twice the hysteresis")
        if self.thresholds[0] - self.hysteresis <= 0 or self.thresholds[-1] + self.hysteresis > 1:
            raise ValueError("adaptive: thresholds with their hysteresis must lie above 0 and not above 1")
        return self


PreprocessStep = Annotated[Letterbox | Tile | Clahe, Field(discriminator="op")]


class Threshold(Strict):
    """Pixels of a defect class below `min_score` (softmax, 0 to 1) count as background."""

    op: Literal["threshold"] = "threshold"
    min_score: Ratio
    per_class: dict[str, Ratio] = Field(default_factory=dict)


class LeastArea(Strict):
    """Regions smaller than this, in pixels of the camera's picture, are dropped."""

    op: Literal["leastArea"] = "leastArea"
    px: int = Field(ge=0)
    per_class: dict[str, int] = Field(default_factory=dict)


class Crf(Strict):
    """A fully connected conditional random field draws the class map to the edges of the picture.

    It comes before thresholds and areas, wherever it stands in the list; scores are then its posteriors. Two pixels
    pull each other to one class by two kernels: `spatial_weight` times one of their distance, `bilateral_weight` times
    one of distance and of colour. Widths in px are deviations in pixels of the canvas (the picture at the model's
    scale, preferred shape), `bilateral_grey` is one in grey levels of each channel. `background_score` stands for the
    softmax of background pixels, which is not kept; a defect's is its own. A board needs the extra `crf`.
    """

    op: Literal["crf"] = "crf"
    iterations: int = Field(default=5, ge=1, le=20)
    spatial_px: float = Field(default=2.0, ge=1, le=64)
    spatial_weight: float = Field(default=2.0, ge=0, le=50)
    bilateral_px: float = Field(default=20.0, ge=2, le=256)
    bilateral_grey: float = Field(default=8.0, ge=1, le=128)
    bilateral_weight: float = Field(default=3.0, ge=0, le=50)
    background_score: float = Field(default=0.9, ge=0.5, le=0.99)


PostprocessStep = Annotated[Threshold | LeastArea | Crf, Field(discriminator="op")]


class Variant(ModelFile):
    """The model's file for one target; of a model in stages, that of the last one."""

    target: Target
    runtime: Literal["rknn", "onnx"]
    toolkit_version: str = Field(max_length=64)
    dtype: Literal["int8", "float16", "float32"]
    memory_bytes: int | None = Field(default=None, gt=0)
    batch: int = Field(default=1, ge=1, le=64)
    """The most pictures that the file takes in one call: inputs are then (N, H, W, 3), outputs (N, C, H, W), N up to
    this or, where the file has it fixed, always this. Stages take one picture each; of them it is how many pictures of
    one call are under way at once.
    """
    stages: list[Stage] | None = Field(default=None, min_length=2, max_length=4)

    @model_validator(mode="after")
    def _ends_with_its_file(self) -> Self:
        if self.stages is None:
            return self
        check_chain(self.stages)
        last = self.stages[-1]
        if (last.file, last.bytes, last.sha256, last.runtime) != (self.file, self.bytes, self.sha256, self.runtime):
            raise ValueError("stages: file, bytes, sha256 and runtime of the variant are those of the last stage")
        return self

    def files(self) -> Sequence[ModelFile]:
        """All files that the variant needs, the paths all different."""
        return self.stages or [self]


class GoldenFrame(Strict):
    """A PNG at the model's input size and the class map (8-bit grey PNG) that the int8 simulator gave for it."""

    inputs: list[BundlePath] = Field(min_length=1, max_length=4)
    class_map: BundlePath
    sha256: dict[str, Sha256]
    """Digest of each of the files above."""


class Golden(Strict):
    frames: list[GoldenFrame] = Field(min_length=1, max_length=64)
    least_agreement: Ratio
    """Least mean IoU, over the classes present, between what a board gives and the class maps above."""


class Score(Strict):
    """Accuracy on images that training never saw."""

    miou: Ratio
    iou: dict[str, Ratio]
    precision: Ratio | None = None
    recall: Ratio | None = None
    f1: Ratio | None = None


class Accuracy(Strict):
    dataset: Text
    images: int = Field(gt=0)
    float32: Score
    int8: Score | None = None


class Calibration(Strict):
    images: int = Field(gt=0)
    brightness_range: tuple[float, float] | None = None
    contrast_range: tuple[float, float] | None = None


class Lineage(Strict):
    architecture: Text
    parameters: int = Field(gt=0)
    teacher: Text | None = None
    pruned_from: Text | None = None
    quantisation: Literal["ptq", "qat", "none"] = "ptq"
    training: dict[str, str | int | float] = Field(default_factory=dict)


class Manifest(Strict):
    schema_id: Literal["rkfleet.manifest/1"] = Field(default="rkfleet.manifest/1", alias="schema")
    name: Id
    version: Id
    created_at: UtcTime
    description: Text = ""
    licence: Text = ""
    classes: list[DefectClass] = Field(min_length=2, max_length=255)
    inputs: list[ModelInput] = Field(min_length=1, max_length=4)
    preprocess: list[PreprocessStep]
    postprocess: list[PostprocessStep] = Field(default_factory=list)
    output: Literal["logits", "classMap"]
    """Logits are (1, C, H, W) float; a class map is (1, 1, H, W) integer."""
    adaptive: Adaptive | None = None
    """Without it the preferred shape is the only one that is used."""
    variants: list[Variant] = Field(min_length=1)
    golden: Golden
    accuracy: Accuracy
    calibration: Calibration | None = None
    lineage: Lineage

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if [c.id for c in self.classes] != list(range(len(self.classes))):
            raise ValueError("class ids must count up from 0 in order")
        names = [c.name for c in self.classes]
        if len(set(names)) != len(names):
            raise ValueError("class names must differ")
        targets = [v.target for v in self.variants]
        if len(set(targets)) != len(targets):
            raise ValueError("one variant a target")
        for variant in self.variants:
            check_shapes(variant.stages or [], len(self.inputs[0].shapes))
        if sum(step.op in {"letterbox", "tile"} for step in self.preprocess) != 1:
            raise ValueError("preprocess needs exactly one of letterbox and tile")
        if sum(step.op == "crf" for step in self.postprocess) > 1:
            raise ValueError("postprocess takes one crf at most")
        for step in self.postprocess:
            if not isinstance(step, Crf) and (unknown := set(step.per_class) - set(names)):
                raise ValueError(f"perClass names unknown classes: {', '.join(sorted(unknown))}")
        return self

    @model_validator(mode="after")
    def _adaptive_shapes(self) -> Self:
        if self.adaptive is None:
            return self
        shapes = self.inputs[0].shapes
        if any(each.shapes != shapes for each in self.inputs):
            raise ValueError("adaptive: all inputs need the same shapes in the same order")
        if len({height * width for height, width in shapes}) != len(shapes):
            raise ValueError("adaptive: shapes must differ in area")
        if len(self.adaptive.thresholds) != len(shapes) - 1:
            wanted, given = len(shapes) - 1, len(self.adaptive.thresholds)
            raise ValueError(f"adaptive: {len(shapes)} shapes need {wanted} thresholds, not {given}")
        if small := [shape for shape in shapes if min(shape) < 8]:
            raise ValueError(f"adaptive: a shape needs at least 8x8 pixels, not {small[0][0]}x{small[0][1]}")
        return self

    def variant(self, target: Target) -> Variant | None:
        return next((v for v in self.variants if v.target is target), None)
