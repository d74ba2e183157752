"""What a pipeline file may say. Every field has its meaning here, or in `modelkit.plan.Plan` for those of training."""

import re
from dataclasses import fields
from typing import TYPE_CHECKING, Annotated, Any, Final, Literal, Self, get_type_hints

from pydantic import Field, create_model, model_validator

from modelkit.pipeline.spec_data import Boards, Data, DeepPcb, Existing
from modelkit.plan import Plan
from schemas.base import Id, Strict, Text
from schemas.manifest import Clahe, Crf, Ratio
from schemas.target import Target

FIGURE: Final = re.compile(
    r"(float32|int8|board)\.(miou|meanDice|precision|recall|f1|map|overkill|escapes|boxes\.(f1|map)|iou\.[\w.:-]+)"
    r"|loss\.(miou|meanDice|f1|map|boxes\.(f1|map))|parameters|bytes\.\w+"
)
"""Figures of a gate: of float, of int8 by the converter's simulator, of the packed bundle through a board's segmenter;
`loss` is float less int8."""
_BOARDS: Final = tuple(target for target in Target if target is not Target.CPU)


class Network(Strict):
    """`architecture` is one of `modelkit.models.ARCHITECTURES`; `width` is its number of channels at the widest level
    that it counts from.
    """

    architecture: str
    width: int = Field(gt=0, le=512)


_BOUNDS: Final[dict[str, dict[str, float]]] = {
    "steps": {"gt": 0},
    "batch": {"gt": 0, "le": 1024},
    "crop_px": {"ge": 32, "multiple_of": 16},
    "rate": {"gt": 0, "le": 1},
    "mean_decay": {"ge": 0, "lt": 1},
    "faults": {"ge": 0, "le": 2},
    "validate_every": {"gt": 0},
    "threads": {"gt": 0, "le": 64},
}
_ELSEWHERE: Final = {"classes", "architecture", "roles", "width", "start"}
"""Fields of a plan that other parts of the file say."""


class TrainingFields(Strict):
    """The fields of `Plan`, and `start`: a checkpoint of the same network to begin from."""

    start: Existing | None = None

    @model_validator(mode="after")
    def _is_a_plan(self) -> Self:
        self.plan(Network(architecture="unet", width=8), ("image",), 2)
        return self

    def plan(self, network: Network, roles: tuple[str, ...], classes: int) -> Plan:
        """The trainer's plan for a network of so many classes, the background included."""
        own: dict[str, Any] = {name: getattr(self, name) for name in type(self).model_fields if name != "start"}
        start = "" if self.start is None else str(self.start)
        return Plan(
            **own, architecture=network.architecture, width=network.width, roles=roles, classes=classes, start=start
        )


def _training() -> type[TrainingFields]:
    hints = get_type_hints(Plan)
    free: dict[str, Any] = {}
    own: dict[str, Any] = {
        each.name: (Annotated[hints[each.name], Field(**_BOUNDS.get(each.name, free))], each.default)
        for each in fields(Plan)
        if each.name not in _ELSEWHERE
    }
    return create_model("Training", __base__=TrainingFields, **own)


if TYPE_CHECKING:
    Training = TrainingFields
else:
    Training = _training()


class Teacher(Strict):
    """What a student learns from: a `checkpoint`, or a `model` that is trained first, as `training` says."""

    checkpoint: Existing | None = None
    model: Network | None = None
    training: Training = Field(default_factory=Training)

    @model_validator(mode="after")
    def _is_one(self) -> Self:
        if (self.checkpoint is None) == (self.model is None):
            raise ValueError("the teacher is either a checkpoint or a model to train: give one of them")
        return self


class DistilPart(Strict):
    """The network of `model` is trained with the teacher beside it; see `modelkit.distil.Distil`."""

    teacher: Teacher
    temperature: float = Field(default=2.0, gt=0)
    weight: float = Field(default=1.0, gt=0)


