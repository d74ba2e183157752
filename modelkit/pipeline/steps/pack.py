"""Put the bundle together, in the work folder: whether it becomes one is for the gates to say."""

import json
from pathlib import Path
from typing import Any

from modelkit import build
from modelkit.lineage import Change, manifest_lineage, read
from modelkit.pack import Material, classes_of, lineage_of, pack
from modelkit.pipeline.engine import Step, Task
from modelkit.pipeline.setting import Setting
from modelkit.synthesise import BAR_GREY
from schemas.manifest import Calibration, Letterbox, Lineage


def step(setting: Setting) -> Step:
    """Leaves the bundle as a folder `NAME-VERSION`."""
    spec = setting.spec
    chain = links(setting)

    def run(task: Task) -> None:
        source, models = setting.source, task.inputs["convert"] / "rknn"
        record = json.loads((task.inputs["export"] / "record.json").read_text())
        material = Material(
            name=spec.name,
            version=spec.version,
            cpu=task.inputs["export"] / "cpu.onnx",
            models=models,
            source=source,
            simulated=build.simulated(models, "validation", len(source.validation())),
            golden_simulated=build.simulated(models, "golden", len(source.golden())),
            record=record,
            classes=classes_of(setting.names),
            targets=tuple(target.value for target in spec.targets),
            lineage=_lineage(record, [task.inputs[name] for name in chain]),
            calibration=_calibration(task.inputs["calibrate"]),
            preprocess=[*spec.preprocess, Letterbox(fill=BAR_GREY)],
            later=spec.postprocess,
            canvases=[sample.image for sample in setting.supply.plain()] if spec.postprocess else (),
        )
        pack(material, task.folder / setting.title)

    parameters = {"name": spec.name, "version": spec.version, "description": spec.description, "licence": spec.licence}
    thresholds: dict[str, Any] = {"leastScore": spec.least_score, "leastAreaPx": spec.least_area_px}
    thresholds |= {"steps": [step.model_dump() for step in (*spec.preprocess, *spec.postprocess)]}
    needs = ("data", "export", "calibrate", "convert", *chain)
    return Step("pack", run, needs=needs, parameters=parameters | thresholds)


def links(setting: Setting) -> list[str]:
    """The steps of compression that the pipeline has, in their order."""
    parts = setting.spec.compression
    return [name for name in ("distil", "prune", "qat") if getattr(parts, name) is not None]


def changes(folders: list[Path]) -> list[Change]:
    """What each step of compression cost and gained."""
    return [change for folder in folders for change in read(folder / "change.json")]


def _calibration(folder: Path) -> Calibration:
    told = json.loads((folder / "coverage.json").read_text())
    return Calibration(
        images=told["images"], brightness_range=told["brightness_range"], contrast_range=told["contrast_range"]
    )


def _lineage(record: dict[str, Any], folders: list[Path]) -> Lineage:
    told = lineage_of(record)
    return manifest_lineage(told.architecture, told.parameters, told.training, changes(folders))
