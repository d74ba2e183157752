"""From the class map to regions in camera pixels.

The truth is one mask: every camera pixel has the class of the canvas pixel that holds its centre. A region is a set of
pixels of one class that touch by a side or a corner. Nothing is drawn at the camera's size to find them: areas, boxes,
outlines and run lengths come from the class map and the edges of its pixels in the camera's picture.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from agent.core.vision import rle
from agent.core.vision.geometry import Ints, Placement
from agent.core.vision.prepare import View
from agent.core.vision.rle import Bits, Mask

Map = npt.NDArray[np.uint8]
MOST_REGIONS = 500
SQUARE = np.ones((2, 2), np.uint8)
FEW_BLOBS = 64
"""Up to here each blob is worked on by itself; above, labelling the whole map once is quicker."""


@dataclass(frozen=True, slots=True)
class Region:
    """One connected region. `score` is the mean softmax of the winning class over its pixels, 0 to 1.

    Units: camera pixels. `bbox` is (x, y, w, h). `polygon` is the outer contour along pixel edges, without holes,
    simplified to within half a pixel of the class map (at least one camera pixel) and never outside `bbox`.
    """

    class_id: int
    class_name: str
    score: float
    area_px: int
    bbox: tuple[int, int, int, int]
    polygon: tuple[tuple[int, int], ...]
    mask: Mask = field(repr=False, compare=False)

    @property
    def rle(self) -> list[int]:
        """COCO counts over the whole camera picture; worked out at each call."""
        return self.mask.counts()

    def rle_text(self) -> str:
        """The same in COCO's compressed form."""
        return rle.compress(self.mask.counts())


@dataclass(frozen=True, slots=True)
class Found:
    """Regions with the most score mass (score times area) first; `omitted` counts those above MOST_REGIONS."""

    regions: tuple[Region, ...] = ()
    omitted: int = 0


@dataclass(frozen=True, slots=True)
class _Grid:
    """What counts as a defect, cut to where there is any.

    Shapes: classes and score (h, w), classes 0 where nothing counts; shown is 255 where something does; rows (h + 1,)
    and columns (w + 1,) are edges in camera pixels, heights (h,) and widths (w,) the distances between them.
    """

    classes: Map
    score: Map
    shown: Map
    rows: Ints
    columns: Ints
    heights: Ints
    widths: Ints


@dataclass(frozen=True, slots=True, eq=False)
class _Piece:
    class_id: int
    top: int
    left: int
    cells: Bits
    area_px: int
    mass: int
    """Sum of the scores over the camera pixels, in 1/255."""


def regions(class_map: Map, score: Map, placement: Placement, view: View) -> Found:
    """Shapes: class_map and score (H, W) uint8 over the canvas, as `Stitch.result` gives them; a score is in 1/255,
    and 0 is background. Errors: ValueError for other shapes and for class ids that the model has not.
    """
    if class_map.shape != placement.canvas_hw or score.shape != placement.canvas_hw:
        raise ValueError(f"maps of {class_map.shape} and {score.shape} do not fit a canvas of {placement.canvas_hw}")
    if not cv2.countNonZero(class_map):
        return Found()
    grid = _grid(class_map, score, placement, view)
    if grid is None:
        return Found()
    contours, tree = cv2.findContours(grid.shown, cv2.RETR_CCOMP, cv2.CHAIN_APPROX_SIMPLE)
    # Holes have a parent; what lies within a hole has none.
    blobs = [contour for contour, node in zip(contours, tree[0], strict=True) if node[3] < 0]
    boxes = [cv2.boundingRect(blob) for blob in blobs]
    sparse = len(blobs) <= FEW_BLOBS and sum(w * h for _, _, w, h in boxes) <= 2 * grid.shown.size
    pieces = list(_blobwise(grid, blobs, boxes) if sparse else _classwise(grid, view))
    kept = [piece for piece in pieces if piece.area_px >= view.least_area_px[piece.class_id]]
    kept.sort(key=lambda piece: (-piece.mass, piece.class_id, piece.top, piece.left))
    listed = tuple(_region(piece, grid, placement, view) for piece in kept[:MOST_REGIONS])
    return Found(listed, len(kept) - len(listed))


