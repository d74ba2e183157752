"""Write the report, before the gates: what failed is to be seen too."""

from modelkit.pipeline.engine import Step, Task
from modelkit.pipeline.gates import check
from modelkit.pipeline.setting import Setting
from modelkit.report.document import Document, flat
from schemas.manifest import Manifest


def step(setting: Setting) -> Step:
    """Leaves `report.html`."""
    spec = setting.spec

    def run(task: Task) -> None:
        from modelkit.report.html import Report, facts, write  # noqa: PLC0415  other steps do without jinja2 and matplotlib

        document = Document.read(task.inputs["evaluate"] / "evaluation.json")
        manifest = Manifest.model_validate_json((task.inputs["pack"] / setting.title / "manifest.json").read_bytes())
        worst = task.inputs["evaluate"] / "worst.png"
        report = Report(
            document,
            facts=facts(manifest),
            worst=worst.read_bytes() if worst.exists() else None,
            checks=[(each.text, each.holds) for each in check(spec.gates, flat(document))],
        )
        write(report, task.folder / "report.html")

    parameters = [gate.model_dump() for gate in spec.gates]
    return Step("report", run, needs=("evaluate", "pack"), parameters=parameters)
