"""Run the `cpu` variant over samples and score it."""

from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import onnxruntime as ort

from modelkit.classmap import Map, best, kept
from modelkit.evaluate import Tally
from modelkit.synthesise import CLASSES, Sample
from schemas.manifest import Score

LEAST_SCORE: Final = 0.5
LEAST_AREA_PX: Final = 10


@dataclass(frozen=True, slots=True)
class Reading:
    """A class map before thresholds, and the scores in 1/255."""

    winner: Map
    score: Map


@dataclass(frozen=True, slots=True)
class Measured:
    """`false_alarms` is how many of the pictures without defects got at least one region, of `clean` such pictures."""

    score: Score
    clean: int
    false_alarms: int


def read_cpu(model: Path, samples: list[Sample], threads: int = 2) -> list[Reading]:
    """What ONNX Runtime gives for each sample, which must have the model's input size."""
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    session = ort.InferenceSession(str(model), options, providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name
    return [Reading(*best(np.asarray(session.run(None, {name: s.rgb[None]})[0])[0])) for s in samples]


def measure(readings: list[Reading], samples: list[Sample]) -> Measured:
    """Score the readings after the manifest's thresholds."""
    tally, clean, false_alarms = Tally(len(CLASSES)), 0, 0
    for reading, sample in zip(readings, samples, strict=True):
        final = kept(reading.winner, reading.score, LEAST_SCORE, LEAST_AREA_PX)
        tally.add(final, sample.mask)
        if not sample.mask.any():
            clean += 1
            false_alarms += bool(final.any())
    return Measured(tally.score(CLASSES), clean, false_alarms)
