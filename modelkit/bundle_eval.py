"""Measure a bundle on any samples, with the preparation and the regions of the board itself, float or int8."""

import importlib
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import onnxruntime as ort

from agent.core.frame import Layout, Picture, Pixels
from agent.core.vision import Prepared, Stitch, View, prepare, regions
from modelkit import boxes
from modelkit.build import calibration_list, simulated
from modelkit.classmap import best
from modelkit.convert_rknn import Job, convert
from modelkit.data import DataError, Sample
from modelkit.data.deeppcb import CLASSES, Box
from modelkit.deeppcb_eval import BoxScore, Prediction, evaluate
from modelkit.evaluate import Tally
from modelkit.measure import Measured, Reading
from modelkit.plan import DEVIATION, MEAN
from modelkit.sources import Source
from schemas.manifest import Manifest
from schemas.recipe import ClassRules
from schemas.target import Target

Inputs = tuple[Pixels, ...]
Reader = Callable[[Iterable[Inputs]], Iterator[Reading]]
"""From the pictures of each inference, (H, W, 3) uint8 in the manifest's order, to what the model says."""


@dataclass(frozen=True, slots=True)
class Evaluated:
    """`boxes` is None where nothing is annotated; `found` is by sample id."""

    measured: Measured
    boxes: BoxScore | None
    found: Mapping[str, list[Prediction]]


def open_bundle(folder: Path) -> tuple[Manifest, Path]:
    """The manifest and the `cpu` variant's file. Raises DataError for what is no such bundle."""
    try:
        manifest = Manifest.model_validate_json((folder / "manifest.json").read_bytes())
    except (OSError, ValueError) as error:
        raise DataError(f"{folder} is no bundle: {error}") from None
    variant = manifest.variant(Target.CPU)
    if variant is None or tuple(spec.name for spec in manifest.classes) != CLASSES:
        raise DataError(f"{folder} has no variant for the CPU, or other classes than {', '.join(CLASSES)}")
    return manifest, folder / variant.file


def evaluate_bundle(
    manifest: Manifest, reader: Reader, samples: Sequence[Sample], truth: Mapping[str, Sequence[Box]]
) -> Evaluated:
    """Pixels are compared on the model's canvas, boxes in the picture's own pixels."""
    view = View.of(manifest, None, ClassRules())
    prepared = [_prepared(sample, view) for sample in samples]
    readings = reader(inputs for each in prepared for inputs in each.inputs)
    tally, clean, false_alarms = Tally(len(CLASSES)), 0, 0
    found: dict[str, list[Prediction]] = {}
    limits = np.frombuffer(view.limits, np.uint8)
    for sample, each in zip(samples, prepared, strict=True):
        stitch = Stitch(each.placement)
        for tile in range(each.placement.tiles):
            reading = next(readings)
            stitch.add(tile, reading.winner, reading.score)
        class_map, score = stitch.result()
        there = regions(class_map, score, each.placement, view).regions
        found[sample.id] = boxes.draw(there, (sample.mask.shape[0], sample.mask.shape[1]))
        high, wide = class_map.shape
        mask = np.asarray(cv2.resize(sample.mask, (wide, high), interpolation=cv2.INTER_NEAREST), np.uint8)
        tally.add(np.where(score > limits[class_map], class_map, np.uint8(0)).astype(np.uint8), mask)
        if not sample.mask.any():
            clean += 1
            false_alarms += bool(there)
    scored = evaluate(truth, found) if any(truth.values()) else None
    return Evaluated(Measured(tally.score(CLASSES), clean, false_alarms), scored, found)


def cpu_reader(model: Path) -> Reader:
    """ONNX Runtime on the `cpu` variant."""

    def read(pictures: Iterable[Inputs]) -> Iterator[Reading]:
        session = ort.InferenceSession(str(model), providers=["CPUExecutionProvider"])
        names = [spec.name for spec in session.get_inputs()]
        for each in pictures:
            feed = {name: np.ascontiguousarray(picture)[None] for name, picture in zip(names, each, strict=True)}
            yield Reading(*best(np.asarray(session.run(None, feed)[0])[0]))

    return read


def int8_reader(model: Path, source: Source, environment: Path) -> Reader:
    """The converter's simulator on the `cpu` variant, quantised anew with the source's calibration pictures."""

    def read(pictures: Iterable[Inputs]) -> Iterator[Reading]:
        with tempfile.TemporaryDirectory() as made:
            work = Path(made)
            float_model = without_bytes(model, work / "conversion.onnx")
            samples = list(_written(pictures, work))
            job = Job(
                onnx=str(float_model),
                mean=MEAN,
                deviation=DEVIATION,
                targets=(Target.RK3588.value,),
                calibration=str(calibration_list(source, work)),
                simulate=tuple(samples),
                out=str(work / "rknn"),
                inputs=len(source.roles),
            )
            convert(job, environment.resolve())
            yield from simulated(work / "rknn", "sample", len(samples))

    return read


def without_bytes(model: Path, target: Path) -> Path:
    """Write what the converter reads: the `cpu` variant without its first steps, from bytes to normalised planes."""
    onnx = importlib.import_module("onnx")
    graph = onnx.load(str(model)).graph
    starts = [_after_division(graph, spec.name) for spec in graph.input]
    onnx.utils.extract_model(str(model), str(target), starts, [graph.output[0].name])
    return target


def _after_division(graph: object, name: str) -> str:
    """The tensor that the chain Transpose, Cast, Sub, Div makes of an input."""
    for operator in ("Transpose", "Cast", "Sub", "Div"):
        users = [node for node in graph.node if name in node.input]  # type: ignore[attr-defined] # onnx has no types
        if len(users) != 1 or users[0].op_type != operator:
            raise DataError(f"the cpu variant is not one that `export` wrote: {operator} does not follow {name}")
        name = users[0].output[0]
    return name


def _written(pictures: Iterable[Inputs], work: Path) -> Iterator[tuple[str, ...]]:
    for index, each in enumerate(pictures):
        paths = [str(work / f"sample-{index:04d}{'' if place == 0 else f'.{place}'}.png") for place in range(len(each))]
        for path, picture in zip(paths, each, strict=True):
            cv2.imwrite(path, picture[:, :, ::-1])
        yield tuple(paths)


def _prepared(sample: Sample, view: View) -> Prepared:
    reference = None
    if "reference" in view.roles:
        reference = Picture(np.ascontiguousarray(sample.inputs(("reference",))[0]), Layout.RGB)
    return prepare(Picture(np.ascontiguousarray(sample.image), Layout.RGB), view, reference)
