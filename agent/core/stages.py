"""What the parts of a model that is split into stages must know."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from agent.core.model import ModelSpec
from agent.errors import Permanent
from schemas.codes import FailureCode


@dataclass(frozen=True, slots=True)
class Tensor:
    """What passes from one stage to the next for one picture: its dimensions for each shape of the model's inputs."""

    name: str
    dtype: str
    shapes: tuple[tuple[int, ...], ...]

    @property
    def most_bytes(self) -> int:
        return max(math.prod(dims) for dims in self.shapes) * np.dtype(self.dtype).itemsize


@dataclass(frozen=True, slots=True)
class StageSpec:
    """`model` is the whole model, but for the path, which is this stage's file. The first stage takes the pictures,
    (1, H, W, 3) uint8; the last one gives nothing named: its answer is decoded.
    """

    model: ModelSpec
    takes: tuple[Tensor, ...]
    gives: tuple[Tensor, ...]
    is_first: bool

    @property
    def is_last(self) -> bool:
        return not self.gives

    def check(self, outputs: Sequence[npt.NDArray[Any]], shape: int) -> None:
        """Errors: Permanent(MODEL_INVALID) where a stage gives other tensors than it was said to."""
        channels = self.model.classes if self.model.output == "logits" else 1
        answer = (1, channels, *self.model.shapes[shape])
        wanted = [answer] if self.is_last else [tensor.shapes[shape] for tensor in self.gives]
        if [output.shape for output in outputs] != wanted:
            found = [output.shape for output in outputs]
            raise Permanent(FailureCode.MODEL_INVALID, f"{self.model.path}: the stage gives {found}, not {wanted}")


def chain(model: ModelSpec, paths: Sequence[str], crossings: Sequence[Sequence[Tensor]]) -> tuple[StageSpec, ...]:
    """The stages of a model whose files are `paths`; `crossings` are the tensors between each two of them."""
    pictures = tuple(
        Tensor(f"picture{number}", "uint8", tuple((1, *shape, 3) for shape in model.shapes))
        for number in range(model.inputs)
    )
    takes = [pictures, *map(tuple, crossings)]
    gives = [*map(tuple, crossings), ()]
    return tuple(
        StageSpec(replace(model, path=path), taken, given, is_first=number == 0)
        for number, (path, taken, given) in enumerate(zip(paths, takes, gives, strict=True))
    )
