"""A picture from a camera."""

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

import numpy as np
import numpy.typing as npt

Pixels = npt.NDArray[np.uint8]


class Layout(StrEnum):
    RGB = "rgb"
    """(H, W, 3) uint8, R first."""
    NV12 = "nv12"
    """(H * 3 // 2, W) uint8: H rows of Y, then H/2 rows of interleaved U and V. H and W are even; no padding."""


@dataclass(frozen=True, slots=True)
class Picture:
    """Pixels as a camera gave them. The array is never written to once it is here."""

    pixels: Pixels
    layout: Layout

    @property
    def width_px(self) -> int:
        return int(self.pixels.shape[1])

    @property
    def height_px(self) -> int:
        rows = int(self.pixels.shape[0])
        return rows * 2 // 3 if self.layout is Layout.NV12 else rows


@dataclass(frozen=True, slots=True)
class Order:
    """Why a picture was asked for: the job, and what the MES calls the part in it. The recipe replaces the camera's."""

    job_id: str
    part_id: str | None = None
    product_id: str | None = None
    lot_id: str | None = None
    work_order_id: str | None = None
    recipe: str | None = None


@dataclass(frozen=True, slots=True)
class Frame:
    """A picture with its origin.

    Units: seq counts the camera's pictures since start, drops included; captured_at is UTC; captured_mono_s is the
    monotonic clock at the same instant; acquisition_ms is the time that the camera took to give the picture.
    """

    picture: Picture
    camera: str
    seq: int
    captured_at: datetime
    captured_mono_s: float
    acquisition_ms: float
    order: Order | None = None
