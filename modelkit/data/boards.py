"""Drawn boards behind the dataset port: fixed pictures of `modelkit.synthesise`, drawn when they are read."""

from functools import lru_cache

from modelkit import synthesise
from modelkit.data.deeppcb import CLASSES
from modelkit.data.sample import DataError, Sample

_BLOCK = 4
"""Every fourth is a picture of the conveyor, so pictures are drawn by the block."""


class Boards:
    """`count` pictures of `size_px` square, the same for the same `first`; with `shots` (its `size_px` then counts)
    pairs with a reference instead. Ids are numbers from 0.

    Training draws its own, without end: `synthesise.training`. Raises DataError for no picture.
    """

    def __init__(
        self, count: int, first: int = 0, size_px: int = synthesise.PLATE_PX, *, shots: synthesise.Shots | None = None
    ) -> None:
        if count < 1:
            raise DataError(f"{count} drawn boards: there must be at least one")
        self._count, self._first, self._size_px, self._shots = count, first, size_px, shots
        self._block = lru_cache(maxsize=2)(self._drawn)

    @property
    def classes(self) -> tuple[str, ...]:
        return CLASSES

    @property
    def ids(self) -> tuple[str, ...]:
        return tuple(f"{number:05d}" for number in range(self._count))

    def read(self, sample_id: str) -> Sample:
        number = int(sample_id)
        drawn = self._block(number // _BLOCK)[number % _BLOCK]
        return Sample(sample_id, drawn.image, drawn.mask, drawn.reference)

    def _drawn(self, block: int) -> list[Sample]:
        first = self._first + block * _BLOCK
        if self._shots is not None:
            return synthesise.pairs(_BLOCK, self._shots, first)
        return synthesise.validation(_BLOCK, self._size_px, first)
