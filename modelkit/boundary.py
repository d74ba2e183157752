"""How well outlines are met: the boundary F-measure, for any classes."""

from collections.abc import Sequence
from typing import Final

import cv2
import numpy as np
import numpy.typing as npt

Map = npt.NDArray[np.uint8]
SLACK_PX: Final = 2.0
_CROSS: Final = np.asarray(cv2.getStructuringElement(cv2.MORPH_CROSS, (3, 3)), np.uint8)


class Boundaries:
    """Sums over pictures. Of each class but the background, the pixels at its outline: right are those of the map
    within `slack_px` of one of the truth's, found those of the truth within it of one of the map's. The picture's own
    edge is no outline.
    """

    def __init__(self, names: Sequence[str], slack_px: float = SLACK_PX) -> None:
        self._names, self._slack_px = tuple(names), slack_px
        self._counts = np.zeros((len(names), 4), np.int64)

    def add(self, predicted: Map, truth: Map) -> None:
        """Shapes: (H, W) uint8 of class ids. Errors: ValueError for maps of different shapes."""
        if predicted.shape != truth.shape:
            raise ValueError(f"class maps of {predicted.shape} and {truth.shape}")
        for class_id in range(1, len(self._names)):
            mine, theirs = _outline(predicted == class_id), _outline(truth == class_id)
            right, found = self._near(mine, theirs), self._near(theirs, mine)
            self._counts[class_id] += (right, int(mine.sum()), found, int(theirs.sum()))

    def f1(self) -> dict[str, float]:
        """By class; those in neither map are left out."""
        out = {}
        for name, (right, predicted, found, annotated) in zip(self._names, self._counts.tolist(), strict=True):
            if predicted or annotated:
                precision, recall = right / max(1, predicted), found / max(1, annotated)
                out[name] = 2 * precision * recall / (precision + recall) if precision + recall else 0.0
        return out

    def mean(self) -> float:
        """Over the classes that are present; 1 where there are none."""
        values = list(self.f1().values())
        return float(np.mean(values)) if values else 1.0

    def _near(self, these: npt.NDArray[np.bool_], those: npt.NDArray[np.bool_]) -> int:
        if not (these.any() and those.any()):
            return 0
        away = cv2.distanceTransform((~those).astype(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_PRECISE)
        return int((np.asarray(away)[these] <= self._slack_px).sum())


def _outline(mask: npt.NDArray[np.bool_]) -> npt.NDArray[np.bool_]:
    """Pixels of the mask with one beside them, by a side, that is none."""
    inner = cv2.erode(mask.astype(np.uint8), _CROSS, borderType=cv2.BORDER_CONSTANT, borderValue=1)
    outline: npt.NDArray[np.bool_] = mask & (np.asarray(inner) == 0)
    return outline
