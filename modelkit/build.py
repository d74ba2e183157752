"""The steps from a plan to a bundle, each of which leaves its files in one work folder for the next."""

import importlib
import json
from pathlib import Path
from typing import Any, Final

import cv2
import numpy as np

from modelkit import synthesise
from modelkit.classmap import Map
from modelkit.convert_rknn import TARGETS, Job, convert
from modelkit.measure import Measured, Reading, measure, read_cpu
from modelkit.pack import Material, Packed, pack
from modelkit.plan import DEVIATION, MEAN, Plan
from modelkit.synthesise import Sample

VALIDATION_IMAGES: Final = 96
CALIBRATION_IMAGES: Final = 48
GOLDEN_CANDIDATES: Final = 32
MEASURED_FROM: Final = 1000
"""Past the pictures by which the trainer chose its best state."""


class StepMissing(Exception):
    """A step needs a file that an earlier step writes."""


def train(plan: Plan, work: Path, *, resume: bool = False) -> None:
    """Write `best.pt` and `record.json`; needs torch."""
    trainer = importlib.import_module("modelkit.train")
    trainer.train(plan, work, resume=resume)
    network, record = trainer.load(work / "best.pt")
    record["parameters"] = sum(p.numel() for p in network.parameters())
    (work / "record.json").write_text(json.dumps(record, indent=1))


def export(work: Path) -> None:
    """Write `conversion.onnx` and `cpu.onnx` from `best.pt`; needs torch."""
    done = importlib.import_module("modelkit.export_onnx").export(_needed(work / "best.pt", "train"), work)
    print(f"exported; the worst difference from torch is {done.worst_difference:.2g}")


def convert_all(work: Path, environment: Path) -> None:
    """Write `rknn/TARGET.rknn`, and the simulator's readings of the validation and golden pictures."""
    source = _needed(work / "conversion.onnx", "export").resolve()
    sets = {"validation": _validation(), "golden": _golden(), "calibration": _calibration()}
    paths: dict[str, list[str]] = {}
    for name, samples in sets.items():
        folder = (work / "pictures").resolve()
        folder.mkdir(parents=True, exist_ok=True)
        paths[name] = [str(folder / f"{name}-{i:04d}.png") for i in range(len(samples))]
        for path, sample in zip(paths[name], samples, strict=True):
            cv2.imwrite(path, sample.rgb[:, :, ::-1])
    listing = work.resolve() / "calibration.txt"
    listing.write_text("\n".join(paths["calibration"]) + "\n")
    job = Job(
        onnx=str(source),
        mean=MEAN,
        deviation=DEVIATION,
        targets=TARGETS,
        calibration=str(listing),
        simulate=(*paths["validation"], *paths["golden"]),
        out=str(work.resolve() / "rknn"),
    )
    convert(job, environment.resolve())


def bundle(name: str, version: str, work: Path, folder: Path) -> Packed:
    """Write the bundle and print how good it is."""
    record: dict[str, Any] = json.loads(_needed(work / "record.json", "train").read_text())
    validation, golden = _validation(), _golden()
    packed = pack(
        Material(
            name=name,
            version=version,
            cpu=_needed(work / "cpu.onnx", "export"),
            models=_needed(work / "rknn", "convert"),
            validation=validation,
            simulated=_simulated(work, "validation", len(validation)),
            golden=golden,
            golden_simulated=_simulated(work, "golden", len(golden)),
            calibration=_calibration(),
            record=record,
        ),
        folder,
    )
    print(table({"float32": packed.float32, "int8": packed.int8}))
    print(f"golden agreement {packed.agreements}, least {packed.manifest.golden.least_agreement}")
    return packed


def evaluate(model: Path, samples: list[Sample]) -> Measured:
    """Run a `cpu` variant over samples of its input size."""
    return measure(read_cpu(model, samples), samples)


def build(name: str, version: str, plan: Plan, places: tuple[Path, Path, Path]) -> Packed:
    """All steps; `places` are the work folder, the conversion environment and the bundle's folder."""
    work, environment, folder = places
    train(plan, work)
    export(work)
    convert_all(work, environment)
    return bundle(name, version, work, folder)


def table(columns: dict[str, Measured]) -> str:
    """A Markdown table, one column a measurement."""
    rows = [["", *columns], ["---"] * (len(columns) + 1)]
    rows.append(["mIoU", *(f"{m.score.miou:.3f}" for m in columns.values())])
    rows += [[f"IoU {name}", *(_three(m.score.iou.get(name)) for m in columns.values())] for name in synthesise.CLASSES]
    rows += [
        [f"regions: {label}", *(_three(getattr(m.score, label)) for m in columns.values())]
        for label in ("precision", "recall", "f1")
    ]
    rows.append(["clean pictures with a false alarm", *(f"{m.false_alarms} of {m.clean}" for m in columns.values())])
    return "\n".join("| " + " | ".join(row) + " |" for row in rows)


def _three(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"


def _validation() -> list[Sample]:
    return synthesise.validation(VALIDATION_IMAGES, first=MEASURED_FROM)


def _golden() -> list[Sample]:
    return synthesise.validation(GOLDEN_CANDIDATES, first=5000)


def _calibration() -> list[Sample]:
    return synthesise.calibration(CALIBRATION_IMAGES)


def _simulated(work: Path, name: str, count: int) -> list[Reading]:
    def read(index: int, kind: str) -> Map:
        path = _needed(work / "rknn" / f"{name}-{index:04d}.{kind}.png", "convert")
        return np.asarray(cv2.imread(str(path), cv2.IMREAD_GRAYSCALE), np.uint8)

    return [Reading(read(index, "map"), read(index, "score")) for index in range(count)]


def _needed(path: Path, step: str) -> Path:
    if not path.exists():
        raise StepMissing(f"{path} is missing: run `python -m modelkit {step}` with the same work folder first")
    return path
