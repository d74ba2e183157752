"""Faults of etching, drawn into the copper of a board, with the exact mask of what changed."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import Final

import cv2
import numpy as np
import numpy.typing as npt

from agent.core.vision.boards.artwork import Artwork, Layer

Point = tuple[float, float]


class Defect(IntEnum):
    """The value is the class id in masks; 0 is the background."""

    OPEN = 1
    SHORT = 2
    MOUSEBITE = 3
    SPUR = 4
    SPURIOUS_COPPER = 5
    PIN_HOLE = 6


_REMOVES: Final = frozenset({Defect.OPEN, Defect.MOUSEBITE, Defect.PIN_HOLE})
_TRIES: Final = 40


@dataclass(frozen=True, slots=True)
class Flawed:
    """`copper` (H, W) uint8 of 0 and 255 after the faults; `mask` (H, W) uint8 holds the `Defect` of each pixel that
    the faults changed, else 0; `defects` is what could be placed, in order.
    """

    copper: Layer
    mask: Layer
    defects: tuple[Defect, ...]


@dataclass(slots=True)
class _Plate:
    """The board before the faults, and measures of it that every fault needs."""

    rng: np.random.Generator
    art: Artwork
    detail_px: float
    inside: npt.NDArray[np.float32]
    outside: npt.NDArray[np.float32]
    nets: npt.NDArray[np.int32]
    edge: npt.NDArray[np.int64]

    def has(self, x: float, y: float) -> bool:
        high, wide = self.inside.shape
        return bool(0 <= round(x) < wide and 0 <= round(y) < high)

    def radius_px(self, low: float = 2.0, high: float = 5.0) -> float:
        return float(self.rng.uniform(low, high)) * self.detail_px

    def rim(self) -> tuple[Point, Point]:
        """Return a point on the edge of copper, and the unit vector that leads out of the copper there."""
        index = int(self.edge[self.rng.integers(len(self.edge))])
        y, x = divmod(index, self.inside.shape[1])
        patch = (self.outside - self.inside)[max(0, y - 2) : y + 3, max(0, x - 2) : x + 3]
        gy, gx = (float(np.diff(patch, axis=axis).mean()) for axis in (0, 1))
        length = float(np.hypot(gx, gy)) or 1.0
        return (x, y), (gx / length, gy / length)

    def run_px(self, start: Point, way: Point, limit_px: float, *, in_copper: bool) -> float:
        """How far one can go from `start` before copper ends (or begins); `limit_px` if it does not."""
        for step in range(2, int(limit_px) + 1):
            x, y = start[0] + way[0] * step, start[1] + way[1] * step
            if not self.has(x, y):
                return float(step)
            if (self.inside[round(y), round(x)] > 0) != in_copper:
                return float(step)
        return limit_px

    def stencil(self) -> Layer:
        return np.zeros(self.inside.shape, np.uint8)


def flaw(art: Artwork, rng: np.random.Generator, kinds: Sequence[Defect], detail_px: float = 1.0) -> Flawed:
    """Draw faults of these kinds into the board, apart from each other.

    A fault is about 4 to 12 times `detail_px` large. One for which the board has no place is left out.
    """
    copper, mask = art.copper.copy(), np.zeros_like(art.copper)
    if not kinds:
        return Flawed(copper, mask, ())
    plate = _measure(art, rng, detail_px)
    taken = np.asarray(cv2.dilate(art.holes | art.print, np.ones((5, 5), np.uint8)), np.uint8)
    apart = cv2.getStructuringElement(cv2.MORPH_RECT, (2 * round(4 * detail_px) + 1,) * 2)
    placed: list[Defect] = []
    for kind in kinds:
        changed = _place(plate, kind, taken)
        if changed is None:
            continue
        copper[changed > 0] = 0 if kind in _REMOVES else 255
        mask[changed > 0] = kind
        taken |= np.asarray(cv2.dilate(changed, apart), np.uint8)
        placed.append(kind)
    return Flawed(copper, mask, tuple(placed))


def _measure(art: Artwork, rng: np.random.Generator, detail_px: float) -> _Plate:
    inside = cv2.distanceTransform(art.copper, cv2.DIST_L2, 3).astype(np.float32)
    outside = cv2.distanceTransform(cv2.bitwise_not(art.copper), cv2.DIST_L2, 3).astype(np.float32)
    nets = cv2.connectedComponents(art.copper, connectivity=8)[1].astype(np.int32)
    edge = np.flatnonzero((inside > 0) & (inside < 1.2))
    return _Plate(rng, art, detail_px, inside, outside, nets, edge)


def _place(plate: _Plate, kind: Defect, taken: Layer) -> Layer | None:
    """Return what to change (0 and 255), or None if no try fitted."""
    least = 9 * plate.detail_px**2
    if len(plate.edge) == 0:
        return None
    for _ in range(_TRIES):
        stencil = _DRAW[kind](plate)
        if stencil is None:
            continue
        changed = stencil & (plate.art.copper if kind in _REMOVES else ~plate.art.copper)
        if cv2.countNonZero(changed) < least or cv2.countNonZero(changed & taken):
            continue
        if kind in _REMOVES or _joins(plate, changed) == _NETS_TOUCHED[kind]:
            return changed
    return None


def _joins(plate: _Plate, added: Layer) -> int:
    """How many nets the added copper touches; 2 stands for two and more."""
    x, y, wide, high = cv2.boundingRect(added)
    window = np.s_[max(0, y - 2) : y + high + 2, max(0, x - 2) : x + wide + 2]
    near = cv2.dilate(added[window], np.ones((3, 3), np.uint8)) > 0
    return min(2, len(np.unique(plate.nets[window][near & (plate.nets[window] > 0)])))


def _blob(plate: _Plate, centre: Point, radius_px: float, stretch: float = 1.0, along: Point = (1.0, 0.0)) -> Layer:
    """An uneven patch, `stretch` times longer `along` than across."""
    corners = int(plate.rng.integers(7, 13))
    angles = np.linspace(0, 2 * np.pi, corners, endpoint=False)
    radii = radius_px * plate.rng.uniform(0.65, 1.3, corners)
    u, v = radii * np.cos(angles) * stretch, radii * np.sin(angles)
    ring = np.stack([centre[0] + u * along[0] - v * along[1], centre[1] + u * along[1] + v * along[0]], axis=1)
    stencil = plate.stencil()
    cv2.fillPoly(stencil, [np.round(ring * 16).astype(np.int32)], 255, shift=4)
    return stencil


def _any_way(plate: _Plate) -> Point:
    angle = float(plate.rng.uniform(0, np.pi))
    return float(np.cos(angle)), float(np.sin(angle))


def _open(plate: _Plate) -> Layer | None:
    """A ragged cut across a trace."""
    traces = plate.art.traces
    if not traces:
        return None
    trace = traces[int(plate.rng.integers(len(traces)))]
    dx, dy = trace.end[0] - trace.start[0], trace.end[1] - trace.start[1]
    length = float(np.hypot(dx, dy))
    if length < 2.5 * trace.width_px:
        return None
    at = float(plate.rng.uniform(0.3, 0.7))
    centre = trace.start[0] + dx * at, trace.start[1] + dy * at
    slant = float(plate.rng.uniform(-0.5, 0.5))
    along = dx / length, dy / length
    across = -along[1] + slant * along[0], along[0] + slant * along[1]
    half_cut, reach = plate.radius_px(1.2, 4.0), trace.width_px / 2 + 2
    sides = []
    for side in (-1, 1):
        for t in np.linspace(-reach, reach, 5) * -side:
            cut = side * half_cut * float(plate.rng.uniform(0.5, 1.3))
            sides.append((centre[0] + t * across[0] + cut * along[0], centre[1] + t * across[1] + cut * along[1]))
    stencil = plate.stencil()
    cv2.fillPoly(stencil, [np.round(np.array(sides) * 16).astype(np.int32)], 255, shift=4)
    own = plate.stencil()
    start, end = ((round(x), round(y)) for x, y in (trace.start, trace.end))
    cv2.line(own, start, end, 255, trace.width_px + 2)
    return stencil & own


def _short(plate: _Plate) -> Layer | None:
    """A bridge from the edge of one net to the next."""
    start, way = plate.rim()
    reach = plate.run_px(start, way, 26 * plate.detail_px, in_copper=False)
    end = start[0] + way[0] * (reach + 2), start[1] + way[1] * (reach + 2)
    if reach >= 26 * plate.detail_px or not plate.has(*end):
        return None
    stencil, previous = plate.stencil(), start
    width = max(2, round(plate.radius_px(2.0, 6.0)))
    joints = max(1, int(reach / (5 * plate.detail_px)))
    for joint in range(1, joints + 1):
        sway = plate.rng.uniform(-1.5, 1.5, 2) * plate.detail_px * (joint < joints)
        share = joint / joints
        point = (
            start[0] + (end[0] - start[0]) * share + float(sway[0]),
            start[1] + (end[1] - start[1]) * share + float(sway[1]),
        )
        thick = max(2, width + int(plate.rng.integers(-1, 2)))
        cv2.line(stencil, (round(previous[0]), round(previous[1])), (round(point[0]), round(point[1])), 255, thick)
        previous = point
    return stencil


def _mousebite(plate: _Plate) -> Layer | None:
    """A bite out of an edge that leaves the trace whole."""
    start, way = plate.rim()
    width = plate.run_px(start, (-way[0], -way[1]), 40 * plate.detail_px, in_copper=True)
    radius = min(plate.radius_px(2.5, 5.5), 0.45 * width)
    if radius < 1.9 * plate.detail_px:
        return None
    return _blob(plate, start, radius, float(plate.rng.uniform(0.8, 1.9)), (-way[1], way[0]))


def _spur(plate: _Plate) -> Layer | None:
    """A thorn on an edge that reaches no other net."""
    start, way = plate.rim()
    room = plate.run_px(start, way, 40 * plate.detail_px, in_copper=False)
    radius = min(plate.radius_px(2.5, 5.5), 0.4 * room)
    if radius < 1.9 * plate.detail_px:
        return None
    centre = start[0] + way[0] * radius * 0.4, start[1] + way[1] * radius * 0.4
    return _blob(plate, centre, radius, float(plate.rng.uniform(0.7, 1.4)), way)


def _spurious(plate: _Plate) -> Layer | None:
    return _island(plate, plate.outside)


def _pin_hole(plate: _Plate) -> Layer | None:
    return _island(plate, plate.inside)


def _island(plate: _Plate, room: npt.NDArray[np.float32]) -> Layer | None:
    """A patch all around which the ground stays as it was."""
    radius, stretch = plate.radius_px(1.8, 4.5), float(plate.rng.uniform(0.8, 1.8))
    reach = 1.3 * radius * max(1.0, stretch) + 2.5 * plate.detail_px
    places = np.flatnonzero(room > reach)
    if len(places) == 0:
        return None
    y, x = divmod(int(places[plate.rng.integers(len(places))]), room.shape[1])
    return _blob(plate, (x, y), radius, stretch, _any_way(plate))


_DRAW: Final[dict[Defect, Callable[[_Plate], Layer | None]]] = {
    Defect.OPEN: _open,
    Defect.SHORT: _short,
    Defect.MOUSEBITE: _mousebite,
    Defect.SPUR: _spur,
    Defect.SPURIOUS_COPPER: _spurious,
    Defect.PIN_HOLE: _pin_hole,
}
_NETS_TOUCHED: Final = {Defect.SHORT: 2, Defect.SPUR: 1, Defect.SPURIOUS_COPPER: 0}
