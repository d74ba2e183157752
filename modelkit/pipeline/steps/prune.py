"""Take channels from what was trained, and train on."""

from dataclasses import asdict

from modelkit.pipeline.engine import Step, Task
from modelkit.pipeline.setting import Setting


def step(setting: Setting) -> Step | None:
    """Leaves `best.pt` and `change.json`."""
    part = setting.spec.compression.prune
    if part is None:
        return None
    spec, source = setting.spec, setting.source
    plan = part.training.plan(spec.model, source.roles, len(setting.names))
    parent = "distil" if spec.compression.distil else "train"
    options = part.model_dump(exclude={"training"})

    def run(task: Task) -> None:
        from modelkit import lineage, prune  # noqa: PLC0415  torch takes seconds, and other steps do without

        how = prune.Prune(str(task.inputs[parent] / "best.pt"), **options)
        resume = task.resume and (task.folder / "last.pt").exists()
        change = prune.fit(how, plan, source.crops(plan), source.watched(), task.folder, resume=resume)
        lineage.write([change], task.folder / "change.json")

    parameters = {"plan": asdict(plan), **options}
    return Step("prune", run, needs=("data", parent), parameters=parameters, resumable=True)
