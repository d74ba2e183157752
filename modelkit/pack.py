"""Write a bundle: the models, the golden frames, and a manifest with what was measured; whole or not at all."""

import colorsys
import hashlib
import shutil
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final, Literal

import cv2
import numpy as np

from agent.core.frame import Pixels
from agent.core.health import agreement
from agent.core.vision.refine import crf
from modelkit.convert_rknn import TARGETS, TOOLKIT
from modelkit.data import Sample
from modelkit.data.deeppcb import CLASSES
from modelkit.deeppcb_eval import BoxScore
from modelkit.measure import Measured, Reading, measure, measure_boxes, read_cpu
from modelkit.sources import Source
from modelkit.synthesise import BAR_GREY, COLOURS
from schemas.manifest import (
    Accuracy,
    Calibration,
    Crf,
    DefectClass,
    Golden,
    GoldenFrame,
    LeastArea,
    Letterbox,
    Lineage,
    Manifest,
    ModelInput,
    PostprocessStep,
    PreprocessStep,
    Severity,
    Threshold,
    Variant,
)
from schemas.target import Target

_SEVERITIES: Final = (
    Severity.NONE,
    Severity.CRITICAL,
    Severity.CRITICAL,
    Severity.MAJOR,
    Severity.MAJOR,
    Severity.MAJOR,
    Severity.MINOR,
)
GOLDEN_FRAMES: Final = 6
_ROLES: Final[dict[str, Literal["image", "reference"]]] = {"image": "image", "reference": "reference"}
_MARGIN: Final = 0.05
"""Runtimes round differently from release to release; a wrong model falls short by far more."""


def classes_of(names: Sequence[str]) -> list[DefectClass]:
    """As the manifest lists them, the background first: the severities of DeepPCB's classes, else `major`, and colours
    that differ.
    """
    if tuple(names) == CLASSES:
        triples = zip(CLASSES, COLOURS, _SEVERITIES, strict=True)
    else:
        severities = [Severity.NONE] + [Severity.MAJOR] * (len(names) - 1)
        triples = zip(names, ["#000000", *_hues(len(names) - 1)], severities, strict=True)
    return [DefectClass(id=i, name=name, colour=c, severity=s) for i, (name, c, s) in enumerate(triples)]


def _hues(count: int) -> list[str]:
    wheel = (colorsys.hsv_to_rgb(index / max(1, count), 0.8, 0.9) for index in range(count))
    return ["#" + "".join(f"{round(255 * part):02x}" for part in rgb) for rgb in wheel]


@dataclass(frozen=True, slots=True)
class Material:
    """What a bundle is made of. `models` holds `TARGET.rknn` for each of `targets`, `simulated` the readings of the
    source's validation pictures and `golden_simulated` those of its candidates for golden frames, in order. Without
    `lineage` and `calibration` they are those of the training's record and of the source. `later` are steps of
    postprocessing beside the thresholds; a crf among them needs `canvases`, the validation pictures (H, W, 3) as the
    camera gave them, at the model's size.
    """

    name: str
    version: str
    cpu: Path
    models: Path
    source: Source
    simulated: Sequence[Reading]
    golden_simulated: Sequence[Reading]
    record: dict[str, Any]
    classes: Sequence[DefectClass] = field(default_factory=lambda: classes_of(CLASSES))
    targets: tuple[str, ...] = TARGETS
    lineage: Lineage | None = None
    calibration: Calibration | None = None
    preprocess: Sequence[PreprocessStep] = (Letterbox(fill=BAR_GREY),)
    later: Sequence[PostprocessStep] = ()
    canvases: Sequence[Pixels] = ()

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(spec.name for spec in self.classes)


@dataclass(frozen=True, slots=True)
class Packed:
    manifest: Manifest
    float32: Measured
    int8: Measured
    agreements: list[float]
    boxes_float32: BoxScore | None = None
    boxes_int8: BoxScore | None = None


def pack(material: Material, folder: Path, now: datetime | None = None) -> Packed:
    """Write the bundle to `folder`, which must not exist. Errors: FileExistsError; those of reading what it is made of;
    no folder is left behind then.
    """
    if folder.exists():
        raise FileExistsError(f"{folder} is there already: name another folder, or remove it")
    part = folder.with_name(f".{folder.name}.part")
    shutil.rmtree(part, ignore_errors=True)
    try:
        packed = _pack(material, part, now or datetime.now(UTC))
        part.rename(folder)
    finally:
        shutil.rmtree(part, ignore_errors=True)
    return packed


def _pack(material: Material, folder: Path, now: datetime) -> Packed:
    (folder / "golden").mkdir(parents=True)
    variants = [_variant(material.models / f"{target}.rknn", Target(target), folder) for target in material.targets]
    variants.append(_variant(material.cpu, Target.CPU, folder))
    golden, agreements = _golden(material, folder)
    float32, int8, boxes = _scored(material)
    source = material.source
    shape = (source.size_px, source.size_px)
    manifest = Manifest(
        name=material.name,
        version=material.version,
        created_at=now,
        description=source.description + _in_words(boxes[1]),
        licence=source.licence,
        classes=list(material.classes),
        inputs=[ModelInput(name=role, role=_ROLES[role], shapes=[shape]) for role in source.roles],
        preprocess=list(material.preprocess),
        postprocess=[
            Threshold(min_score=source.thresholds.least_score),
            LeastArea(px=source.thresholds.least_area_px),
            *material.later,
        ],
        output="logits",
        variants=variants,
        golden=golden,
        accuracy=Accuracy(
            dataset=source.dataset, images=float32.figures.images, float32=float32.score, int8=int8.score
        ),
        calibration=material.calibration or _calibration(source.calibration()),
        lineage=material.lineage or lineage_of(material.record),
    )
    (folder / "manifest.json").write_text(manifest.model_dump_json(by_alias=True, exclude_none=True, indent=1) + "\n")
    return Packed(manifest, float32, int8, agreements, *boxes)


