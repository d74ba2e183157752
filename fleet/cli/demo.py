"""`rkfleet demo`."""

import json
import shutil
import sys
import time
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.live import Live
from rich.table import Table

from fleet import report, sheet, timeline
from fleet.demo import run as demonstration
from fleet.demo.board import Plan
from fleet.demo.run import Show, Stage
from fleet.demo.seen import Seen
from fleet.demo.story import Act

_ZOO = Path(__file__).resolve().parents[2] / "modelkit" / "zoo"
_SECONDS_A_LINE = 5.0


def demo(
    *,
    seconds: Annotated[float, typer.Option(min=1, help="Least time to inspect with each model.")] = 10.0,
    source: Annotated[str, typer.Option(help="A folder of pictures, a video file or an rtsp:// URL.")] = "",
    installed: Annotated[Path | None, typer.Option(help="The bundle to begin with; default: the zoo's first.")] = None,
    bundle: Annotated[Path | None, typer.Option(help="The better bundle; default: the zoo's best.")] = None,
    out: Annotated[Path, typer.Option(help="Where the report and the picture go.")] = Path("build/demo"),
    as_json: Annotated[bool, typer.Option("--json", help="Print the report as JSON and nothing else.")] = False,
) -> None:
    """Run an agent on moving pictures with a broker inside, and change its model while it works; a reader receives
    every result. A corrupted and a bad model are tried too.

    Exit 0 only if the better model was committed, the others were refused, and nothing was lost.

    `rkfleet demo` shows it on drawn boards, `rkfleet demo --seconds 60 --source /data/boards` on pictures of your own,
    `rkfleet demo --source rtsp://camera.example/stream --json` on a camera, for a script.
    """
    zoo = zoo_bundles()
    plan = Plan(seconds, source, installed or zoo[0], bundle or zoo[-1], out)
    _check(plan)
    console = Console(stderr=as_json)
    shutil.rmtree(out / "data", ignore_errors=True)
    try:
        seen, story = _run(plan, console)
    except (demonstration.DemoFailed, RuntimeError, TimeoutError) as error:
        console.print(f"The demonstration failed: {error}", style="red", markup=False)
        raise typer.Exit(1) from error
    _finish((seen, story), plan, console, as_json=as_json)


def zoo_bundles() -> list[Path]:
    """From the first version to the last, of those that need no reference: the demo's boards are all different."""
    found = sorted(_ZOO.glob("*/manifest.json"), key=lambda path: _numbers(path.parent.name))
    bundles = [path.parent for path in found if len(json.loads(path.read_text())["inputs"]) == 1]
    if not bundles:
        raise typer.BadParameter(f"there is no bundle under {_ZOO}; name them with --installed and --bundle")
    return bundles


def _numbers(name: str) -> list[int]:
    return [int(part) for part in name.rsplit("-", 1)[-1].split(".") if part.isdigit()]


def _check(plan: Plan) -> None:
    if plan.source and "://" not in plan.source and not Path(plan.source).exists():
        raise typer.BadParameter(f"{plan.source} does not exist")
    for bundle in (plan.installed, plan.better):
        if not (bundle / "manifest.json").is_file():
            raise typer.BadParameter(f"{bundle} is no model bundle: it has no manifest.json")


def _run(plan: Plan, console: Console) -> tuple[Seen, list[Act]]:
    if not console.is_terminal:
        return demonstration.run(plan, _lines(console))
    with Live(console=console, refresh_per_second=5) as live:
        return demonstration.run(plan, lambda seen, stage: live.update(_table(seen, stage)))


def _lines(console: Console) -> Show:
    """For logs: a line at each change, and every few seconds."""
    printed_s, told = 0.0, ""

    def show(seen: Seen, stage: Stage) -> None:
        nonlocal printed_s, told
        now = f"{stage.title} {_phase(seen)}"
        if now != told or time.monotonic() - printed_s >= _SECONDS_A_LINE:
            printed_s, told = time.monotonic(), now
            console.print(f"{stage.title}: {_phase(seen)}, {seen.tally.received} results, {seen.tally.by_evaluation}")

    return show


def _phase(seen: Seen) -> str:
    report = seen.reported
    return f"generation {report.observed_generation} {report.phase.value}" if report else "-"


def _table(seen: Seen, stage: Stage) -> Table:
    left = "" if stage.left_s is None else f", {stage.left_s:.0f} s left"
    table = Table(title=f"rkfleet demo: {stage.title}{left}", min_width=72, title_justify="left")
    for column in ("camera", "model", "results", "OK", "not OK", "not decidable", "rate", "latency", "last defects"):
        table.add_column(column)
    tally, latest, measured = seen.tally, seen.latest, seen.measured
    cameras = measured.cameras if measured else {}
    total = measured.latency_ms.get("total") if measured else None
    defects = ", ".join(sorted({defect.class_name for defect in latest.defects})) if latest else ""
    table.add_row(
        ", ".join(f"{name} ({camera.state})" for name, camera in cameras.items()) or "starting",
        latest.model.version if latest else "",
        str(tally.received),
        *(str(tally.by_evaluation.get(name, 0)) for name in ("OK", "NOT_OK", "NOT_DECIDABLE")),
        f"{sum(camera.rate_hz for camera in cameras.values()):.1f}/s",
        f"{total.p50:.0f} ms" if total else "",
        defects,
    )
    if seen.reported is not None:
        error = seen.reported.last_error
        table.add_row("update", _phase(seen), *[""] * 6, error.text if error else "")
    for code, alarm in seen.alarms.items():
        table.add_row("alarm", code, *[""] * 6, alarm.sources[0].text)
    return table


def _finish(played: tuple[Seen, list[Act]], plan: Plan, console: Console, *, as_json: bool) -> None:
    seen, story = played
    figures = report.figures(seen, story)
    (plan.out / "report.json").write_text(json.dumps(figures, indent=2) + "\n")
    pictures = [
        plan.out / name
        for name, is_written in (
            ("defects.png", sheet.write(seen.exhibits, plan.out / "defects.png")),
            ("swap.png", timeline.write(seen.marks, list(seen.ends.values()), plan.out / "swap.png")),
        )
        if is_written
    ]
    if as_json:
        sys.stdout.write(json.dumps(figures) + "\n")
    console.print(report.words(figures), markup=False, highlight=False)
    console.print(f"Report: {plan.out / 'report.json'}", markup=False, highlight=False)
    for picture in pictures:
        console.print(f"Picture: {picture}", markup=False, highlight=False)
    if problems := report.problems(figures):
        console.print("Failed: " + "; ".join(problems), style="red", markup=False)
        raise typer.Exit(1)
