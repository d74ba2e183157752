"""A picture for people: what was found, where, and what came of it."""

from collections.abc import Sequence

import cv2
import numpy as np

from agent.core.frame import Pixels
from agent.core.vision.regions import Region
from schemas.manifest import DefectClass
from schemas.recipe import Evaluation

Colour = tuple[int, int, int]
FONT = cv2.FONT_HERSHEY_SIMPLEX
BANNERS: dict[Evaluation, tuple[str, Colour]] = {
    Evaluation.UNDEFINED: ("NO RESULT", (110, 110, 110)),
    Evaluation.OK: ("OK", (20, 140, 60)),
    Evaluation.NOT_OK: ("NOT OK", (200, 30, 30)),
    Evaluation.NOT_DECIDABLE: ("NOT DECIDABLE", (205, 135, 0)),
}


def draw(rgb: Pixels, regions: Sequence[Region], classes: Sequence[DefectClass], evaluation: Evaluation) -> Pixels:
    """A copy of the camera's picture (H, W, 3) with masks, outlines and labels, legible when seen at 960x720.

    Errors: ValueError when the regions are of a picture of another size.
    """
    picture = rgb.copy()
    thick = max(1, round(min(picture.shape[0] / 720, picture.shape[1] / 960) * 2))
    # The greatest regions come first in the list and last onto the picture, so that their labels stay on top.
    for region in reversed(regions):
        if region.mask.frame_hw != picture.shape[:2]:
            raise ValueError(f"a region of a picture of {region.mask.frame_hw} on one of {picture.shape[:2]}")
        _stain(picture, region, _rgb(classes[region.class_id]), thick)
    text, colour = BANNERS[evaluation]
    _banner(picture, f"{text} ({len(regions)})" if regions else text, colour, thick)
    for region in reversed(regions):
        x, y, w, h = region.bbox
        text = f"{region.class_name} {region.score:.0%}"
        _label(picture, text, (x + w // 2, y - 5 * thick, y + h + 5 * thick), _rgb(classes[region.class_id]), thick)
    return picture


def _rgb(spec: DefectClass) -> Colour:
    red, green, blue = bytes.fromhex(spec.colour[1:])
    return red, green, blue


def _stain(picture: Pixels, region: Region, colour: Colour, thick: int) -> None:
    x, y, w, h = region.bbox
    crop = picture[y : y + h, x : x + w]
    mask = region.mask.pixels()
    crop[mask] = (crop[mask] * 0.55 + np.array(colour) * 0.45).astype(np.uint8)
    outline = np.array(region.polygon, np.int32)
    if min(w, h) < 8 * thick:
        # A line around a small defect would hide it: a frame at a distance shows where to look.
        away = 3 * thick
        outline = np.array(
            [(x - away, y - away), (x + w + away, y - away), (x + w + away, y + h + away), (x - away, y + h + away)],
            np.int32,
        )
    cv2.polylines(picture, [outline], isClosed=True, color=(255, 255, 255), thickness=thick + 2, lineType=cv2.LINE_AA)
    cv2.polylines(picture, [outline], isClosed=True, color=colour, thickness=thick, lineType=cv2.LINE_AA)


def _label(picture: Pixels, text: str, at: tuple[int, int, int], colour: Colour, thick: int) -> None:
    """Centred at x, above the region, or below it where there is no room. `at` is (x, bottom when above, top else)."""
    scale = 0.3 * thick
    (width, height), base = cv2.getTextSize(text, FONT, scale, thick)
    box_h = height + base + thick
    middle, above, below = at
    left = int(np.clip(middle - width // 2, 0, max(0, picture.shape[1] - width)))
    top = above - box_h if above >= box_h else min(below, max(0, picture.shape[0] - box_h))
    cv2.rectangle(picture, (left, top), (left + width, top + box_h), colour, cv2.FILLED)
    cv2.putText(picture, text, (left, top + height + thick), FONT, scale, _ink(colour), max(1, thick // 2), cv2.LINE_AA)


def _banner(picture: Pixels, text: str, colour: Colour, thick: int) -> None:
    scale, pad = 0.5 * thick, 5 * thick
    (width, height), base = cv2.getTextSize(text, FONT, scale, thick)
    cv2.rectangle(picture, (0, 0), (width + 2 * pad, height + base + 2 * pad), colour, cv2.FILLED)
    cv2.putText(picture, text, (pad, height + pad), FONT, scale, _ink(colour), thick, cv2.LINE_AA)


def _ink(ground: Colour) -> Colour:
    luma = 0.299 * ground[0] + 0.587 * ground[1] + 0.114 * ground[2]
    return (0, 0, 0) if luma > 140 else (255, 255, 255)
