"""What is in a set: how much of each class, and its pictures at a glance."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

import cv2
import numpy as np
import numpy.typing as npt

from agent.core.frame import Pixels
from modelkit.data.sample import DataError, Dataset, Mask, Sample

Progress = Callable[[int, int], None]
"""Samples done, and samples in all."""
_SIDE_PX: Final = 240
_BAR_PX: Final = 24
_GAP_PX: Final = 6
_INK: Final = (30, 30, 30)


@dataclass(frozen=True, slots=True)
class ClassShare:
    """One class: its pixels, the pictures with any of them, and its instances, which are connected regions; the
    background has none.
    """

    name: str
    pixels: int
    images: int
    instances: int


@dataclass(frozen=True, slots=True)
class Balance:
    """`classes` by id, the background first; `clean` is the pictures with background alone, of `images`."""

    classes: tuple[ClassShare, ...]
    images: int
    clean: int
    pixels: int

    def absent(self) -> tuple[str, ...]:
        """The classes that no picture shows: a network can't learn them from this."""
        return tuple(each.name for each in self.classes if each.pixels == 0)


def balance(data: Dataset, ids: Sequence[str] | None = None, progress: Progress | None = None) -> Balance:
    """Reads every sample once, or those named. Raises DataError for an empty set, or what `read` raises."""
    chosen = _chosen(data, ids)
    count = len(data.classes)
    pixels, images, instances = (np.zeros(count, np.int64) for _ in range(3))
    clean = 0
    for done, sample_id in enumerate(chosen, 1):
        mask = data.read(sample_id).mask
        here = np.bincount(mask.ravel(), minlength=count)
        if len(here) > count:
            raise DataError(f"{sample_id}: class {len(here) - 1} in its mask, and the set has {count} classes")
        pixels += here
        images += here > 0
        instances += [_pieces(mask, class_id) if class_id and here[class_id] else 0 for class_id in range(count)]
        clean += not here[1:].any()
        if progress is not None:
            progress(done, len(chosen))
    rows = zip(data.classes, pixels.tolist(), images.tolist(), instances.tolist(), strict=True)
    return Balance(tuple(ClassShare(*row) for row in rows), len(chosen), clean, int(pixels.sum()))


def contact_sheet(
    data: Dataset, ids: Sequence[str] | None = None, columns: int = 2, progress: Progress | None = None
) -> Pixels:
    """(H, W, 3) RGB: for each sample, `columns` side by side, the picture, its reference if there is one, the picture
    with its mask, and the name; below them the classes' colours.

    Raises DataError as `balance` does, and for no columns.
    """
    chosen = _chosen(data, ids)
    if columns < 1:
        raise DataError(f"{columns} columns: there must be at least one")
    colours = palette(len(data.classes))
    tiles = []
    for done, sample_id in enumerate(chosen, 1):
        tiles.append(_tile(data.read(sample_id), colours))
        if progress is not None:
            progress(done, len(chosen))
    high, wide = (max(tile.shape[axis] for tile in tiles) for axis in (0, 1))
    padded = [_padded(tile, high, wide) for tile in tiles]
    padded += [_padded(tiles[0][:0], high, wide)] * (-len(padded) % columns)
    rows = [np.hstack(padded[first : first + columns]) for first in range(0, len(padded), columns)]
    return np.vstack([*rows, _legend(data.classes, colours, rows[0].shape[1])])


def palette(count: int) -> npt.NDArray[np.uint8]:
    """(count, 3) RGB, black first, then hues as far apart as they come whatever the count."""
    hsv = np.zeros((count, 1, 3), np.uint8)
    numbers = np.arange(count - 1)
    hsv[1:, 0, 0] = (numbers * 0.618034 % 1 * 180).astype(np.uint8)
    hsv[1:, 0, 1] = 230
    hsv[1:, 0, 2] = np.where(numbers % 2, 190, 255)
    return np.asarray(cv2.cvtColor(hsv, cv2.COLOR_HSV2RGB), np.uint8)[:, 0]


def stained(image: Pixels, mask: Mask, colours: npt.NDArray[np.uint8]) -> Pixels:
    """A copy with half of each class's colour over its pixels and all of it around them."""
    out = image.copy()
    inside = mask > 0
    out[inside] = image[inside] // 2 + colours[mask[inside]] // 2
    edge = inside & (cv2.erode(inside.astype(np.uint8), np.ones((3, 3), np.uint8)) == 0)
    out[edge] = colours[mask[edge]]
    return out


def _chosen(data: Dataset, ids: Sequence[str] | None) -> Sequence[str]:
    chosen = data.ids if ids is None else ids
    if not chosen:
        raise DataError("there are no samples to look at: the set is empty, or none was chosen")
    return chosen


def _pieces(mask: Mask, class_id: int) -> int:
    return int(cv2.connectedComponents((mask == class_id).astype(np.uint8), connectivity=8)[0]) - 1


def _tile(sample: Sample, colours: npt.NDArray[np.uint8]) -> Pixels:
    high, wide = sample.mask.shape
    scale = _SIDE_PX / max(high, wide)
    size = max(1, round(wide * scale)), max(1, round(high * scale))

    def small(picture: npt.NDArray[np.uint8], how: int) -> npt.NDArray[np.uint8]:
        return np.asarray(cv2.resize(np.ascontiguousarray(picture), size, interpolation=how), np.uint8)

    image = small(sample.image, cv2.INTER_AREA)
    pictures = [image] if sample.reference is None else [image, small(sample.reference, cv2.INTER_AREA)]
    pictures.append(stained(image, _shrunk(sample.mask, size), colours))
    gap = np.full((size[1], _GAP_PX // 2, 3), 255, np.uint8)
    row = np.hstack([part for picture in pictures for part in (picture, gap)])
    name = np.full((_BAR_PX, row.shape[1], 3), 255, np.uint8)
    _write(name, sample.id, 2)
    return np.vstack([name, row])


def _shrunk(mask: Mask, size: tuple[int, int]) -> Mask:
    """Of the pixels that become one the highest class is kept, so that a small defect does not vanish."""
    factor = max(1, mask.shape[1] // size[0])
    wide = cv2.dilate(mask, np.ones((factor, factor), np.uint8)) if factor > 1 else mask
    return np.asarray(cv2.resize(wide, size, interpolation=cv2.INTER_NEAREST), np.uint8)


def _padded(tile: Pixels, high: int, wide: int) -> Pixels:
    out = np.full((high + _GAP_PX, wide + 2 * _GAP_PX, 3), 255, np.uint8)
    out[: tile.shape[0], _GAP_PX : _GAP_PX + tile.shape[1]] = tile
    return out


def _legend(names: Sequence[str], colours: npt.NDArray[np.uint8], wide: int) -> Pixels:
    columns = max(1, wide // 180)
    out = np.full((_BAR_PX * -(-len(names) // columns), wide, 3), 255, np.uint8)
    for number, (name, colour) in enumerate(zip(names, colours, strict=True)):
        row, column = divmod(number, columns)
        x, y = column * 180 + _GAP_PX, row * _BAR_PX
        out[y + 5 : y + 19, x : x + 14] = colour
        _write(out[y : y + _BAR_PX, x + 20 : (column + 1) * 180], name, 0)
    return out


def _write(bar: Pixels, text: str, x: int) -> None:
    drawn = np.ascontiguousarray(bar)
    cv2.putText(drawn, text, (x, 17), cv2.FONT_HERSHEY_SIMPLEX, 0.42, _INK, 1, cv2.LINE_AA)
    bar[:] = drawn
