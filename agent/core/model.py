"""What a segmenter must know of a model."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from agent.core.frame import Pixels
from agent.errors import Permanent
from schemas.codes import FailureCode


@dataclass(frozen=True, slots=True)
class ModelSpec:
    """Shapes are (height, width) in pixels, the preferred one first; classes counts the background; batch is the most
    pictures that the model takes in one call.
    """

    path: str
    inputs: int
    shapes: tuple[tuple[int, int], ...]
    classes: int
    output: Literal["logits", "classMap"]
    batch: int = 1

    def shape_of(self, items: Sequence[Sequence[Pixels]], segmenter: str) -> tuple[int, int]:
        """The one shape of all inputs of all items of a call. `segmenter` begins the error's text.

        Errors: Permanent(SHAPE_MISMATCH) for another number, type or shape than the model has.
        """
        if not 1 <= len(items) <= self.batch:
            text = f"{segmenter}: {len(items)} pictures in a call that takes 1 to {self.batch}"
            raise Permanent(FailureCode.SHAPE_MISMATCH, text)
        first = items[0][0].shape[:2] if items[0] else ()
        for inputs in items:
            fit = len(inputs) == self.inputs and first in self.shapes
            if not fit or any(picture.dtype != np.uint8 or picture.shape != (*first, 3) for picture in inputs):
                given = ", ".join(f"{picture.dtype} {picture.shape}" for picture in inputs)
                wanted = " or ".join(f"{height}x{width}" for height, width in self.shapes)
                text = f"{segmenter}: inputs [{given}] where {self.inputs} of uint8 RGB, all {wanted}, are needed"
                raise Permanent(FailureCode.SHAPE_MISMATCH, text)
        height, width = first
        return height, width


class Stack:
    """Lays the pictures of a call side by side, in memory that is reused."""

    def __init__(self, inputs: int, shape: tuple[int, int]) -> None:
        self._inputs = inputs
        self._shape = shape
        self._memory = np.empty((inputs, 0, *shape, 3), np.uint8)

    def put(self, items: Sequence[Sequence[Pixels]], count: int) -> list[npt.NDArray[np.uint8]]:
        """For each input (count, H, W, 3) uint8, C-contiguous: the items, then black ones up to `count`. Valid until
        the next call; a lone picture is not copied.
        """
        if len(items) == count == 1:
            return [np.ascontiguousarray(picture)[None] for picture in items[0]]
        if self._memory.shape[1] < count:
            self._memory = np.zeros((self._inputs, count, *self._shape, 3), np.uint8)
        for number, inputs in enumerate(items):
            for memory, picture in zip(self._memory, inputs, strict=True):
                np.copyto(memory[number], picture)
        self._memory[:, len(items) : count] = 0
        return [memory[:count] for memory in self._memory]
