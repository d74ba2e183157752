"""The dataset port: what every source of pictures gives to training, calibration and measurement."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt

from agent.core.frame import Pixels

Mask = npt.NDArray[np.uint8]


class DataError(ValueError):
    """A picture, a mask or a list is missing, broken or does not fit the rest; the text names the file."""


@dataclass(frozen=True, slots=True)
class Sample:
    """Shapes: image and reference (H, W, 3) uint8 RGB, maybe read-only; mask (H, W) uint8 of class ids.

    `reference` is the same view of a board without defects, to within a pixel or two.
    """

    id: str
    image: Pixels
    mask: Mask
    reference: Pixels | None = None

    def __post_init__(self) -> None:
        shape = (*self.mask.shape, 3)
        if self.image.shape != shape or (self.reference is not None and self.reference.shape != shape):
            raise DataError(
                f"{self.id}: image, reference and mask must be of one size, {self.mask.shape} px by the mask"
            )

    def inputs(self, roles: Sequence[str]) -> tuple[Pixels, ...]:
        """The pictures by their roles in the manifest. Raises DataError when there is no reference."""
        by_role = {"image": self.image, "reference": self.reference}
        given = tuple(by_role[role] for role in roles)
        if any(each is None for each in given):
            raise DataError(f"{self.id} has no reference picture, and the model compares with one")
        return tuple(each for each in given if each is not None)


class Dataset(Protocol):
    """Samples by id, in a fixed order. `read` raises DataError."""

    @property
    def classes(self) -> tuple[str, ...]: ...

    @property
    def ids(self) -> tuple[str, ...]: ...

    def read(self, sample_id: str) -> Sample: ...


def read_all(data: Dataset, ids: Sequence[str] | None = None) -> list[Sample]:
    """All samples in memory, or those named."""
    return [data.read(sample_id) for sample_id in (data.ids if ids is None else ids)]
