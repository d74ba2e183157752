"""Measure a bundle on any samples with the board's own preparation, regions and verdict."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import cv2
import numpy as np

from agent.core.frame import Layout, Picture
from agent.core.verdict import judge
from agent.core.vision import Found, Prepared, Stitch, View, prepare, refine, regions
from modelkit import boxes
from modelkit.classmap import Map
from modelkit.data import DataError, Sample
from modelkit.data.deeppcb import CLASSES, Box
from modelkit.deeppcb_eval import BoxScore, Prediction, evaluate
from modelkit.evaluate import without_small
from modelkit.measure import Count, Measured, Reading
from modelkit.readers import Reader
from schemas.manifest import Manifest
from schemas.recipe import ClassRules, Evaluation, Recipe
from schemas.target import Target


@dataclass(slots=True)
class Verdicts:
    """Parts by what is true and what `agent.core.verdict` says with the default recipe, where any sure region rejects.

    An escape is a bad part that passed, overkill a good one that was rejected.
    """

    bad: int = 0
    escapes: int = 0
    good: int = 0
    overkill: int = 0
    undecided: int = 0

    def add(self, found: Found, *, is_bad: bool) -> None:
        said = judge(found, Recipe()).evaluation
        self.bad, self.good = self.bad + is_bad, self.good + (not is_bad)
        self.escapes += is_bad and said is Evaluation.OK
        self.overkill += not is_bad and said is Evaluation.NOT_OK
        self.undecided += said is Evaluation.NOT_DECIDABLE


@dataclass(frozen=True, slots=True)
class Evaluated:
    """`boxes` is None where nothing is annotated by boxes; `found` is by sample id, and `maps` too: after thresholds,
    on the model's canvas. `latency_ms` is the median inference, None where no board's could be told from it.
    """

    measured: Measured
    boxes: BoxScore | None
    found: Mapping[str, list[Prediction]]
    verdicts: Verdicts
    maps: Mapping[str, Map]
    latency_ms: float | None


def open_bundle(folder: Path) -> tuple[Manifest, Path]:
    """The manifest and the `cpu` variant's file. Raises DataError for what is no such bundle."""
    try:
        manifest = Manifest.model_validate_json((folder / "manifest.json").read_bytes())
    except (OSError, ValueError) as error:
        raise DataError(f"{folder} is no bundle: {error}") from None
    variant = manifest.variant(Target.CPU)
    if variant is None or variant.stages is not None:
        raise DataError(f"{folder} has no variant for the CPU in one piece, which is what accuracy is measured with")
    if not (folder / variant.file).is_file():
        raise DataError(f"{folder} is no bundle: its manifest names {variant.file}, and there is no such file")
    return manifest, folder / variant.file


@dataclass(slots=True)
class _Run:
    """One bundle's way through the samples."""

    view: View
    count: Count
    verdicts: Verdicts = field(default_factory=Verdicts)
    found: dict[str, list[Prediction]] = field(default_factory=dict)
    maps: dict[str, Map] = field(default_factory=dict)
    took_ms: list[float] = field(default_factory=list)

    def add(self, sample: Sample, prepared: Prepared, readings: Iterator[Reading]) -> None:
        stitch = Stitch(prepared.placement)
        for tile in range(prepared.placement.tiles):
            reading = next(readings)
            stitch.add(tile, reading.winner, reading.score)
            self.took_ms += [] if reading.took_ms is None else [reading.took_ms]
        class_map, score = refine(prepared, self.view, *stitch.result())
        there = regions(class_map, score, prepared.placement, self.view)
        frame_hw = (sample.mask.shape[0], sample.mask.shape[1])
        self.found[sample.id] = boxes.draw(there.regions, frame_hw)
        self.verdicts.add(there, is_bad=bool(sample.mask.any()))
        limits = np.frombuffer(self.view.limits, np.uint8)
        shown = np.where(score > limits[class_map], class_map, np.uint8(0)).astype(np.uint8)
        # Limits of area are in the camera's pixels, the map is in the model's.
        scale = shown.size / (frame_hw[0] * frame_hw[1])
        final = without_small(shown, [area_px * scale for area_px in self.view.least_area_px])
        high, wide = final.shape
        mask = np.asarray(cv2.resize(sample.mask, (wide, high), interpolation=cv2.INTER_NEAREST), np.uint8)
        self.count.add(sample.id, final, score, mask)
        self.maps[sample.id] = final


def evaluate_bundle(
    manifest: Manifest, reader: Reader, samples: Sequence[Sample], truth: Mapping[str, Sequence[Box]]
) -> Evaluated:
    """Pixels and instances are compared on the model's canvas, boxes in the picture's own pixels.

    Boxes are scored for DeepPCB's classes alone. Errors: DataError for samples that do not fit the model.
    """
    names = tuple(spec.name for spec in manifest.classes)
    view = View.of(manifest, None, ClassRules())
    prepared = [_prepared(sample, view) for sample in samples]
    readings = reader(inputs for each in prepared for inputs in each.inputs)
    run = _Run(view, Count(names))
    for sample, each in zip(samples, prepared, strict=True):
        run.add(sample, each, readings)
    scored = evaluate(truth, run.found) if any(truth.values()) and names == CLASSES else None
    latency_ms = float(np.median(run.took_ms)) if run.took_ms else None
    return Evaluated(run.count.measured(), scored, run.found, run.verdicts, run.maps, latency_ms)


def _prepared(sample: Sample, view: View) -> Prepared:
    reference = None
    if "reference" in view.roles:
        reference = Picture(np.ascontiguousarray(sample.inputs(("reference",))[0]), Layout.RGB)
    return prepare(Picture(np.ascontiguousarray(sample.image), Layout.RGB), view, reference)
