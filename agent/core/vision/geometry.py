"""Where the camera's pixels lie in the model's input, and the exact way back.

Three frames of coordinates, all in pixel edges (the pixel in the corner spans 0 to 1, its centre is 0.5):
camera (the whole picture), canvas (the region of interest, scaled), tile (one model input, cut from the canvas).
A camera pixel takes the value of the canvas pixel that holds its centre. All of it is integer arithmetic, so that
areas, boxes, polygons and masks agree to the pixel.
"""

from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise
from typing import Self

import numpy as np
import numpy.typing as npt

from schemas.manifest import Letterbox, Tile

Ints = npt.NDArray[np.int64]
Size = tuple[int, int]
"""(height, width) in pixels."""


@dataclass(frozen=True, slots=True)
class Roi:
    """A rectangle in camera pixels. Errors: ValueError when it is empty or starts left of or above the picture."""

    x: int
    y: int
    w: int
    h: int

    def __post_init__(self) -> None:
        if self.w < 1 or self.h < 1:
            raise ValueError(f"a region of interest of {self.w}x{self.h} pixels is empty")
        if self.x < 0 or self.y < 0:
            raise ValueError(f"a region of interest cannot start at ({self.x}, {self.y})")

    def clip(self, frame_hw: Size, *, even: bool) -> Self:
        """The part inside the picture; with `even` grown outwards to even coordinates, as NV12 needs.

        Errors: ValueError when nothing of it lies inside.
        """
        height, width = frame_hw
        right, bottom = min(self.x + self.w, width), min(self.y + self.h, height)
        if self.x >= right or self.y >= bottom:
            raise ValueError(f"the region of interest {self} lies outside the picture of {width}x{height} pixels")
        left, top = self.x, self.y
        if even:
            left, top, right, bottom = left - left % 2, top - top % 2, right + right % 2, bottom + bottom % 2
        return type(self)(left, top, right - left, bottom - top)


@dataclass(frozen=True, slots=True)
class Placement:
    """How one picture lies in its model inputs.

    Shapes: frame_hw is the camera's picture, roi the part of it that is looked at, canvas_hw that part scaled, tile_hw
    one model input. Tile number `i` is row `i // len(lefts)`, column `i % len(lefts)`; `tops` and `lefts` are the
    tiles' origins in canvas pixels, negative where the tile is larger than the canvas and is filled up.
    """

    frame_hw: Size
    roi: Roi
    canvas_hw: Size
    tile_hw: Size
    tops: tuple[int, ...]
    lefts: tuple[int, ...]

    @property
    def tiles(self) -> int:
        return len(self.tops) * len(self.lefts)

    def origin(self, tile: int) -> tuple[int, int]:
        """(top, left) of a tile in canvas pixels."""
        row, column = divmod(tile, len(self.lefts))
        return self.tops[row], self.lefts[column]

    def owned(self, tile: int) -> tuple[slice, slice]:
        """Rows and columns of the canvas that this tile decides: those that lie deeper in it than in a neighbour.

        Depth is the distance to the tile's nearest edge. Rows and columns are chosen apart, which is the same: the
        lesser of two depths is greatest where each is greatest.
        """
        row, column = divmod(tile, len(self.lefts))
        return (
            _owned(self.tops, self.tile_hw[0], self.canvas_hw[0])[row],
            _owned(self.lefts, self.tile_hw[1], self.canvas_hw[1])[column],
        )

    def to_tile(self, x: float, y: float, tile: int = 0) -> tuple[float, float]:
        """A camera point in the coordinates of a tile."""
        top, left = self.origin(tile)
        canvas_x = (x - self.roi.x) * self.canvas_hw[1] / self.roi.w
        return canvas_x - left, (y - self.roi.y) * self.canvas_hw[0] / self.roi.h - top

    def to_camera(self, x: float, y: float, tile: int = 0) -> tuple[float, float]:
        """A tile's point in camera coordinates: the undo of `to_tile`."""
        top, left = self.origin(tile)
        camera_x = self.roi.x + (x + left) * self.roi.w / self.canvas_hw[1]
        return camera_x, self.roi.y + (y + top) * self.roi.h / self.canvas_hw[0]

    @property
    def rows(self) -> "Axis":
        return axis(self.roi.h, self.canvas_hw[0])

    @property
    def columns(self) -> "Axis":
        return axis(self.roi.w, self.canvas_hw[1])


