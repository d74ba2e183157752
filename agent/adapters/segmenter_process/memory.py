"""The memory that parent and child share: what is asked one way, the answer the other.

It is a memfd: it has no name, so nothing is left in /dev/shm however either side ends, and no resource tracker is
needed. The kernel frees it with the last mapping.
"""

import contextlib
import math
import mmap
import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import accumulate
from typing import Any

import numpy as np
import numpy.typing as npt


@dataclass(frozen=True, slots=True)
class SharedMemory:
    """Slots of so many bytes, one after the other, each starting on a page."""

    slots: tuple[int, ...]
    mapping: mmap.mmap
    starts: tuple[int, ...] = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "starts", tuple(accumulate(map(_whole_pages, self.slots), initial=0)))

    @classmethod
    def create(cls, slots: Sequence[int]) -> tuple["SharedMemory", int]:
        """Return the memory, zeroed, and its descriptor, which the caller closes once the child has it."""
        fd = os.memfd_create("rkfleet-segmenter", os.MFD_CLOEXEC)
        try:
            os.ftruncate(fd, _size_bytes(slots))
            return cls(tuple(slots), mmap.mmap(fd, _size_bytes(slots))), fd
        except OSError:
            os.close(fd)
            raise

    @classmethod
    def attach(cls, slots: Sequence[int], fd: int) -> "SharedMemory":
        """Map what the other side has created, and close the descriptor."""
        try:
            return cls(tuple(slots), mmap.mmap(fd, _size_bytes(slots)))
        finally:
            os.close(fd)

    def view(self, slot: int, dims: Sequence[int], dtype: npt.DTypeLike = np.uint8) -> npt.NDArray[Any]:
        """An array that lies at the slot's start. It must fit."""
        count = math.prod(dims)
        if count * np.dtype(dtype).itemsize > self.slots[slot]:
            raise ValueError(f"{dims} of {np.dtype(dtype)} in a slot of {self.slots[slot]} bytes")
        return np.frombuffer(self.mapping, dtype, count, self.starts[slot]).reshape(dims)

    def release(self) -> None:
        """Unmap now, or with the last view that somebody still holds."""
        with contextlib.suppress(BufferError):
            self.mapping.close()


def _whole_pages(size_bytes: int) -> int:
    return -(-size_bytes // mmap.PAGESIZE) * mmap.PAGESIZE


def _size_bytes(slots: Sequence[int]) -> int:
    return sum(map(_whole_pages, slots))
