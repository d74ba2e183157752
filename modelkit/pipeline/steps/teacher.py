"""Train the teacher of a distillation, where it is no checkpoint already."""

from modelkit.pipeline.engine import Step
from modelkit.pipeline.setting import Setting
from modelkit.pipeline.steps.train import trained


def step(setting: Setting) -> Step | None:
    """Leaves `best.pt`."""
    distil = setting.spec.compression.distil
    if distil is None or distil.teacher.model is None:
        return None
    teacher = distil.teacher
    plan = teacher.training.plan(distil.teacher.model, setting.source.roles, len(setting.names))
    return trained(setting, "teacher", plan)
