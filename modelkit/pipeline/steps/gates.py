"""Hold the figures against the gates; a gate that fails ends the build."""

import json

from modelkit.pipeline.engine import Step, Task
from modelkit.pipeline.gates import GateFailed, check
from modelkit.pipeline.setting import Setting
from modelkit.pipeline.steps.release import withdraw
from modelkit.report.document import Document, flat


def step(setting: Setting) -> Step:
    """Leaves `gates.json`. Raises GateFailed, and takes back the bundle that an earlier run of the same file made."""
    gates = setting.spec.gates

    def run(task: Task) -> None:
        checked = check(gates, flat(Document.read(task.inputs["evaluate"] / "evaluation.json")))
        if not all(each.holds for each in checked):
            withdraw(setting, task.folder.parent)
            raise GateFailed(checked)
        (task.folder / "gates.json").write_text(json.dumps([each.text for each in checked], indent=1))

    parameters = [gate.model_dump() for gate in gates]
    return Step("gates", run, needs=("evaluate", "report"), parameters=parameters)
