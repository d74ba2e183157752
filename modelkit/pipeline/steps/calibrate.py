"""Choose the pictures that give int8 its ranges, so that they cover the scene."""

import json
from dataclasses import asdict

from modelkit import build, calibration
from modelkit.data import read_all
from modelkit.pipeline.engine import Step, Task
from modelkit.pipeline.setting import Setting


def step(setting: Setting) -> Step:
    """Leaves `calibration.txt`, the list that the converter reads, the pictures that it names, and `coverage.json`."""
    part = setting.spec.calibration

    def run(task: Task) -> None:
        population = setting.supply.population(part.images)
        looks = calibration.looks(population)
        chosen = calibration.choose(looks, part.images, part.seed)
        covered = calibration.coverage(looks, chosen)
        for warning in covered.warnings:
            print(f"calibration: {warning}", flush=True)
        samples = read_all(population, [look.id for look in chosen])
        build.listed(samples, setting.source.roles, task.folder)
        told = {"images": len(chosen), "of": len(looks), **asdict(covered)}
        (task.folder / "coverage.json").write_text(json.dumps(told, indent=1))

    return Step("calibrate", run, needs=("data",), parameters=part.model_dump())
