"""What a segmenter must know of a model."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from agent.core.frame import Pixels
from agent.errors import Permanent
from schemas.codes import FailureCode


@dataclass(frozen=True, slots=True)
class ModelSpec:
    """Shapes are (height, width) in pixels, the preferred one first; classes counts the background."""

    path: str
    inputs: int
    shapes: tuple[tuple[int, int], ...]
    classes: int
    output: Literal["logits", "classMap"]

    def shape_of(self, inputs: Sequence[Pixels], segmenter: str) -> tuple[int, int]:
        """The one shape of all inputs of a call. `segmenter` begins the error's text.

        Errors: Permanent(SHAPE_MISMATCH) for another number, type or shape than the model has.
        """
        first = inputs[0].shape[:2] if inputs else ()
        fit = len(inputs) == self.inputs and first in self.shapes
        if not fit or any(picture.dtype != np.uint8 or picture.shape != (*first, 3) for picture in inputs):
            given = ", ".join(f"{picture.dtype} {picture.shape}" for picture in inputs)
            wanted = " or ".join(f"{height}x{width}" for height, width in self.shapes)
            text = f"{segmenter}: inputs [{given}] where {self.inputs} of uint8 RGB, {wanted}, are needed"
            raise Permanent(FailureCode.SHAPE_MISMATCH, text)
        height, width = first
        return height, width