def _grid(class_map: Map, score: Map, placement: Placement, view: View) -> _Grid | None:
    """None when no pixel reaches its class's score."""
    x, y, w, h = cv2.boundingRect(class_map)
    rows, columns = placement.rows, placement.columns
    row_edges, column_edges = rows.edges + placement.roi.y, columns.edges + placement.roi.x
    if rows.pick is not None or columns.pick is not None:
        ys = np.arange(class_map.shape[0]) if rows.pick is None else rows.pick
        xs = np.arange(class_map.shape[1]) if columns.pick is None else columns.pick
        class_map, score = class_map[np.ix_(ys, xs)], score[np.ix_(ys, xs)]
        x, y, w, h = cv2.boundingRect(class_map)
        if not w:
            return None
    here = slice(y, y + h), slice(x, x + w)
    classes, score = class_map[here], score[here]
    row_edges, column_edges = row_edges[y : y + h + 1], column_edges[x : x + w + 1]
    if cv2.minMaxLoc(classes)[1] >= len(view.names):
        raise ValueError(f"the class map has an id above {len(view.names) - 1}")
    limits = cv2.LUT(classes, np.frombuffer(view.limits, np.uint8))
    shown = cv2.compare(score, limits, cv2.CMP_GT)
    if not cv2.countNonZero(shown):
        return None
    return _Grid(
        np.asarray(cv2.bitwise_and(classes, shown), np.uint8),
        score,
        np.asarray(shown, np.uint8),
        row_edges,
        column_edges,
        row_edges[1:] - row_edges[:-1],
        column_edges[1:] - column_edges[:-1],
    )


def _blobwise(grid: _Grid, blobs: Sequence[npt.NDArray[Any]], boxes: Sequence[Sequence[int]]) -> Iterator[_Piece]:
    """A blob is connected whatever its classes; it may hold several pieces."""
    for blob, (x, y, w, h) in zip(blobs, boxes, strict=True):
        count, labels = cv2.connectedComponents(grid.shown[y : y + h, x : x + w], connectivity=8)
        seed_x, seed_y = blob[0][0]
        own = labels > 0 if count == 2 else labels == labels[seed_y - y, seed_x - x]
        classes = grid.classes[y : y + h, x : x + w]
        within = classes[own]
        if (within == within[0]).all():
            yield _piece(grid, int(within[0]), y, x, own)
            continue
        for class_id in np.flatnonzero(np.bincount(within)):
            yield from _label(grid, int(class_id), (own & (classes == class_id)).view(np.uint8), (y, x))


def _classwise(grid: _Grid, view: View) -> Iterator[_Piece]:
    for class_id in range(1, len(view.names)):
        only = (grid.classes == class_id).view(np.uint8)
        if cv2.countNonZero(only):
            yield from _label(grid, class_id, only, (0, 0))


def _label(grid: _Grid, class_id: int, only: Map, corner: tuple[int, int]) -> Iterator[_Piece]:
    """Pieces of a mask of one class whose corner lies at `corner` of the grid."""
    count, labels, stats, _ = cv2.connectedComponentsWithStats(only, connectivity=8)
    for label in range(1, count):
        x, y, w, h, _ = (int(value) for value in stats[label])
        yield _piece(grid, class_id, corner[0] + y, corner[1] + x, labels[y : y + h, x : x + w] == label)


def _piece(grid: _Grid, class_id: int, top: int, left: int, cells: Bits) -> _Piece:
    h, w = cells.shape
    heights, widths = grid.heights[top : top + h], grid.widths[left : left + w]
    score = grid.score[top : top + h, left : left + w] * cells
    return _Piece(class_id, top, left, cells, int(heights @ (cells @ widths)), int(heights @ (score @ widths)))


def _region(piece: _Piece, grid: _Grid, placement: Placement, view: View) -> Region:
    h, w = piece.cells.shape
    rows = grid.rows[piece.top : piece.top + h + 1]
    columns = grid.columns[piece.left : piece.left + w + 1]
    mask = Mask(piece.cells, rows, columns, placement.frame_hw)
    return Region(
        class_id=piece.class_id,
        class_name=view.names[piece.class_id],
        score=piece.mass / (255 * piece.area_px),
        area_px=piece.area_px,
        bbox=mask.bbox,
        polygon=_outline(mask, placement),
        mask=mask,
    )


def _outline(mask: Mask, placement: Placement) -> tuple[tuple[int, int], ...]:
    """The contour of the cells' corners: of a single cell that is its square, and no region is without an area."""
    wider = cv2.copyMakeBorder(mask.cells.view(np.uint8), 0, 1, 0, 1, cv2.BORDER_CONSTANT, value=(0,))
    corners = cv2.dilate(wider, SQUARE, anchor=(1, 1))
    (contour,), _ = cv2.findContours(corners, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE)
    points = np.empty((len(contour), 2), np.int32)
    points[:, 0] = mask.columns[contour[:, 0, 0]]
    points[:, 1] = mask.rows[contour[:, 0, 1]]
    roi, canvas = placement.roi, placement.canvas_hw
    tolerance_px = max(1.0, 0.5 * max(roi.h / canvas[0], roi.w / canvas[1]))
    simple = cv2.approxPolyDP(points, tolerance_px, closed=True)[:, 0]
    if len(simple) < 3 or cv2.contourArea(simple) == 0:
        simple = points
    outline: list[tuple[int, int]] = list(zip(*simple.T.tolist(), strict=True))
    return tuple(outline)