@dataclass(frozen=True, slots=True)
class Axis:
    """One axis of the way back, on a grid of cells each of which covers at least one camera pixel.

    Shapes: edges (cells + 1,) are the camera coordinates, from the region of interest's start, where cells begin and
    end. `pick` (cells,) is the canvas pixel of each cell, or None where the cells are the canvas pixels themselves.
    """

    edges: Ints
    pick: Ints | None


@lru_cache(maxsize=64)
def axis(camera_px: int, canvas_px: int) -> Axis:
    """The way from `canvas_px` pixels back to `camera_px` pixels. The arrays are read-only."""
    if camera_px >= canvas_px:
        first = (2 * camera_px * np.arange(canvas_px + 1, dtype=np.int64) + canvas_px - 1) // (2 * canvas_px)
        first.setflags(write=False)
        return Axis(first, None)
    pick = (2 * np.arange(camera_px, dtype=np.int64) + 1) * canvas_px // (2 * camera_px)
    edges = np.arange(camera_px + 1, dtype=np.int64)
    pick.setflags(write=False)
    edges.setflags(write=False)
    return Axis(edges, pick)


@lru_cache(maxsize=64)
def place(frame_hw: Size, roi: Roi | None, tile_hw: Size, fit: Letterbox | Tile, *, even: bool) -> Placement:
    """Lay a picture into model inputs; `even` keeps NV12 on whole chroma pixels.

    Errors: ValueError when the region of interest lies outside the picture.
    """
    area = (roi or Roi(0, 0, frame_hw[1], frame_hw[0])).clip(frame_hw, even=even)
    if isinstance(fit, Tile):
        canvas_hw, overlap_px = _canvas(area, fit.scale), fit.overlap_px
    else:
        scale = min(tile_hw[0] / area.h, tile_hw[1] / area.w)
        canvas_hw, overlap_px = _canvas(area, scale), 0
        if scale != 1:
            canvas_hw = (min(canvas_hw[0], tile_hw[0] // 2 * 2), min(canvas_hw[1], tile_hw[1] // 2 * 2))
    tops = _origins(canvas_hw[0], tile_hw[0], overlap_px)
    return Placement(frame_hw, area, canvas_hw, tile_hw, tops, _origins(canvas_hw[1], tile_hw[1], overlap_px))


def _canvas(area: Roi, scale: float) -> Size:
    """Even sizes, since chroma has half the pixels; a picture that is not scaled keeps its own."""
    if scale == 1:
        return area.h, area.w
    return max(2, 2 * round(area.h * scale / 2)), max(2, 2 * round(area.w * scale / 2))


def _origins(canvas_px: int, tile_px: int, overlap_px: int) -> tuple[int, ...]:
    """Evenly spread, overlapping by at least `overlap_px`; one tile that is too large is centred."""
    if canvas_px <= tile_px:
        return ((canvas_px - tile_px) // 2,)
    last = -(-(canvas_px - overlap_px) // (tile_px - overlap_px)) - 1
    return tuple(i * (canvas_px - tile_px) // last for i in range(last + 1))


@lru_cache(maxsize=64)
def _owned(origins: tuple[int, ...], tile_px: int, canvas_px: int) -> tuple[slice, ...]:
    cuts = [0, *((a + b + tile_px) // 2 for a, b in pairwise(origins)), canvas_px]
    return tuple(slice(a, b) for a, b in pairwise(cuts))
