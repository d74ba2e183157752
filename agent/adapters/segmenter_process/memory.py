"""The memory that parent and child share: pictures one way, maps the other.

It is a memfd: it has no name, so nothing is left in /dev/shm however either side ends, and no resource tracker is
needed. The kernel frees it with the last mapping.
"""

import contextlib
import mmap
import os
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from agent.core.model import ModelSpec

Bytes = npt.NDArray[np.uint8]


@dataclass(frozen=True, slots=True)
class SharedMemory:
    """For each picture of a call: one slot for each input, sized for the largest shape, then one for the class map and
    one for the score.
    """

    spec: ModelSpec
    mapping: mmap.mmap
    slot_px: int = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "slot_px", _slot_px(self.spec))

    @classmethod
    def create(cls, spec: ModelSpec) -> tuple["SharedMemory", int]:
        """Return the memory, zeroed, and its descriptor, which the caller closes once the child has it."""
        fd = os.memfd_create("rkfleet-segmenter", os.MFD_CLOEXEC)
        size_bytes = _size_bytes(spec)
        try:
            os.ftruncate(fd, size_bytes)
            return cls(spec, mmap.mmap(fd, size_bytes)), fd
        except OSError:
            os.close(fd)
            raise

    @classmethod
    def attach(cls, spec: ModelSpec, fd: int) -> "SharedMemory":
        """Map what the other side has created, and close the descriptor."""
        try:
            return cls(spec, mmap.mmap(fd, _size_bytes(spec)))
        finally:
            os.close(fd)

    def inputs(self, shape: tuple[int, int], item: int = 0) -> list[Bytes]:
        """Views (H, W, 3) of the pictures of one item."""
        pixels, start = shape[0] * shape[1], self._start(item)
        return [
            self._view(start + 3 * self.slot_px * i, 3 * pixels).reshape(*shape, 3) for i in range(self.spec.inputs)
        ]

    def put(self, items: Sequence[Sequence[Bytes]], shape: tuple[int, int]) -> None:
        """Copy the pictures in."""
        for number, pictures in enumerate(items):
            for target, source in zip(self.inputs(shape, number), pictures, strict=True):
                np.copyto(target, source)

    def maps(self, shape: tuple[int, int], item: int = 0) -> tuple[Bytes, Bytes]:
        """Views (H, W) of the class map and the score of one item."""
        pixels = shape[0] * shape[1]
        start = self._start(item) + 3 * self.slot_px * self.spec.inputs
        return self._view(start, pixels).reshape(shape), self._view(start + self.slot_px, pixels).reshape(shape)

    def release(self) -> None:
        """Unmap now, or with the last view that somebody still holds."""
        with contextlib.suppress(BufferError):
            self.mapping.close()

    def _start(self, item: int) -> int:
        return item * self.slot_px * _slots(self.spec)

    def _view(self, start: int, count: int) -> Bytes:
        return np.frombuffer(self.mapping, np.uint8, count, start)


def _size_bytes(spec: ModelSpec) -> int:
    return spec.batch * _slot_px(spec) * _slots(spec)


def _slots(spec: ModelSpec) -> int:
    """Of `slot_px` bytes each, for one picture."""
    return 3 * spec.inputs + 2


def _slot_px(spec: ModelSpec) -> int:
    """Pixels of the largest shape, rounded up so that every slot starts on a page."""
    largest = max(height * width for height, width in spec.shapes)
    return -(-largest // mmap.PAGESIZE) * mmap.PAGESIZE
