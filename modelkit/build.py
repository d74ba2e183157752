"""The steps from a plan to a bundle, each of which leaves its files in one work folder for the next."""

import importlib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from modelkit.classmap import Map
from modelkit.convert_rknn import TARGETS, Conversion, Hybrid, Job, Progress, convert
from modelkit.data import Sample
from modelkit.measure import Reading
from modelkit.pack import Material, Packed, classes_of, pack
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
    record = exported(_needed(work / "best.pt", "train"), source, work)
    (work / "record.json").write_text(json.dumps(record, indent=1))


def exported(checkpoint: Path, source: Source, folder: Path) -> dict[str, Any]:
    """Write `conversion.onnx` and `cpu.onnx`, with the scales in them where int8 was learned; return the training's
    record. Needs torch. Errors: ValueError for a model whose inputs the data have not.
    """
    net, plan, record = importlib.import_module("modelkit.train").load(checkpoint)
    if plan.roles != source.roles:
        raise ValueError(f"{checkpoint} takes {', '.join(plan.roles)}; the data give {', '.join(source.roles)}")
    quantised = isinstance(net, importlib.import_module("modelkit.fake_quant").Quantised)
    writer = importlib.import_module("modelkit.qat" if quantised else "modelkit.export_onnx")
    done = writer.export(net, plan.roles, source.golden()[0], folder)
    print(f"exported; the worst difference from torch is {done.worst_difference:.2g}")
    told: dict[str, Any] = record
    return told


@dataclass(frozen=True, slots=True)
class How:
    """Of a conversion; see `modelkit.rknn_job.Job`."""

    targets: tuple[str, ...] = TARGETS
    algorithm: str = "normal"
    hybrid: Hybrid | None = None
    shapes: tuple[tuple[int, int], ...] = ()
    batch: int = 1
    class_map: bool = False


def convert_all(source: Source, work: Path, environment: Path, how: How | None = None) -> Conversion:
    """Write `rknn/TARGET.rknn`, and the simulator's readings of the validation and golden pictures."""
    model = _needed(work / "conversion.onnx", "export")
    listing = calibration_list(source, work)
    return converted(source, (model, listing, work), environment, how or How())


def converted(
    source: Source,
    places: tuple[Path, Path, Path],
    environment: Path,
    how: How,
    progress: Callable[[Progress], None] | None = None,
) -> Conversion:
    """`places` are the ONNX file, the list of calibration pictures, and the folder that gets `rknn` and `pictures`."""
    model, listing, folder = (path.resolve() for path in places)
    simulate = [
        *written(source.validation(), source.roles, folder / "pictures", "validation"),
        *written(source.golden(), source.roles, folder / "pictures", "golden"),
    ]
    job = Job(
        onnx=str(model),
        mean=MEAN,
        deviation=DEVIATION,
        targets=how.targets,
        calibration=str(listing),
        # One model of several pictures a call, or of other shapes, cannot be asked about these pictures one by one.
        simulate=() if how.batch > 1 or how.shapes else tuple(simulate),
        out=str(folder / "rknn"),
        inputs=len(source.roles),
        algorithm=how.algorithm,
        shapes=how.shapes,
        batch=how.batch,
        class_map=how.class_map,
        hybrid=how.hybrid,
    )
    return convert(job, environment.resolve(), progress)


def calibration_list(source: Source, work: Path) -> Path:
    """Write the calibration pictures and the list of them that the converter reads; return the list."""
    return listed(source.calibration(), source.roles, work)


def listed(samples: Sequence[Sample], roles: Sequence[str], folder: Path) -> Path:
    """Write `pictures`, and `calibration.txt` with those of one sample a line. Errors: ValueError for no sample."""
    paths = written(samples, roles, (folder / "pictures").resolve(), "calibration")
    if not paths:
        raise ValueError("the calibration set is empty: int8 ranges come from its pictures")
    listing = folder.resolve() / "calibration.txt"
    listing.write_text("".join(" ".join(each) + "\n" for each in paths))
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


def bundle(title: tuple[str, str], source: Source, names: Sequence[str], work: Path, folder: Path) -> Packed:
    """Write the bundle and print how good it is. `title` is name and version, `names` are the classes by id."""
    record: dict[str, Any] = json.loads(_needed(work / "record.json", "export").read_text())
    models = _needed(work / "rknn", "convert")
    packed = pack(
        Material(
            name=title[0],
            version=title[1],
            cpu=_needed(work / "cpu.onnx", "export"),
            models=models,
            source=source,
            simulated=simulated(models, "validation", len(source.validation())),
            golden_simulated=simulated(models, "golden", len(source.golden())),
            record=record,
            classes=classes_of(names),
            targets=tuple(path.stem for path in sorted(models.glob("*.rknn"))),
        ),
        folder,
    )
    print(table({"float32": packed.float32, "int8": packed.int8}))
    if packed.boxes_float32 and packed.boxes_int8:
        print(box_table({"float32": packed.boxes_float32, "int8": packed.boxes_int8}))
    print(f"golden agreement {packed.agreements}, least {packed.manifest.golden.least_agreement}")
    return packed


def _needed(path: Path, step: str) -> Path:
    if not path.exists():
        raise StepMissing(f"{path} is missing: run `python -m modelkit {step}` with the same work folder first")
    return path
