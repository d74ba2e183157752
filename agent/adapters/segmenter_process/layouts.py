"""What lies where in the memory that parent and child share."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from agent.adapters.segmenter_process.memory import SharedMemory
from agent.core.model import ModelSpec
from agent.core.stages import StageSpec, Tensor

Bytes = npt.NDArray[np.uint8]
Shape = tuple[int, int]
MAPS = 2
"""Class map and score."""


class Pictures:
    """Of a whole model. For each picture of a call: one slot for each input, one for each of its maps."""

    def __init__(self, spec: ModelSpec, memory: SharedMemory) -> None:
        self._inputs = spec.inputs
        self._memory = memory

    @staticmethod
    def slots(spec: ModelSpec) -> list[int]:
        pixels = _most_px(spec)
        return ([3 * pixels] * spec.inputs + [pixels] * MAPS) * spec.batch

    def inputs(self, shape: Shape, item: int) -> list[Bytes]:
        """Views (H, W, 3) of the pictures of one item."""
        first = item * (self._inputs + MAPS)
        return [self._memory.view(first + number, (*shape, 3)) for number in range(self._inputs)]

    def put(self, items: Sequence[Sequence[Bytes]], shape: Shape) -> None:
        """Copy the pictures in."""
        for number, pictures in enumerate(items):
            for target, source in zip(self.inputs(shape, number), pictures, strict=True):
                np.copyto(target, source)

    def maps(self, shape: Shape, item: int) -> tuple[Bytes, Bytes]:
        """Views (H, W) of the class map and the score of one item."""
        first = item * (self._inputs + MAPS) + self._inputs
        return self._memory.view(first, shape), self._memory.view(first + 1, shape)


class Tensors:
    """Of a stage. One slot for each tensor that it takes, then one for each that it gives; or, of the last stage, two
    maps for each picture of a call.
    """

    def __init__(self, spec: StageSpec, memory: SharedMemory) -> None:
        self._spec = spec
        self._memory = memory

    @staticmethod
    def slots(spec: StageSpec) -> list[int]:
        maps = [_most_px(spec.model)] * MAPS * spec.model.batch if spec.is_last else []
        return [tensor.most_bytes for tensor in (*spec.takes, *spec.gives)] + maps

    def takes(self, shape: int) -> list[npt.NDArray[Any]]:
        return self._views(0, self._spec.takes, shape)

    def gives(self, shape: int) -> list[npt.NDArray[Any]]:
        return self._views(len(self._spec.takes), self._spec.gives, shape)

    def maps(self, shape: int, item: int) -> tuple[Bytes, Bytes]:
        """Views (H, W) of the class map and the score of one item."""
        first = len(self._spec.takes) + MAPS * item
        dims = self._spec.model.shapes[shape]
        return self._memory.view(first, dims), self._memory.view(first + 1, dims)

    def _views(self, first: int, tensors: Sequence[Tensor], shape: int) -> list[npt.NDArray[Any]]:
        return [
            self._memory.view(slot, tensor.shapes[shape], tensor.dtype) for slot, tensor in enumerate(tensors, first)
        ]


def _most_px(spec: ModelSpec) -> int:
    return max(height * width for height, width in spec.shapes)
