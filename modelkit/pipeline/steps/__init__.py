"""The steps of a pipeline, a module each: `step(setting)` says what it needs and runs one function of the kit."""

from collections.abc import Callable
from typing import Final

from modelkit.pipeline.engine import Step
from modelkit.pipeline.setting import Setting
from modelkit.pipeline.steps import (
    calibrate,
    convert,
    data,
    distil,
    evaluate,
    export,
    gates,
    pack,
    prune,
    qat,
    release,
    report,
    teacher,
    train,
)

Maker = Callable[[Setting], Step | None]
REGISTRY: Final[tuple[Maker, ...]] = (
    data.step,
    teacher.step,
    lambda setting: None if setting.spec.compression.distil else train.step(setting),
    distil.step,
    prune.step,
    qat.step,
    export.step,
    calibrate.step,
    convert.step,
    pack.step,
    evaluate.step,
    report.step,
    gates.step,
    release.step,
)
"""A maker gives None for a step that the pipeline has not."""


def steps_of(setting: Setting) -> list[Step]:
    return [step for maker in REGISTRY if (step := maker(setting)) is not None]
