"""A report in one HTML file: nothing is loaded from elsewhere, and no script runs."""

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from jinja2 import (
    Environment,
    FileSystemLoader,
    StrictUndefined,
)

from modelkit.report import plots
from modelkit.report.document import WORDS, Document, Run
from modelkit.report.tables import three
from schemas.manifest import Manifest

TEMPLATES: Final = Path(__file__).resolve().parents[1] / "templates"


@dataclass(frozen=True, slots=True)
class Report:
    """`facts` are label and value for the head; `worst` a PNG; `compared` documents of other models, for the plot;
    `checks` the gates: (text, holds); `notes` are paragraphs.
    """

    document: Document
    facts: Sequence[tuple[str, str]] = ()
    worst: bytes | None = None
    compared: Sequence[Document] = ()
    checks: Sequence[tuple[str, bool]] = ()
    notes: Sequence[str] = field(default_factory=tuple)


def render(report: Report) -> str:
    """The whole document as text."""
    environment = Environment(
        loader=FileSystemLoader(TEMPLATES), autoescape=True, undefined=StrictUndefined, trim_blocks=True
    )
    environment.filters["three"] = three
    environment.filters["percent"] = lambda value: "-" if value is None else f"{value:.1%}"
    environment.filters["png"] = lambda data: "data:image/png;base64," + base64.b64encode(data).decode()
    document = report.document
    name, run = plots.shown_first(document.runs)
    points = [plots.Point.of(each) for each in (document, *report.compared)]
    text: str = environment.get_template("report.html.j2").render(
        report=report,
        document=document,
        words=WORDS,
        shown=name,
        run=run,
        rows=_rows(document.runs),
        boxes=_boxes(document.runs),
        confusion=plots.confusion(run.figures),
        by_class=plots.by_class(document.runs),
        comparison=plots.comparison(points) if len(points) > 1 else None,
    )
    return text


def write(report: Report, path: Path) -> None:
    """Whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f"{path.name}.part")
    part.write_text(render(report), encoding="utf-8")
    part.replace(path)


def facts(manifest: Manifest) -> list[tuple[str, str]]:
    """The head of a report: what the model is, from its manifest."""
    lineage, calibration = manifest.lineage, manifest.calibration
    out = [
        ("architecture", lineage.architecture),
        ("quantisation", {"ptq": "after training", "qat": "learned in training", "none": "none"}[lineage.quantisation]),
    ]
    out += [("teacher", lineage.teacher)] if lineage.teacher else []
    out += [("pruned from", lineage.pruned_from)] if lineage.pruned_from else []
    if calibration is not None:
        out.append(("calibration", f"{calibration.images} pictures"))
        for name, span in (("brightness", calibration.brightness_range), ("contrast", calibration.contrast_range)):
            out += [] if span is None else [(f"calibration {name}", f"{span[0]:g} to {span[1]:g}")]
    sizes = ", ".join(
        f"{each.target.value} {sum(f.bytes for f in each.files()) / 1e6:.2f}" for each in manifest.variants
    )
    return [
        *out,
        ("files in MB", ", ".join(sizes)),
        ("licence", manifest.licence),
        ("description", manifest.description),
    ]


def _rows(runs: Mapping[str, Run]) -> list[tuple[str, list[str]]]:
    """The figures over all, one column a run."""

    def row(label: str, of: Any) -> tuple[str, list[str]]:
        return label, [of(run) for run in runs.values()]

    rows = [
        row("mIoU", lambda run: three(run.figures.miou)),
        row("mean Dice", lambda run: three(run.figures.mean_dice)),
        row("instance precision", lambda run: three(run.figures.precision)),
        row("instance recall", lambda run: three(run.figures.recall)),
        row("instance F", lambda run: three(run.figures.f1)),
        row("instance mAP", lambda run: three(run.figures.mean_ap)),
        row(
            "clean pictures with a false alarm", lambda run: f"{run.false_alarms} of {run.clean}" if run.clean else "-"
        ),
    ]
    if any(run.verdicts for run in runs.values()):
        rows += [
            row("bad parts passed", lambda run: _of(run, "escapes", "bad")),
            row("good parts rejected", lambda run: _of(run, "overkill", "good")),
        ]
    if any(run.latency_ms is not None for run in runs.values()):
        rows.append(row("median inference", lambda run: "-" if run.latency_ms is None else f"{run.latency_ms:.1f} ms"))
    return rows


def _of(run: Run, part: str, whole: str) -> str:
    of = 0 if run.verdicts is None else getattr(run.verdicts, whole)
    return f"{getattr(run.verdicts, part)} of {of}" if of else "-"


def _boxes(runs: Mapping[str, Run]) -> list[tuple[str, list[str]]]:
    """DeepPCB's published evaluation, where it was made; its columns are `runs` that have boxes."""
    scored = [run.boxes for run in runs.values() if run.boxes is not None]
    if not scored:
        return []
    labels = ("F-score", "f1"), ("mAP", "mean_ap"), ("precision", "precision"), ("recall", "recall")
    rows = [(label, [f"{getattr(each, name):.1%}" for each in scored]) for label, name in labels]
    return rows + [(name, [" / ".join(map(str, s.by_class[name])) for s in scored]) for name in scored[0].by_class]
