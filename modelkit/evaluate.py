"""Accuracy of class maps, by pixel and by region; the same arithmetic for float, int8 and a board's output."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import cv2
import numpy as np
import numpy.typing as npt

from schemas.manifest import Score

Map = npt.NDArray[np.uint8]


@dataclass(slots=True)
class Tally:
    """Sums over pictures. A region is a connected piece of one class; it is found when a region of the other map with
    the same class overlaps it, grown by `slack_px`.
    """

    classes: int
    slack_px: int = 2
    pixels: npt.NDArray[np.int64] = field(init=False)
    found: int = 0
    missed: int = 0
    right: int = 0
    false: int = 0

    def __post_init__(self) -> None:
        self.pixels = np.zeros((self.classes, self.classes), np.int64)

    def add(self, predicted: Map, truth: Map) -> None:
        """Both are (H, W) uint8 of class ids below `classes`."""
        if predicted.shape != truth.shape:
            raise ValueError(f"class maps of {predicted.shape} and {truth.shape}")
        joint = truth.astype(np.int64).ravel() * self.classes + predicted.ravel()
        self.pixels += np.bincount(joint, minlength=self.classes**2).reshape(self.classes, self.classes)
        for class_id in range(1, self.classes):
            a, b = (predicted == class_id).astype(np.uint8), (truth == class_id).astype(np.uint8)
            right, false = _met(a, b, self.slack_px)
            found, missed = _met(b, a, self.slack_px)
            self.right, self.false = self.right + right, self.false + false
            self.found, self.missed = self.found + found, self.missed + missed

    def iou(self) -> list[float | None]:
        """Per class, None where the class is in neither map."""
        both = np.diag(self.pixels)
        either = self.pixels.sum(0) + self.pixels.sum(1) - both
        return [float(b / e) if e else None for b, e in zip(both, either, strict=True)]

    def miou(self) -> float:
        """Over the classes that are present, background included."""
        present = [value for value in self.iou() if value is not None]
        return float(np.mean(present)) if present else 1.0

    def precision(self) -> float | None:
        return self.right / (self.right + self.false) if self.right + self.false else None

    def recall(self) -> float | None:
        return self.found / (self.found + self.missed) if self.found + self.missed else None

    def score(self, names: Sequence[str]) -> Score:
        """As the manifest states it, rounded to 4 places."""
        precision, recall = self.precision(), self.recall()
        f1 = None
        if precision is not None and recall is not None:
            f1 = 2 * precision * recall / (precision + recall) if precision + recall else 0.0
        return Score(
            miou=round(self.miou(), 4),
            iou={name: round(value, 4) for name, value in zip(names, self.iou(), strict=True) if value is not None},
            **{
                key: None if value is None else round(value, 4)
                for key, value in (("precision", precision), ("recall", recall), ("f1", f1))
            },
        )


def without_small(class_map: Map, least_areas: Sequence[float]) -> Map:
    """(H, W) without the regions that have fewer pixels than their class asks for; `least_areas` is by class id."""
    out: Map = class_map.copy()
    for class_id in np.unique(class_map[class_map > 0]).tolist():
        one = (class_map == class_id).astype(np.uint8)
        _, labels, stats, _ = cv2.connectedComponentsWithStats(one, connectivity=8)
        small = stats[:, cv2.CC_STAT_AREA] < least_areas[class_id]
        small[0] = False
        out[small[labels]] = 0
    return out


def _met(mine: Map, other: Map, slack_px: int) -> tuple[int, int]:
    """How many regions of `mine` meet `other`, and how many don't."""
    if not mine.any():
        return 0, 0
    count, labels = cv2.connectedComponents(mine, connectivity=8)
    side = 2 * slack_px + 1
    near = cv2.dilate(other, np.ones((side, side), np.uint8)) > 0
    met = len(np.setdiff1d(np.unique(labels[near]), [0]))
    return met, count - 1 - met
