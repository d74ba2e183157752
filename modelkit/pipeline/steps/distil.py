"""Train the network of the pipeline with a teacher beside it."""

from dataclasses import asdict

from modelkit.pipeline.engine import Step, Task
from modelkit.pipeline.setting import Setting


def step(setting: Setting) -> Step | None:
    """Leaves `best.pt` and `change.json`. It takes the place of `train`."""
    part = setting.spec.compression.distil
    if part is None:
        return None
    spec, source = setting.spec, setting.source
    plan = spec.training.plan(spec.model, source.roles, len(setting.names))
    checkpoint = part.teacher.checkpoint

    def run(task: Task) -> None:
        from modelkit import distil, lineage  # noqa: PLC0415  torch takes seconds, and other steps do without

        teacher = task.inputs["teacher"] / "best.pt" if checkpoint is None else checkpoint
        how = distil.Distil(str(teacher), part.temperature, part.weight)
        resume = task.resume and (task.folder / "last.pt").exists()
        change = distil.fit(how, plan, source.crops(plan), source.watched(), task.folder, resume=resume)
        lineage.write([change], task.folder / "change.json")

    return Step(
        "distil",
        run,
        needs=("data",) if checkpoint else ("data", "teacher"),
        parameters={"plan": asdict(plan), "temperature": part.temperature, "weight": part.weight},
        files=() if checkpoint is None else (checkpoint,),
        resumable=True,
    )
