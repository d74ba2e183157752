"""What the converter is asked, and what comes of it: shared by both environments, so of the standard library alone."""

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Final, Self

ALGORITHMS: Final = ("normal", "mmse", "kl_divergence")
DTYPES: Final = ("int8", "float16")


@dataclass(frozen=True, slots=True)
class Hybrid:
    """Up to `most_layers` of those that lose most stay float16: as many as it takes until the cosine between what the
    float and the int8 model give, on the first calibration picture, is at least `least_cosine`.
    """

    most_layers: int = 4
    least_cosine: float = 0.9995

    def __post_init__(self) -> None:
        if self.most_layers < 1 or not 0 < self.least_cosine <= 1:
            raise ValueError(f"hybrid quantisation of {self.most_layers} layers to a cosine of {self.least_cosine}")


@dataclass(frozen=True, slots=True)
class Job:
    """Paths are absolute. `mean` and `deviation` are baked into the models, for each of `inputs` pictures;
    `calibration` is a text file with the PNG paths of one sample a line, `simulate` the PNG files of each sample to run
    through the simulator of the first target. `algorithm` is the toolkit's: normal, mmse or kl_divergence.

    A model that brings its own scales (QuantizeLinear, from quantisation-aware training) keeps them; it and `dtype`
    float16 need no calibration. `shapes` are (height, width) that one model takes, none for that of the ONNX file;
    `batch` pictures go through a model in one call. With `class_map` the model gives the winning class,
    (1, 1, H, W) int64, instead of logits.
    """

    onnx: str
    mean: float
    deviation: float
    targets: tuple[str, ...]
    calibration: str
    simulate: tuple[tuple[str, ...], ...]
    out: str
    inputs: int = 1
    algorithm: str = "normal"
    dtype: str = "int8"
    shapes: tuple[tuple[int, int], ...] = ()
    batch: int = 1
    class_map: bool = False
    hybrid: Hybrid | None = None

    def to_json(self) -> str:
        return json.dumps(asdict(self), indent=1)

    @classmethod
    def from_json(cls, text: str) -> Self:
        """What `to_json` wrote."""
        fields = json.loads(text)
        fields["hybrid"] = Hybrid(**fields["hybrid"]) if fields["hybrid"] else None
        for name in ("targets", "shapes", "simulate"):
            fields[name] = tuple(tuple(each) if isinstance(each, list) else each for each in fields[name])
        return cls(**fields)


@dataclass(frozen=True, slots=True)
class Fallback:
    """A layer that the target's NPU does not compute: its CPU does, which costs time and two copies."""

    operator: str
    layer: str
    dtype: str


@dataclass(frozen=True, slots=True)
class Made:
    """`quantisation` is ptq, qat or none; `float16_layers` those that hybrid quantisation left, and `cosines` how like
    the float model's the logits were with none, one, two layers tried and so on; the best of these was built.
    """

    quantisation: str
    float16_layers: tuple[str, ...] = ()
    cosines: tuple[float, ...] = ()
    nodes: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True)
class Conversion:
    """What came of a job; `conversion.json` beside the models holds the same."""

    models: dict[str, str]
    quantisation: str
    seconds: float
    float16_layers: tuple[str, ...] = ()
    cosines: tuple[float, ...] = ()
    fallbacks: dict[str, tuple[Fallback, ...]] = field(default_factory=dict)

    def write(self, path: Path) -> None:
        path.write_text(json.dumps(asdict(self), indent=1) + "\n")


@dataclass(frozen=True, slots=True)
class Progress:
    """The converter begins `step` for `target`, the `number`th (from 1) of `of` targets."""

    target: str
    step: str
    number: int
    of: int
