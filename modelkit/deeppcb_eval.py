"""The evaluation that DeepPCB publishes: F-score and mean average precision of boxes at IoU above 0.33.

Its rules, from the set's own README and script: within a picture, annotated boxes in their order take the first free
prediction, in its order, that overlaps enough, whatever its class; the pair is right if the classes agree. The F-score
counts all predictions. The average precision ranks all predictions of all pictures and classes by confidence and is the
sum of the precisions at each right one, over the number of annotated boxes, without interpolation.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np

from modelkit.data.deeppcb import Box

LEAST_IOU: Final = 0.33
NAMES: Final = ("background", "open", "short", "mousebite", "spur", "copper", "pin-hole")
"""The words of the published format, by class id."""


@dataclass(frozen=True, slots=True)
class Prediction:
    """Pixels, right and bottom exclusive; `confidence` 0 to 1."""

    box: Box
    confidence: float


@dataclass(frozen=True, slots=True)
class BoxScore:
    """`by_class` maps a class's name to (right, predicted, annotated)."""

    precision: float
    recall: float
    f1: float
    mean_ap: float
    by_class: dict[str, tuple[int, int, int]]


def iou(a: Box, b: Box) -> float:
    wide, high = min(a.x2, b.x2) - max(a.x1, b.x1), min(a.y2, b.y2) - max(a.y1, b.y1)
    if wide <= 0 or high <= 0:
        return 0.0
    both = wide * high
    return both / ((a.x2 - a.x1) * (a.y2 - a.y1) + (b.x2 - b.x1) * (b.y2 - b.y1) - both)


def matches(annotated: Sequence[Box], predicted: Sequence[Prediction]) -> list[Box | None]:
    """For each prediction the annotated box it is paired with, of whatever class."""
    taken: list[Box | None] = [None] * len(predicted)
    for truth in annotated:
        for index, each in enumerate(predicted):
            if taken[index] is None and iou(truth, each.box) > LEAST_IOU:
                taken[index] = truth
                break
    return taken


def evaluate(truth: Mapping[str, Sequence[Box]], found: Mapping[str, Sequence[Prediction]]) -> BoxScore:
    """Both by picture; a picture without an entry in `found` has no predictions. Raises ValueError for predictions of
    pictures that `truth` has not, and where nothing is annotated.
    """
    if unknown := set(found) - set(truth):
        raise ValueError(f"predictions for unknown pictures: {', '.join(sorted(unknown)[:5])}")
    annotated = sum(len(boxes) for boxes in truth.values())
    if not annotated:
        raise ValueError("nothing is annotated, so there is nothing to evaluate")
    ranked: list[tuple[float, bool]] = []
    counts = np.zeros((len(NAMES), 3), np.int64)
    for picture, boxes in truth.items():
        predicted = found.get(picture, ())
        for box in boxes:
            counts[box.kind, 2] += 1
        for each, partner in zip(predicted, matches(boxes, predicted), strict=True):
            right = partner is not None and partner.kind == each.box.kind
            counts[each.box.kind] += (right, 1, 0)
            ranked.append((each.confidence, right))
    ranked.sort(key=lambda entry: -entry[0])
    right_so_far = np.cumsum([right for _, right in ranked])
    precisions = right_so_far / np.arange(1, len(ranked) + 1)
    right_all = int(counts[:, 0].sum())
    precision, recall = right_all / max(1, len(ranked)), right_all / annotated
    return BoxScore(
        precision=precision,
        recall=recall,
        f1=2 * precision * recall / (precision + recall) if right_all else 0.0,
        mean_ap=float(precisions[[right for _, right in ranked]].sum() / annotated) if right_all else 0.0,
        by_class={
            name: (int(right), int(made), int(there))
            for name, (right, made, there) in zip(NAMES[1:], counts[1:].tolist(), strict=True)
        },
    )


def write_predictions(folder: Path, found: Mapping[str, Sequence[Prediction]]) -> None:
    """`ID.txt` a picture, `x1,y1,x2,y2,confidence,type` a line, the surest first; empty where nothing was found."""
    folder.mkdir(parents=True, exist_ok=True)
    for picture, predictions in found.items():
        lines = [
            f"{b.x1},{b.y1},{b.x2},{b.y2},{each.confidence:.6f},{NAMES[b.kind]}\n"
            for each in sorted(predictions, key=lambda each: -each.confidence)
            for b in (each.box,)
        ]
        (folder / f"{picture}.txt").write_text("".join(lines))
