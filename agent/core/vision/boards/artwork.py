"""Procedural printed circuit boards: where copper, pads, holes and print lie.

Everything is laid on a grid of cells one pitch wide, so nets keep their distance by construction: a cell belongs to one
net, and traces run from cell to cell in steps of 45 degrees as a router draws them.
"""

from dataclasses import dataclass, field
from typing import Final

import cv2
import numpy as np
import numpy.typing as npt

Layer = npt.NDArray[np.uint8]
Cell = tuple[int, int]

_STEPS: Final = ((1, 0), (1, 1), (0, 1), (-1, 1), (-1, 0), (-1, -1), (0, -1), (1, -1))
_FREE: Final = 0


@dataclass(frozen=True, slots=True)
class Trace:
    """A straight piece of a net, (x, y) in pixels."""

    start: tuple[float, float]
    end: tuple[float, float]
    width_px: int


@dataclass(frozen=True, slots=True)
class Artwork:
    """The layers of a board without faults, each (H, W) uint8 of 0 and 255.

    `copper` has the pads and not the holes; `pads` is the copper that no solder mask covers.
    """

    copper: Layer
    pads: Layer
    holes: Layer
    print: Layer
    traces: tuple[Trace, ...]


@dataclass(slots=True)
class _Sheet:
    """Work in progress; `nets` gives each cell's net, 0 where it is free, `padded` the cells under a pad, and `owner`
    the net of each pixel of routed copper.
    """

    rng: np.random.Generator
    pitch_px: float
    nets: npt.NDArray[np.int32]
    padded: npt.NDArray[np.bool_]
    copper: Layer
    pads: Layer
    holes: Layer
    print: Layer
    owner: npt.NDArray[np.int32]
    traces: list[Trace] = field(default_factory=list)
    ports: list[Cell] = field(default_factory=list)
    last_net: int = _FREE

    def at(self, column: float, row: float) -> tuple[int, int]:
        return round((column + 0.5) * self.pitch_px), round((row + 0.5) * self.pitch_px)

    def claim(self, left: int, top: int, columns: int, rows: int) -> bool:
        """Take a block of cells for pads if it lies on the board and is free with one cell around it."""
        high, wide = self.nets.shape
        if left < 1 or top < 1 or left + columns >= wide or top + rows >= high:
            return False
        if self.nets[top - 1 : top + rows + 1, left - 1 : left + columns + 1].any():
            return False
        self.last_net += 1
        self.nets[top : top + rows, left : left + columns] = self.last_net
        self.padded[top : top + rows, left : left + columns] = True
        return True


def draw(rng: np.random.Generator, height_px: int, width_px: int, pitch_px: float) -> Artwork:
    """Lay out a board of that size; `pitch_px` is the distance of neighbouring traces, 8 px at least.

    Traces are 0.3 to 0.5 of the pitch wide and keep 0.15 of it from the copper of other nets. The same state of `rng`
    gives the same board.
    """
    if pitch_px < 8 or min(height_px, width_px) < 6 * pitch_px:
        raise ValueError(
            f"{width_px}x{height_px} px is too small for a pitch of {pitch_px:g} px, or the pitch is below 8"
        )
    cells = int(height_px / pitch_px), int(width_px / pitch_px)
    blank = np.zeros((height_px, width_px), np.uint8)
    copper, pads, holes, print_ = (blank.copy() for _ in range(4))
    owner = np.zeros((height_px, width_px), np.int32)
    nets, padded = np.zeros(cells, np.int32), np.zeros(cells, np.bool_)
    sheet = _Sheet(rng, pitch_px, nets, padded, copper, pads=pads, holes=holes, print=print_, owner=owner)
    area = cells[0] * cells[1]
    for place, share in ((_plane, 400), (_mount, 500), (_chip, 150), (_pair, 45), (_via, 45)):
        for _ in range(rng.poisson(area / share)):
            place(sheet)
    for _ in range(int(area / rng.uniform(7, 16))):
        _route(sheet)
    if rng.random() < 0.25:
        _pour(sheet)
    sheet.copper[sheet.holes > 0] = 0
    sheet.print[cv2.dilate(sheet.copper | sheet.holes, np.ones((3, 3), np.uint8)) > 0] = 0
    return Artwork(sheet.copper, sheet.pads & sheet.copper, sheet.holes, sheet.print, tuple(sheet.traces))


def _spot(sheet: _Sheet) -> Cell:
    high, wide = sheet.nets.shape
    return int(sheet.rng.integers(0, wide)), int(sheet.rng.integers(0, high))


def _box(sheet: _Sheet, centre: tuple[int, int], half_px: tuple[float, float], *, rounded: bool) -> None:
    (x, y), (half_w, half_h) = centre, (max(2, round(half_px[0])), max(2, round(half_px[1])))
    for layer in (sheet.copper, sheet.pads):
        if rounded:
            radius = min(half_w, half_h)
            bend_x, bend_y = half_w - radius, half_h - radius
            cv2.line(layer, (x - bend_x, y - bend_y), (x + bend_x, y + bend_y), 255, 2 * radius)
        else:
            cv2.rectangle(layer, (x - half_w, y - half_h), (x + half_w, y + half_h), 255, -1)


