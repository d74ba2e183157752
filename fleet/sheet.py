"""The picture of a demonstration: what was found, drawn over the camera's pictures."""

from itertools import pairwise
from pathlib import Path
from urllib.parse import unquote, urlparse

import cv2
import numpy as np

from schemas.result import Result

COLUMNS, ROWS = 3, 2
CELL_WIDTH_PX = 640
_PAPER = 24


def choose(results: list[Result], most: int = COLUMNS * ROWS) -> list[Result]:
    """In order of time, from each of `most` stretches of it the one that shows the most classes of defects."""
    count = min(most, len(results))
    in_order = sorted(results, key=lambda result: result.image.capture_time)
    edges = [round(place * len(results) / count) for place in range(count + 1)] if count else [0]
    return [max(in_order[first:last], key=_worth) for first, last in pairwise(edges)]


def _worth(result: Result) -> tuple[int, float]:
    return len({defect.class_name for defect in result.defects}), result.summary.max_score


def write(results: list[Result], path: Path) -> bool:
    """Write a sheet of the overlays that the results name as evidence; False when there is none to show."""
    pictures = [picture for picture in map(_overlay, choose(results)) if picture is not None]
    if not pictures:
        return False
    columns = min(COLUMNS, len(pictures))
    cells = [_cell(picture) for picture in pictures]
    height = max(cell.shape[0] for cell in cells)
    rows = []
    for first in range(0, len(cells), columns):
        row = [_padded(cell, height) for cell in cells[first : first + columns]]
        row += [np.full((height, CELL_WIDTH_PX, 3), _PAPER, np.uint8)] * (columns - len(row))
        rows.append(np.hstack(row))
    return bool(cv2.imwrite(str(path), np.vstack(rows)))


def _overlay(result: Result) -> np.ndarray | None:
    for evidence in result.evidence:
        if evidence.uri.endswith(".overlay.jpg"):
            return cv2.imread(unquote(urlparse(evidence.uri).path))
    return None


def _cell(picture: np.ndarray) -> np.ndarray:
    height = round(picture.shape[0] * CELL_WIDTH_PX / picture.shape[1])
    return cv2.resize(picture, (CELL_WIDTH_PX, height), interpolation=cv2.INTER_AREA)


def _padded(cell: np.ndarray, height: int) -> np.ndarray:
    return cv2.copyMakeBorder(cell, 0, height - cell.shape[0], 0, 0, cv2.BORDER_CONSTANT, value=(_PAPER,) * 3)
