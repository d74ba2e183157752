"""How good class maps are, for any classes: pixels by their confusion, defects as instances. Arithmetic alone.

An instance is a connected piece of one class. A predicted one, the surest first, is right when its pixels and those of
an annotated one of its class that is still free have an IoU of at least `LEAST_IOU`. The average precision is the area
under the curve of precision over recall, the precision at each recall being the best that is reached from there on.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

import cv2
import numpy as np
import numpy.typing as npt

Map = npt.NDArray[np.uint8]
Counts = npt.NDArray[np.int64]
LEAST_IOU: Final = 0.5


@dataclass(frozen=True, slots=True)
class ClassFigures:
    """`iou` and `dice` by pixel, the rest by instance; None where nothing could be right or wrong."""

    iou: float | None
    dice: float | None
    precision: float | None = None
    recall: float | None = None
    f1: float | None = None
    ap: float | None = None
    right: int = 0
    predicted: int = 0
    annotated: int = 0


@dataclass(frozen=True, slots=True)
class Figures:
    """`confusion[truth][predicted]` counts pixels, in the order of `classes`, the background first. Means are over the
    classes that are present; those of instances leave the background out. `by_image` is each picture's own mIoU.
    """

    images: int
    classes: dict[str, ClassFigures]
    confusion: tuple[tuple[int, ...], ...]
    miou: float
    mean_dice: float
    precision: float | None
    recall: float | None
    f1: float | None
    mean_ap: float | None
    by_image: dict[str, float]

    def worst(self, count: int) -> list[str]:
        """The pictures of the lowest mIoU, the worst first."""
        return sorted(self.by_image, key=lambda name: (self.by_image[name], name))[:count]


@dataclass(slots=True)
class _Instances:
    ranked: list[tuple[float, bool]] = field(default_factory=list)
    annotated: int = 0


class Ledger:
    """Sums over pictures. `names` are the classes by id, the background first."""

    def __init__(self, names: Sequence[str], least_iou: float = LEAST_IOU) -> None:
        self._names, self._least_iou = tuple(names), least_iou
        self._pixels: Counts = np.zeros((len(names), len(names)), np.int64)
        self._instances = [_Instances() for _ in names]
        self._by_image: dict[str, float] = {}

    def add(self, name: str, predicted: Map, score: Map, truth: Map) -> None:
        """Shapes: (H, W) uint8 each; class ids after all thresholds, scores in 1/255. Errors: ValueError for maps of
        different shapes, ids that are no class, and a name that was there before.
        """
        if not predicted.shape == score.shape == truth.shape:
            raise ValueError(f"{name}: class maps of {predicted.shape} and {truth.shape}, scores of {score.shape}")
        if max(int(predicted.max(initial=0)), int(truth.max(initial=0))) >= len(self._names):
            raise ValueError(f"{name}: a class id above {len(self._names) - 1}, the last of {', '.join(self._names)}")
        if name in self._by_image:
            raise ValueError(f"{name} was counted before")
        pixels = confusion(predicted, truth, len(self._names))
        self._pixels += pixels
        self._by_image[name] = _mean(ious(pixels))
        for class_id in range(1, len(self._names)):
            mine, theirs = predicted == class_id, truth == class_id
            ranked, annotated = matched(mine, score, theirs, self._least_iou)
            self._instances[class_id].ranked += ranked
            self._instances[class_id].annotated += annotated

    def figures(self) -> Figures:
        """Errors: ValueError when nothing was added."""
        if not self._by_image:
            raise ValueError("there is no picture to measure on")
        rows = zip(self._names, ious(self._pixels), dices(self._pixels), self._instances, strict=True)
        classes = {name: _of_class(iou, dice, each) for name, iou, dice, each in rows}
        right = sum(each.right for each in classes.values())
        precision, recall, f1 = rates(
            right, sum(c.predicted for c in classes.values()), sum(c.annotated for c in classes.values())
        )
        areas = [each.ap for each in classes.values() if each.ap is not None]
        return Figures(
            images=len(self._by_image),
            classes=classes,
            confusion=tuple(tuple(int(count) for count in row) for row in self._pixels),
            miou=_mean(ious(self._pixels)),
            mean_dice=_mean(dices(self._pixels)),
            precision=precision,
            recall=recall,
            f1=f1,
            mean_ap=float(np.mean(areas)) if areas else None,
            by_image=dict(self._by_image),
        )


def confusion(predicted: Map, truth: Map, classes: int) -> Counts:
    """(classes, classes) pixels, by true and by predicted class."""
    joint = truth.astype(np.int64).ravel() * classes + predicted.ravel()
    return np.bincount(joint, minlength=classes**2).reshape(classes, classes).astype(np.int64)


def ious(pixels: Counts) -> list[float | None]:
    """By class; None where a class is in neither map."""
    both = np.diag(pixels)
    return [_share(int(b), int(e)) for b, e in zip(both, pixels.sum(0) + pixels.sum(1) - both, strict=True)]


def dices(pixels: Counts) -> list[float | None]:
    """By class; None where a class is in neither map."""
    both = np.diag(pixels)
    return [_share(2 * int(b), int(s)) for b, s in zip(both, pixels.sum(0) + pixels.sum(1), strict=True)]


def matched(
    predicted: npt.NDArray[np.bool_], score: Map, truth: npt.NDArray[np.bool_], least_iou: float
) -> tuple[list[tuple[float, bool]], int]:
    """One class of one picture: (mean score 0 to 1, right?) of each predicted instance, and how many are annotated."""
    _, wanted = cv2.connectedComponents(truth.view(np.uint8), connectivity=8)
    _, found = cv2.connectedComponents(predicted.view(np.uint8), connectivity=8)
    areas, wanted_areas = np.bincount(found.ravel()), np.bincount(wanted.ravel())
    mass = np.bincount(found.ravel(), weights=score.ravel())
    free = set(range(1, len(wanted_areas)))
    order = sorted(range(1, len(areas)), key=lambda label: (-mass[label] / areas[label], label))
    ranked = []
    for label in order:
        touched = np.bincount(wanted[found == label], minlength=len(wanted_areas))
        overlap = {other: touched[other] / (areas[label] + wanted_areas[other] - touched[other]) for other in free}
        best = max(overlap, key=lambda other: (overlap[other], -other), default=None)
        right = best is not None and bool(overlap[best] >= least_iou)
        if right and best is not None:
            free.discard(best)
        ranked.append((float(mass[label] / areas[label] / 255), right))
    return ranked, len(wanted_areas) - 1


def average_precision(ranked: Sequence[tuple[float, bool]], annotated: int) -> float | None:
    """None where nothing is annotated. Predictions of one confidence keep their order."""
    if not annotated:
        return None
    hits = np.array([right for _, right in sorted(ranked, key=lambda entry: -entry[0])], bool)
    if not hits.any():
        return 0.0
    precision = np.cumsum(hits) / np.arange(1, len(hits) + 1)
    envelope = np.maximum.accumulate(precision[::-1])[::-1]
    return float(envelope[hits].sum() / annotated)


def rates(right: int, predicted: int, annotated: int) -> tuple[float | None, float | None, float | None]:
    """Precision, recall and F; None where nothing was predicted, annotated, or either."""
    precision, recall = _share(right, predicted), _share(right, annotated)
    return precision, recall, _share(2 * right, predicted + annotated)


def _of_class(iou: float | None, dice: float | None, instances: _Instances) -> ClassFigures:
    right, predicted = sum(hit for _, hit in instances.ranked), len(instances.ranked)
    precision, recall, f1 = rates(right, predicted, instances.annotated)
    ap = average_precision(instances.ranked, instances.annotated)
    return ClassFigures(iou, dice, precision, recall, f1, ap, right, predicted, instances.annotated)


def _share(part: int, whole: int) -> float | None:
    return part / whole if whole else None


def _mean(values: Sequence[float | None]) -> float:
    present = [value for value in values if value is not None]
    return float(np.mean(present)) if present else 1.0