def _scored(material: Material) -> tuple[Measured, Measured, tuple[BoxScore | None, BoxScore | None]]:
    """Float and int8, by pixel and region, and by boxes where the samples have any."""
    source, names = material.source, material.names
    samples, boxes = source.validation(), source.boxes()
    raw = list(read_cpu(material.cpu, samples, source.roles)), list(material.simulated)
    both = [_refined(readings, material) for readings in raw]
    float32, int8 = (measure(readings, samples, source.thresholds, names) for readings in both)
    if not boxes:
        return float32, int8, (None, None)
    ids = [sample.id for sample in samples]
    scored = [measure_boxes(dict(zip(ids, each, strict=True)), boxes, source.thresholds) for each in both]
    return float32, int8, (scored[0], scored[1])


def _refined(readings: Sequence[Reading], material: Material) -> Sequence[Reading]:
    """After the step crf, where the manifest has it."""
    step = next((each for each in material.later if isinstance(each, Crf)), None)
    if step is None:
        return readings
    pairs = zip(readings, material.canvases, strict=True)
    return [Reading(*crf(canvas, each.winner, each.score, step), each.took_ms) for each, canvas in pairs]


def _in_words(boxes: BoxScore | None) -> str:
    if boxes is None:
        return ""
    return f" Boxes by DeepPCB's evaluation, int8, unseen pictures: F {boxes.f1:.1%}, mAP {boxes.mean_ap:.1%}."


def digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _variant(source: Path, target: Target, folder: Path) -> Variant:
    copied = folder / (f"model-{target.value}{source.suffix}")
    shutil.copyfile(source, copied)
    cpu = target is Target.CPU
    return Variant(
        target=target,
        runtime="onnx" if cpu else "rknn",
        toolkit_version="onnx opset 17" if cpu else TOOLKIT,
        dtype="float32" if cpu else "int8",
        file=copied.name,
        bytes=copied.stat().st_size,
        sha256=digest(copied),
    )


def _golden(material: Material, folder: Path) -> tuple[Golden, list[float]]:
    """Of the candidates, take those on which many classes are found and float and int8 agree well.

    A frame on which the two differ says little about a board: it would only force the bar down.
    """
    roles, samples = material.source.roles, material.source.golden()
    floats = read_cpu(material.cpu, samples, roles)
    rated = []
    for index, (reading, reference) in enumerate(zip(floats, material.golden_simulated, strict=True)):
        seen = len(np.unique(reference.winner)) - 1
        rated.append((agreement(reading.winner, reference.winner, len(material.classes)), min(seen, 3), index))
    # First what shows three classes or more, then the closest agreement.
    chosen = sorted(rated, key=lambda each: (-each[1], -each[0]))[:GOLDEN_FRAMES]
    frames = []
    for place, (_, _, index) in enumerate(chosen):
        names = [f"golden/{place}.png" if role == "image" else f"golden/{place}.{role}.png" for role in roles]
        class_map = f"golden/{place}.map.png"
        pictures = [each[:, :, ::-1] for each in samples[index].inputs(roles)]
        for name, picture in zip(
            [*names, class_map], [*pictures, material.golden_simulated[index].winner], strict=True
        ):
            cv2.imwrite(str(folder / name), picture, [cv2.IMWRITE_PNG_COMPRESSION, 9])
        digests = {name: digest(folder / name) for name in (*names, class_map)}
        frames.append(GoldenFrame(inputs=names, class_map=class_map, sha256=digests))
    agreements = [round(value, 4) for value, _, _ in chosen]
    bar = np.floor((min(agreements) - _MARGIN) * 100) / 100
    return Golden(frames=frames, least_agreement=float(max(0.0, bar))), agreements


def _calibration(samples: Sequence[Sample]) -> Calibration:
    means = [float(s.image.mean()) for s in samples]
    spreads = [float(s.image.std()) for s in samples]
    return Calibration(
        images=len(samples),
        brightness_range=(round(min(means), 1), round(max(means), 1)),
        contrast_range=(round(min(spreads), 1), round(max(spreads), 1)),
    )


def lineage_of(record: dict[str, Any]) -> Lineage:
    plan: dict[str, Any] = record["plan"]
    flat = {key: " ".join(map(str, value)) if isinstance(value, tuple | list) else value for key, value in plan.items()}
    flat["start"] = Path(plan["start"]).parent.name
    return Lineage(
        architecture=f"{plan['architecture']}, width {plan['width']}",
        parameters=int(record["parameters"]),
        quantisation="ptq",
        training={**flat, "bestStep": int(record["step"]), "bestMiou": round(float(record["miou"]), 4)},
    )
