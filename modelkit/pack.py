"""Write a bundle: the models, the golden frames, and a manifest with what was measured."""

import hashlib
import shutil
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import cv2
import numpy as np

from agent.core.health import agreement
from modelkit.convert_rknn import TARGETS, TOOLKIT
from modelkit.measure import LEAST_AREA_PX, LEAST_SCORE, Measured, Reading, measure, read_cpu
from modelkit.synthesise import BAR_GREY, CLASSES, COLOURS, PLATE_PX, Sample
from schemas.manifest import (
    Accuracy,
    Calibration,
    DefectClass,
    Golden,
    GoldenFrame,
    LeastArea,
    Letterbox,
    Lineage,
    Manifest,
    ModelInput,
    Severity,
    Threshold,
    Variant,
)
from schemas.target import Target

SEVERITIES: Final = (
    Severity.NONE,
    Severity.CRITICAL,
    Severity.CRITICAL,
    Severity.MAJOR,
    Severity.MAJOR,
    Severity.MAJOR,
    Severity.MINOR,
)
GOLDEN_FRAMES: Final = 6
_MARGIN: Final = 0.05
"""Runtimes round differently from release to release; a wrong model falls short by far more."""


@dataclass(frozen=True, slots=True)
class Material:
    """What a bundle is made of. `models` holds `TARGET.rknn`, `simulated` the readings of the validation pictures and
    `golden_simulated` those of the candidates for golden frames.
    """

    name: str
    version: str
    cpu: Path
    models: Path
    validation: list[Sample]
    simulated: list[Reading]
    golden: list[Sample]
    golden_simulated: list[Reading]
    calibration: list[Sample]
    record: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Packed:
    manifest: Manifest
    float32: Measured
    int8: Measured
    agreements: list[float]


def pack(material: Material, folder: Path, now: datetime | None = None) -> Packed:
    """Write the bundle to `folder`, which must not exist."""
    (folder / "golden").mkdir(parents=True)
    variants = [_variant(material.models / f"{target}.rknn", Target(target), folder) for target in TARGETS]
    variants.append(_variant(material.cpu, Target.CPU, folder))
    golden, agreements = _golden(material, folder)
    float32 = measure(read_cpu(material.cpu, material.validation), material.validation)
    int8 = measure(material.simulated, material.validation)
    manifest = Manifest(
        name=material.name,
        version=material.version,
        created_at=now or datetime.now(UTC),
        description="Finds six kinds of etching faults on bare printed circuit boards, in colour or black and white.",
        licence="Apache-2.0; trained on procedural pictures alone",
        classes=_classes(),
        inputs=[ModelInput(name="image", shapes=[(PLATE_PX, PLATE_PX)])],
        preprocess=[Letterbox(fill=BAR_GREY)],
        postprocess=[Threshold(min_score=LEAST_SCORE), LeastArea(px=LEAST_AREA_PX)],
        output="logits",
        variants=variants,
        golden=golden,
        accuracy=Accuracy(
            dataset="procedural boards, validation seeds (a quarter of them conveyor pictures), after postprocessing",
            images=len(material.validation),
            float32=float32.score,
            int8=int8.score,
        ),
        calibration=_calibration(material.calibration),
        lineage=_lineage(material.record),
    )
    (folder / "manifest.json").write_text(manifest.model_dump_json(by_alias=True, exclude_none=True, indent=1) + "\n")
    return Packed(manifest, float32, int8, agreements)


def digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _classes() -> list[DefectClass]:
    triples = zip(CLASSES, COLOURS, SEVERITIES, strict=True)
    return [DefectClass(id=i, name=name, colour=c, severity=s) for i, (name, c, s) in enumerate(triples)]


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
    floats = read_cpu(material.cpu, material.golden)
    rated = []
    for index, (reading, reference) in enumerate(zip(floats, material.golden_simulated, strict=True)):
        seen = len(np.unique(reference.winner)) - 1
        rated.append((agreement(reading.winner, reference.winner, len(CLASSES)), min(seen, 3), index))
    # First what shows three classes or more, then the closest agreement.
    chosen = sorted(rated, key=lambda each: (-each[1], -each[0]))[:GOLDEN_FRAMES]
    frames = []
    for place, (_, _, index) in enumerate(chosen):
        image, class_map = f"golden/{place}.png", f"golden/{place}.map.png"
        cv2.imwrite(str(folder / image), material.golden[index].rgb[:, :, ::-1], [cv2.IMWRITE_PNG_COMPRESSION, 9])
        cv2.imwrite(str(folder / class_map), material.golden_simulated[index].winner, [cv2.IMWRITE_PNG_COMPRESSION, 9])
        digests = {name: digest(folder / name) for name in (image, class_map)}
        frames.append(GoldenFrame(inputs=[image], class_map=class_map, sha256=digests))
    agreements = [round(value, 4) for value, _, _ in chosen]
    bar = np.floor((min(agreements) - _MARGIN) * 100) / 100
    return Golden(frames=frames, least_agreement=float(max(0.0, bar))), agreements


def _calibration(samples: list[Sample]) -> Calibration:
    means = [float(s.rgb.mean()) for s in samples]
    spreads = [float(s.rgb.std()) for s in samples]
    return Calibration(
        images=len(samples),
        brightness_range=(round(min(means), 1), round(max(means), 1)),
        contrast_range=(round(min(spreads), 1), round(max(spreads), 1)),
    )


def _lineage(record: dict[str, Any]) -> Lineage:
    plan: dict[str, Any] = record["plan"] | {"start": Path(record["plan"]["start"]).parent.name}
    return Lineage(
        architecture=f"U-Net, {plan['base']} base channels, stride-2 stem, 4 levels, transposed-convolution head",
        parameters=int(record["parameters"]),
        quantisation="ptq",
        training={**plan, "bestStep": int(record["step"]), "bestMiou": round(float(record["miou"]), 4)},
    )
