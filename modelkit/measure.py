"""Run the `cpu` variant over samples and score it, by pixel, by region, and by DeepPCB's boxes."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import onnxruntime as ort

from agent.core.vision import View, regions
from agent.core.vision.geometry import place
from modelkit import boxes
from modelkit.classmap import Map, best, kept
from modelkit.confusion import Figures, Ledger
from modelkit.data import Sample
from modelkit.data.deeppcb import CLASSES, Box
from modelkit.deeppcb_eval import BoxScore, Prediction, evaluate
from modelkit.evaluate import Tally
from schemas.manifest import Letterbox, Score

NEVER: Final = 255


@dataclass(frozen=True, slots=True)
class Thresholds:
    """The manifest's postprocess steps: a pixel's least softmax, and a region's least area."""

    least_score: float = 0.5
    least_area_px: int = 10


@dataclass(frozen=True, slots=True)
class Reading:
    """A class map before thresholds, and the scores in 1/255. `took_ms` is the inference alone, where it says anything
    of a board: a simulator's time does not.
    """

    winner: Map
    score: Map
    took_ms: float | None = None


@dataclass(frozen=True, slots=True)
class Measured:
    """`score` is what a manifest states. `false_alarms` is how many of the pictures without defects got at least one
    region, of `clean` such pictures.
    """

    score: Score
    clean: int
    false_alarms: int
    figures: Figures


class Count:
    """Sums over pictures, by class names, the background first. `tally` counts regions that meet, `ledger` instances
    that overlap.
    """

    def __init__(self, names: Sequence[str]) -> None:
        self._names = tuple(names)
        self._tally, self._ledger = Tally(len(names)), Ledger(names)
        self._clean = self._false_alarms = 0

    def add(self, name: str, final: Map, score: Map, truth: Map) -> None:
        """Shapes: (H, W) uint8 each; `final` after all thresholds. Errors: ValueError, as those of `Ledger.add`."""
        self._ledger.add(name, final, score, truth)
        self._tally.add(final, truth)
        if not truth.any():
            self._clean += 1
            self._false_alarms += bool(final.any())

    def measured(self) -> Measured:
        """Errors: ValueError when nothing was added."""
        figures = self._ledger.figures()
        return Measured(self._tally.score(self._names), self._clean, self._false_alarms, figures)


def read_cpu(model: Path, samples: Sequence[Sample], roles: Sequence[str] = ("image",)) -> Iterator[Reading]:
    """What ONNX Runtime gives for each sample, which must have the model's input size.

    Raises ValueError for a sample of another size.
    """
    options = ort.SessionOptions()
    options.intra_op_num_threads = 2
    session = ort.InferenceSession(str(model), options, providers=["CPUExecutionProvider"])
    specs = session.get_inputs()
    for sample in samples:
        if list(sample.image.shape[:2]) != list(specs[0].shape[1:3]):
            raise ValueError(f"{sample.id} is of {sample.image.shape[:2]} px, the model takes {specs[0].shape[1:3]}")
        pictures = (np.ascontiguousarray(each)[None] for each in sample.inputs(roles))
        feed = {spec.name: each for spec, each in zip(specs, pictures, strict=True)}
        yield Reading(*best(np.asarray(session.run(None, feed)[0])[0]))


def measure(
    readings: Sequence[Reading], samples: Sequence[Sample], thresholds: Thresholds, names: Sequence[str] = CLASSES
) -> Measured:
    """Score the readings after the thresholds."""
    count = Count(names)
    for reading, sample in zip(readings, samples, strict=True):
        final = kept(reading.winner, reading.score, thresholds.least_score, thresholds.least_area_px)
        count.add(sample.id, final, reading.score, sample.mask)
    return count.measured()


def predictions(reading: Reading, thresholds: Thresholds) -> list[Prediction]:
    """Boxes of one picture, from the regions that the board itself would find in it."""
    limit = max(1, round(255 * thresholds.least_score)) - 1
    frame_hw = (reading.winner.shape[0], reading.winner.shape[1])
    view = View(
        tile_hw=frame_hw,
        roi=None,
        fit=Letterbox(),
        clahe=None,
        roles=("image",),
        names=CLASSES,
        limits=bytes([NEVER] + [limit] * (len(CLASSES) - 1)).ljust(256, bytes([NEVER])),
        least_area_px=(thresholds.least_area_px,) * len(CLASSES),
    )
    placement = place(frame_hw, None, frame_hw, Letterbox(), even=False)
    return boxes.draw(regions(reading.winner, reading.score, placement, view).regions, frame_hw)


def measure_boxes(
    readings: Mapping[str, Reading], truth: Mapping[str, Sequence[Box]], thresholds: Thresholds
) -> BoxScore:
    """DeepPCB's evaluation; both by sample id."""
    return evaluate(truth, {name: predictions(reading, thresholds) for name, reading in readings.items()})
