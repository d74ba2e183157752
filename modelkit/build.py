"""The steps from a plan to a bundle, each of which leaves its files in one work folder for the next."""

import importlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from modelkit.classmap import Map
from modelkit.convert_rknn import TARGETS, Job, convert
from modelkit.data import Sample
from modelkit.measure import Reading
from modelkit.pack import Material, Packed, pack
from modelkit.plan import DEVIATION, MEAN, Plan
from modelkit.report import box_table, table
from modelkit.sources import Source


class StepMissing(Exception):
    """A step needs a file that an earlier step writes."""


def train(plan: Plan, source: Source, work: Path, *, resume: bool = False) -> None:
    """Write `best.pt` and `last.pt`; needs torch."""
    if resume:
        _needed(work / "last.pt", "train")
    importlib.import_module("modelkit.train").fit(plan, source.crops(plan), source.watched(), work, resume=resume)


def export(source: Source, work: Path) -> None:
    """Write `conversion.onnx`, `cpu.onnx` and `record.json` from `best.pt`; needs torch."""
    net, plan, record = importlib.import_module("modelkit.train").load(_needed(work / "best.pt", "train"))
    if plan.roles != source.roles:
        raise ValueError(f"the model in {work} takes {', '.join(plan.roles)}; the data give {', '.join(source.roles)}")
    example = source.golden()[0]
    done = importlib.import_module("modelkit.export_onnx").export(net, plan.roles, example, work)
    (work / "record.json").write_text(json.dumps(record, indent=1))
    print(f"exported; the worst difference from torch is {done.worst_difference:.2g}")


def convert_all(source: Source, work: Path, environment: Path, algorithm: str = "normal") -> None:
    """Write `rknn/TARGET.rknn`, and the simulator's readings of the validation and golden pictures."""
    model = _needed(work / "conversion.onnx", "export").resolve()
    pictures = (work / "pictures").resolve()
    simulate = [
        *written(source.validation(), source.roles, pictures, "validation"),
        *written(source.golden(), source.roles, pictures, "golden"),
    ]
    job = Job(
        onnx=str(model),
        mean=MEAN,
        deviation=DEVIATION,
        targets=TARGETS,
        calibration=str(calibration_list(source, work)),
        simulate=tuple(simulate),
        out=str(work.resolve() / "rknn"),
        inputs=len(source.roles),
        algorithm=algorithm,
    )
    convert(job, environment.resolve())


def calibration_list(source: Source, work: Path) -> Path:
    """Write the calibration pictures and the list of them that the converter reads; return the list."""
    samples = written(source.calibration(), source.roles, (work / "pictures").resolve(), "calibration")
    if not samples:
        raise ValueError("the calibration set is empty: int8 ranges come from its pictures")
    listing = work.resolve() / "calibration.txt"
    listing.write_text("".join(" ".join(paths) + "\n" for paths in samples))
    return listing


def written(samples: Sequence[Sample], roles: Sequence[str], folder: Path, name: str) -> list[tuple[str, ...]]:
    """Write `NAME-0000.png`, `NAME-0000.ROLE.png` and so on; return the paths of each sample, in the roles' order."""
    folder.mkdir(parents=True, exist_ok=True)
    out = []
    for index, sample in enumerate(samples):
        paths = []
        for role, picture in zip(roles, sample.inputs(roles), strict=True):
            path = folder / (f"{name}-{index:04d}.png" if role == "image" else f"{name}-{index:04d}.{role}.png")
            cv2.imwrite(str(path), picture[:, :, ::-1])
            paths.append(str(path))
        out.append(tuple(paths))
    return out


def simulated(folder: Path, name: str, count: int) -> list[Reading]:
    """What the simulator gave for the samples that `written` wrote under this name."""

    def read(index: int, kind: str) -> Map:
        path = _needed(folder / f"{name}-{index:04d}.{kind}.png", "convert")
        return np.asarray(cv2.imread(str(path), cv2.IMREAD_GRAYSCALE), np.uint8)

    return [Reading(read(index, "map"), read(index, "score")) for index in range(count)]


def bundle(name: str, version: str, source: Source, work: Path, folder: Path) -> Packed:
    """Write the bundle and print how good it is."""
    record: dict[str, Any] = json.loads(_needed(work / "record.json", "export").read_text())
    models = _needed(work / "rknn", "convert")
    packed = pack(
        Material(
            name=name,
            version=version,
            cpu=_needed(work / "cpu.onnx", "export"),
            models=models,
            source=source,
            simulated=simulated(models, "validation", len(source.validation())),
            golden_simulated=simulated(models, "golden", len(source.golden())),
            record=record,
        ),
        folder,
    )
    print(table({"float32": packed.float32, "int8": packed.int8}))
    if packed.boxes_float32 and packed.boxes_int8:
        print(box_table({"float32": packed.boxes_float32, "int8": packed.boxes_int8}))
    print(f"golden agreement {packed.agreements}, least {packed.manifest.golden.least_agreement}")
    return packed


def build(name: str, version: str, plan: Plan, source: Source, places: tuple[Path, Path, Path]) -> Packed:
    """All steps; `places` are the work folder, the conversion environment and the bundle's folder."""
    work, environment, folder = places
    train(plan, source, work)
    export(source, work)
    convert_all(source, work, environment)
    return bundle(name, version, source, work, folder)


def _needed(path: Path, step: str) -> Path:
    if not path.exists():
        raise StepMissing(f"{path} is missing: run `python -m modelkit {step}` with the same work folder first")
    return path
