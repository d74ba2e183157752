"""The pictures that a model gets most wrong, side by side with the truth."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import cv2
import numpy as np
import numpy.typing as npt

from agent.core.frame import Pixels
from modelkit.classmap import Map
from modelkit.data import Sample

_TILE_PX: Final = 240
_GAP_PX: Final = 8
_CAPTION_PX: Final = 22
_PANES: Final = ("picture", "truth", "model")
_PAPER, _INK = 255, (60, 60, 60)


@dataclass(frozen=True, slots=True)
class Row:
    """Shapes: image (H, W, 3) uint8 RGB, truth (H, W) and predicted (h, w) uint8 class ids, the second on the model's
    canvas, which is the whole picture scaled.
    """

    caption: str
    image: Pixels
    truth: Map
    predicted: Map


def rows(samples: Sequence[Sample], maps: Mapping[str, Map], by_image: Mapping[str, float], count: int) -> list[Row]:
    """The `count` pictures of the lowest mIoU."""
    by_id = {sample.id: sample for sample in samples}
    order = sorted(by_image, key=lambda name: (by_image[name], name))[:count]
    return [Row(f"{n}  mIoU {by_image[n]:.3f}", by_id[n].image, by_id[n].mask, maps[n]) for n in order]


def sheet(shown: Sequence[Row], colours: Sequence[str], columns: int = 2) -> bytes:
    """A PNG: picture, truth and prediction of each row, `columns` rows beside each other. `colours` are #rrggbb by
    class id. Errors: ValueError for no row.
    """
    if not shown:
        raise ValueError("there is no picture to show")
    palette = np.array([[int(c[i : i + 2], 16) for i in (1, 3, 5)] for c in colours], np.uint8)
    blocks = [_block(row, palette) for row in shown]
    columns = min(columns, len(blocks))
    lines = [blocks[at : at + columns] for at in range(0, len(blocks), columns)]
    empty = np.full_like(blocks[0], _PAPER)
    page = np.vstack([np.hstack(line + [empty] * (columns - len(line))) for line in lines])
    done, png = cv2.imencode(".png", cv2.cvtColor(page, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_PNG_COMPRESSION, 9])
    if not done:
        raise ValueError("the sheet could not be written as PNG")
    return png.tobytes()


def _block(row: Row, palette: npt.NDArray[np.uint8]) -> Pixels:
    image = _fitted(row.image, cv2.INTER_AREA)
    high, wide = image.shape[:2]
    grey = np.asarray(cv2.cvtColor(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), cv2.COLOR_GRAY2RGB), np.uint8)
    panes = [image, *(_painted(grey, each, palette) for each in (row.truth, row.predicted))]
    block = np.full((_TILE_PX + _CAPTION_PX + _GAP_PX, 3 * (_TILE_PX + _GAP_PX) + 2 * _GAP_PX, 3), _PAPER, np.uint8)
    for place, pane in enumerate(panes):
        left = place * (_TILE_PX + _GAP_PX)
        block[_CAPTION_PX : _CAPTION_PX + high, left : left + wide] = pane
        text = row.caption if place == 0 else _PANES[place]
        cv2.putText(block, text, (left, _CAPTION_PX - 7), cv2.FONT_HERSHEY_SIMPLEX, 0.5, _INK, 1, cv2.LINE_AA)
    return block


def _fitted(picture: npt.NDArray[np.uint8], interpolation: int) -> npt.NDArray[np.uint8]:
    """The longer side becomes that of a tile."""
    high, wide = picture.shape[:2]
    scale = _TILE_PX / max(high, wide)
    size = max(1, round(wide * scale)), max(1, round(high * scale))
    return np.asarray(cv2.resize(np.ascontiguousarray(picture), size, interpolation=interpolation), np.uint8)


def _painted(grey: Pixels, class_map: Map, palette: npt.NDArray[np.uint8]) -> Pixels:
    """Small defects would vanish in a small picture: each takes the class that is most of a dot of 3 px around it."""
    high, wide = grey.shape[:2]
    out = np.asarray(grey // 2 + 110, np.uint8)
    for class_id in np.unique(class_map[class_map > 0]).tolist():
        one = cv2.resize((class_map == class_id).astype(np.float32), (wide, high), interpolation=cv2.INTER_AREA)
        out[cv2.dilate((one > 0.05).astype(np.uint8), np.ones((3, 3), np.uint8)) > 0] = palette[class_id]
    return out