class PrunePart(Strict):
    """What was trained loses channels and is trained on as `training` says; see `modelkit.prune.Prune`."""

    most_parameters: int | None = Field(default=None, gt=0)
    ratio: float | None = Field(default=None, gt=0, lt=1)
    importance: Literal["l2", "bn"] = "l2"
    round_to: Literal[1, 4, 8, 16, 32] = 8
    training: Training = Field(default_factory=Training)

    @model_validator(mode="after")
    def _has_an_end(self) -> Self:
        if (self.most_parameters is None) == (self.ratio is None):
            raise ValueError("prune needs either mostParameters or ratio")
        return self


class QatPart(Strict):
    """What was trained learns its int8 ranges, as `training` says; see `modelkit.qat.Qat`."""

    observed: int = Field(default=16, gt=0)
    training: Training = Field(default_factory=Training)


class Compression(Strict):
    """In this order, each on what the one before made."""

    distil: DistilPart | None = None
    prune: PrunePart | None = None
    qat: QatPart | None = None


class Calibration(Strict):
    """`images` pictures of the training part give the ranges of int8; `seed` decides between those that look alike."""

    images: int = Field(default=48, gt=0, le=2000)
    seed: int = 1


class HybridPart(Strict):
    """Layers that lose most stay float16; see `modelkit.rknn_job.Hybrid`."""

    most_layers: int = Field(default=4, ge=1, le=64)
    least_cosine: float = Field(default=0.9995, gt=0, le=1)


class Quantisation(Strict):
    """`algorithm` is the converter's own way from calibration pictures to ranges."""

    algorithm: Literal["normal", "mmse", "kl_divergence"] = "normal"
    hybrid: HybridPart | None = None


class Measure(Strict):
    """`worst` pictures are shown in the report; `board`: the packed bundle is run through a board's segmenter too."""

    worst: int = Field(default=12, ge=0, le=64)
    board: bool = True


class Gate(Strict):
    """At least or at most; the figures are those of FIGURE."""

    figure: str
    at_least: float | None = None
    at_most: float | None = None

    @model_validator(mode="after")
    def _says_something(self) -> Self:
        if not FIGURE.fullmatch(self.figure):
            raise ValueError(
                f"{self.figure} is no figure: write for example int8.miou, int8.iou.CLASS, int8.boxes.f1, loss.miou, "
                "float32.f1, board.map, parameters or bytes.rk3588"
            )
        if (self.at_least is None) == (self.at_most is None):
            raise ValueError(f"the gate on {self.figure} needs either atLeast or atMost")
        return self


class Pipeline(Strict):
    """`work` and the bundle's place are options of the command, not of the file. `preprocess` and `postprocess` are
    steps of the manifest beside letterbox, threshold and least area; a model learns from pictures after `preprocess`.
    """

    schema_id: Literal["rkfleet.pipeline/1"] = Field(alias="schema")
    name: Id
    version: Id
    description: Text = ""
    licence: Text = ""
    data: Data
    preprocess: list[Clahe] = Field(default_factory=list, max_length=1)
    postprocess: list[Crf] = Field(default_factory=list, max_length=1)
    model: Network
    training: Training = Field(default_factory=Training)
    compression: Compression = Compression()
    calibration: Calibration = Calibration()
    targets: list[Target] = Field(default=list(_BOARDS), min_length=1)
    quantisation: Quantisation = Quantisation()
    evaluation: Measure = Measure()
    limits: list[Text] = Field(default_factory=list)
    least_score: Ratio | None = None
    least_area_px: int | None = Field(default=None, ge=0)
    gates: list[Gate] = Field(default_factory=list)

    @model_validator(mode="after")
    def _holds_together(self) -> Self:
        if Target.CPU in self.targets:
            raise ValueError("targets: cpu is always in the bundle and is not converted: remove it")
        if len(set(self.targets)) != len(self.targets):
            raise ValueError("targets: one of them stands there twice")
        if self.preprocess and isinstance(self.data, Boards | DeepPcb):
            raise ValueError("preprocess: clahe is for folder and coco data alone: remove it")
        if unmet := [g.figure for g in self.gates if g.figure.startswith("board.") and not self.evaluation.board]:
            raise ValueError(f"gates: {', '.join(unmet)} cannot be known with evaluation.board off")
        return self