def _plane(sheet: _Sheet) -> None:
    """A block of solid copper with cut corners and, often, holes."""
    (left, top), (columns, rows) = _spot(sheet), sheet.rng.integers(3, 9, 2).tolist()
    if not sheet.claim(left, top, columns, rows):
        return
    (x0, y0), (x1, y1) = sheet.at(left - 0.4, top - 0.4), sheet.at(left + columns - 0.6, top + rows - 0.6)
    cut = round(sheet.rng.uniform(0, 1.2) * sheet.pitch_px)
    corners = [(x0 + cut, y0), (x1 - cut, y0), (x1, y0 + cut), (x1, y1 - cut)]
    corners += [(x1 - cut, y1), (x0 + cut, y1), (x0, y1 - cut), (x0, y0 + cut)]
    cv2.fillPoly(sheet.copper, [np.array(corners, np.int32)], 255)
    if sheet.rng.random() < 0.5:
        middle = sheet.at(left + (columns - 1) / 2, top + (rows - 1) / 2)
        cv2.circle(sheet.holes, middle, round(sheet.rng.uniform(0.4, 1.1) * sheet.pitch_px), 255, -1)
    sheet.ports.append((left, top + rows // 2))


def _mount(sheet: _Sheet) -> None:
    """A mounting hole in a ring."""
    left, top = _spot(sheet)
    if sheet.claim(left, top, 4, 4):
        radius = sheet.rng.uniform(1.3, 1.9) * sheet.pitch_px
        middle = sheet.at(left + 1.5, top + 1.5)
        cv2.circle(sheet.copper, middle, round(radius), 255, -1)
        cv2.circle(sheet.pads, middle, round(radius), 255, -1)
        cv2.circle(sheet.holes, middle, round(radius * sheet.rng.uniform(0.4, 0.75)), 255, -1)


def _chip(sheet: _Sheet) -> None:
    """Two rows of fingers, and the outline and mark that are printed between them."""
    (left, top), columns, upright = _spot(sheet), int(sheet.rng.integers(3, 11)), bool(sheet.rng.random() < 0.5)
    gap = int(sheet.rng.integers(2, 5))
    size = (4 + gap, columns) if upright else (columns, 4 + gap)
    if not sheet.claim(left, top, *size):
        return
    half = sheet.rng.uniform(0.22, 0.34) * sheet.pitch_px, 0.85 * sheet.pitch_px
    rounded = bool(sheet.rng.random() < 0.4)
    for pin in range(columns):
        for row, port in ((0.5, 0), (2.5 + gap, 3 + gap)):
            sheet.last_net += 1
            for depth in (int(row), int(row) + 1):
                sheet.nets[(top + pin, left + depth) if upright else (top + depth, left + pin)] = sheet.last_net
            centre = sheet.at(left + row, top + pin) if upright else sheet.at(left + pin, top + row)
            _box(sheet, centre, half[::-1] if upright else half, rounded=rounded)
            sheet.ports.append((left + port, top + pin) if upright else (left + pin, top + port))
    corner = (2, 0) if upright else (0, 2)
    far = (left + size[0] - 1 - corner[0], top + size[1] - 1 - corner[1])
    thick = max(1, round(sheet.pitch_px / 12))
    cv2.rectangle(sheet.print, sheet.at(left + corner[0], top + corner[1]), sheet.at(*far), 255, thick)


def _pair(sheet: _Sheet) -> None:
    """The two pads of a resistor or a capacitor, with its name."""
    (left, top), upright = _spot(sheet), bool(sheet.rng.random() < 0.5)
    if not sheet.claim(left, top, *((1, 3) if upright else (3, 1))):
        return
    half = sheet.rng.uniform(0.42, 0.52) * sheet.pitch_px, sheet.rng.uniform(0.38, 0.52) * sheet.pitch_px
    rounded = bool(sheet.rng.random() < 0.3)
    for step in (0, 2):
        sheet.last_net += 1
        column, row = (left, top + step) if upright else (left + step, top)
        sheet.nets[row, column] = sheet.last_net
        _box(sheet, sheet.at(column, row), half[::-1] if upright else half, rounded=rounded)
        sheet.ports.append((column, row))
    name = "RCLD"[int(sheet.rng.integers(4))] + str(sheet.rng.integers(1, 99))
    cv2.putText(
        sheet.print, name, sheet.at(left - 0.3, top - 0.6), cv2.FONT_HERSHEY_SIMPLEX, sheet.pitch_px / 36, 255, 1
    )


def _via(sheet: _Sheet) -> None:
    left, top = _spot(sheet)
    if sheet.claim(left, top, 1, 1):
        _ring(sheet, (left, top), sheet.last_net)
        sheet.ports.append((left, top))


def _ring(sheet: _Sheet, cell: Cell, net: int) -> None:
    """A round pad, left out where it would come too near to a trace that passes by."""
    radius = max(3, round(sheet.rng.uniform(0.34, 0.47) * sheet.pitch_px))
    reach, (x, y) = radius + round(0.15 * sheet.pitch_px) + 1, sheet.at(*cell)
    near = sheet.owner[max(0, y - reach) : y + reach + 1, max(0, x - reach) : x + reach + 1]
    rows, columns = np.nonzero((near != _FREE) & (near != net))
    if len(rows) and np.hypot(rows - min(y, reach), columns - min(x, reach)).min() < reach:
        return
    sheet.padded[cell[1], cell[0]] = True
    for layer in (sheet.copper, sheet.pads):
        cv2.circle(layer, sheet.at(*cell), radius, 255, -1)
    if sheet.rng.random() < 0.4:
        cv2.circle(sheet.holes, sheet.at(*cell), max(1, round(radius * sheet.rng.uniform(0.35, 0.55))), 255, -1)


def _route(sheet: _Sheet) -> None:
    """Walk from a port or a free cell until the way is blocked, and end in a ring."""
    from_port = bool(sheet.ports) and sheet.rng.random() < 0.7
    cell = sheet.ports.pop(int(sheet.rng.integers(len(sheet.ports)))) if from_port else _spot(sheet)
    if not from_port and sheet.nets[cell[1], cell[0]] != _FREE:
        return
    sheet.last_net += 1
    net = int(sheet.nets[cell[1], cell[0]]) or sheet.last_net
    path, heading = [cell], int(sheet.rng.integers(8))
    for _ in range(int(sheet.rng.integers(4, 30))):
        turns = (0, -1, 1) if sheet.rng.random() < 0.8 else (-1, 1, 0) if sheet.rng.random() < 0.5 else (1, -1, 0)
        tries = turns if len(path) > 1 else range(8)
        found = next((h % 8 for h in (heading + t for t in tries) if _open_way(sheet, path[-1], h % 8)), None)
        if found is None:
            break
        heading = found
        path.append((path[-1][0] + _STEPS[heading][0], path[-1][1] + _STEPS[heading][1]))
        sheet.nets[path[-1][1], path[-1][0]] = net
    if len(path) < 3:
        return
    _stroke(sheet, path, net)
    for end in (path[-1],) if from_port else (path[0], path[-1]):
        if sheet.rng.random() < 0.7:
            _ring(sheet, end, net)


def _open_way(sheet: _Sheet, cell: Cell, heading: int) -> bool:
    dx, dy = _STEPS[heading]
    x, y = cell[0] + dx, cell[1] + dy
    high, wide = sheet.nets.shape
    if not (0 <= x < wide and 0 <= y < high) or sheet.nets[y, x] != _FREE:
        return False
    if dx == 0 or dy == 0:
        return True
    # A diagonal step passes between two cells: it must not cross a trace that joins them, nor graze a pad in one.
    side, other = (cell[1], x), (y, cell[0])
    crosses = sheet.nets[side] != _FREE and sheet.nets[side] == sheet.nets[other]
    return not (crosses or sheet.padded[side] or sheet.padded[other])


def _stroke(sheet: _Sheet, path: list[Cell], net: int) -> None:
    width = max(3, round(sheet.rng.uniform(0.3, 0.5) * sheet.pitch_px))
    start = 0
    for i in range(1, len(path)):
        ahead = path[i + 1] if i + 1 < len(path) else None
        if ahead and (ahead[0] - path[i][0], ahead[1] - path[i][1]) == (
            path[i][0] - path[i - 1][0],
            path[i][1] - path[i - 1][1],
        ):
            continue
        a, b = sheet.at(*path[start]), sheet.at(*path[i])
        cv2.line(sheet.copper, a, b, 255, width)
        cv2.line(sheet.owner, a, b, net, width)
        sheet.traces.append(Trace(a, b, width))
        start = i


def _pour(sheet: _Sheet) -> None:
    """Fill what is left with grounded copper that keeps its distance."""
    gap = 2 * max(3, round(sheet.rng.uniform(0.2, 0.45) * sheet.pitch_px)) + 1
    keep_out = cv2.dilate(sheet.copper | sheet.holes, cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (gap, gap)))
    least = 2 * round(0.2 * sheet.pitch_px) + 1
    ground = cv2.bitwise_not(keep_out)
    ground = cv2.morphologyEx(ground, cv2.MORPH_OPEN, cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (least, least)))
    edge = max(2, round(0.3 * sheet.pitch_px))
    ground[:edge], ground[-edge:], ground[:, :edge], ground[:, -edge:] = 0, 0, 0, 0
    sheet.copper |= ground.astype(np.uint8)
