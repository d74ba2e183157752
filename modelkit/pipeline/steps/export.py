"""Write the network as ONNX: for the converter, and for a board without an NPU."""

import json

from modelkit.pipeline.engine import Step, Task
from modelkit.pipeline.setting import Setting


def step(setting: Setting) -> Step:
    """Leaves `conversion.onnx`, `cpu.onnx` and `record.json`."""

    def run(task: Task) -> None:
        from modelkit import build  # noqa: PLC0415  torch takes seconds, and other steps do without

        record = build.exported(task.inputs[setting.network] / "best.pt", setting.source, task.folder)
        (task.folder / "record.json").write_text(json.dumps(record, indent=1))

    return Step("export", run, needs=("data", setting.network))
