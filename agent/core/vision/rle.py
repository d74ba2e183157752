"""Masks of single regions, and their run-length code as COCO writes it: column-major, beginning with the zeros."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from agent.core.vision.geometry import Ints, Size

Bits = npt.NDArray[np.bool_]


@dataclass(frozen=True, slots=True, eq=False)
class Mask:
    """A region on a grid of cells, each of which covers whole camera pixels.

    Shapes: cells (h, w) bool; rows (h + 1,) and columns (w + 1,) are the camera coordinates between the cells,
    strictly increasing; frame_hw is the camera's picture.
    """

    cells: Bits
    rows: Ints
    columns: Ints
    frame_hw: Size

    @property
    def bbox(self) -> tuple[int, int, int, int]:
        """(x, y, w, h) in camera pixels."""
        x, y = int(self.columns[0]), int(self.rows[0])
        return x, y, int(self.columns[-1]) - x, int(self.rows[-1]) - y

    def pixels(self) -> Bits:
        """The mask in camera pixels, of the size of `bbox`."""
        return self.cells.repeat(np.diff(self.rows), axis=0).repeat(np.diff(self.columns), axis=1)

    def counts(self) -> list[int]:
        """COCO's uncompressed counts over the whole camera picture, from the cells, without drawing the pixels."""
        height, width = self.cells.shape
        rimmed = np.zeros((width, height + 2), np.bool_)
        rimmed[:, 1:-1] = self.cells.T
        column, row = (rimmed[:, 1:] != rimmed[:, :-1]).nonzero()
        turns = np.bincount(column, minlength=width)
        most = int(turns.max())
        edges = self.rows[row]
        if is_even := len(edges) == width * most:  # as of any convex region
            table = edges.reshape(width, most)
        else:
            table = np.full((width, most), -1)
            table[np.arange(most) < turns[:, None]] = edges
        # Every camera column has the turns of its cell column.
        table = table.repeat(self.columns[1:] - self.columns[:-1], axis=0)
        places = table + (np.arange(self.columns[0], self.columns[-1]) * self.frame_hw[0])[:, None]
        return _counts(places.ravel() if is_even else places[table >= 0], self.frame_hw)


def encode(mask: Bits) -> list[int]:
    """The counts of a whole picture's mask (H, W)."""
    flat = np.concatenate(([False], mask.T.ravel(), [False]))
    return _counts(np.flatnonzero(flat[1:] != flat[:-1]), (mask.shape[0], mask.shape[1]))


def _counts(turns: Ints, frame_hw: Size) -> list[int]:
    """From the positions where the value turns. Two turns at one place, from one column to the next, are none."""
    same = turns[1:] == turns[:-1]
    if same.any():
        lone = np.ones(len(turns), np.bool_)
        lone[1:] &= ~same
        lone[:-1] &= ~same
        turns = turns[lone]
    ends = np.empty(len(turns) + 1, np.int64)
    ends[:-1] = turns
    ends[-1] = frame_hw[0] * frame_hw[1]
    ends[1:] -= ends[:-1].copy()
    counts: list[int] = ends.tolist()
    if counts[-1] == 0:  # the last turn is the picture's end
        counts.pop()
    return counts


def decode(counts: Sequence[int], frame_hw: Size) -> Bits:
    """The mask (H, W). Errors: ValueError when the counts are negative or do not fill the picture."""
    if any(count < 0 for count in counts) or sum(counts) != frame_hw[0] * frame_hw[1]:
        raise ValueError(f"the counts do not fill a picture of {frame_hw[1]}x{frame_hw[0]} pixels")
    values = np.arange(len(counts)) % 2 == 1
    columns: Bits = values.repeat(counts).reshape(frame_hw[1], frame_hw[0])
    return columns.T


def compress(counts: Sequence[int]) -> str:
    """COCO's text form: from the fourth on the difference to the count before the last, five bits a character."""
    text = bytearray()
    for i, count in enumerate(counts):
        left = count - counts[i - 2] if i > 2 else count
        while True:
            bits = left & 31
            left >>= 5
            more = left != (-1 if bits & 16 else 0)
            text.append(48 + bits + 32 * more)
            if not more:
                break
    return text.decode("ascii")


def decompress(text: str) -> list[int]:
    """The undo of `compress`. Errors: ValueError when the text ends within a count or has other characters."""
    counts: list[int] = []
    value = shift = 0
    for character in text:
        bits = ord(character) - 48
        if not 0 <= bits < 64:
            raise ValueError(f"{character!r} is no character of a COCO mask")
        value |= (bits & 31) << shift
        shift += 5
        if bits & 32:
            continue
        if bits & 16:
            value -= 1 << shift
        counts.append(value + counts[-2] if len(counts) > 2 else value)
        value = shift = 0
    if shift:
        raise ValueError("the text ends within a count")
    return counts
