"""Train on with the rounding of int8, so that its ranges are learned."""

from dataclasses import asdict

from modelkit.pipeline.engine import Step, Task
from modelkit.pipeline.setting import Setting


def step(setting: Setting) -> Step | None:
    """Leaves `best.pt` and `change.json`."""
    parts = setting.spec.compression
    part = parts.qat
    if part is None:
        return None
    spec, source = setting.spec, setting.source
    plan = part.training.plan(spec.model, source.roles, len(setting.names))
    parent = "prune" if parts.prune else "distil" if parts.distil else "train"

    def run(task: Task) -> None:
        from modelkit import lineage, qat  # noqa: PLC0415  torch takes seconds, and other steps do without

        how = qat.Qat(str(task.inputs[parent] / "best.pt"), part.observed)
        resume = task.resume and (task.folder / "last.pt").exists()
        change = qat.fit(how, plan, source.crops(plan), source.watched(), task.folder, resume=resume)
        lineage.write([change], task.folder / "change.json")

    parameters = {"plan": asdict(plan), "observed": part.observed}
    return Step("qat", run, needs=("data", parent), parameters=parameters, resumable=True)
