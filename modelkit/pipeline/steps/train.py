"""Train the network of the pipeline, or a teacher for it."""

from dataclasses import asdict

from modelkit.pipeline.engine import Step, Task
from modelkit.pipeline.setting import Setting
from modelkit.plan import Plan


def step(setting: Setting) -> Step:
    """Leaves `best.pt`."""
    spec = setting.spec
    return trained(setting, "train", spec.training.plan(spec.model, setting.source.roles, len(setting.names)))


def trained(setting: Setting, name: str, plan: Plan) -> Step:
    def run(task: Task) -> None:
        from modelkit import train  # noqa: PLC0415  torch takes seconds, and other steps do without

        resume = task.resume and (task.folder / "last.pt").exists()
        source = setting.source
        train.fit(plan, source.crops(plan), source.watched(), task.folder, resume=resume)

    start = setting.spec.training.start if name == "train" else None
    files = () if start is None else (start,)
    return Step(name, run, needs=("data",), parameters=asdict(plan), files=files, resumable=True)
