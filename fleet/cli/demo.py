"""`rkfleet demo`."""

import json
import shutil
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console, Group
from rich.live import Live
from rich.table import Table

if TYPE_CHECKING:
    from collections.abc import Callable

    from fleet.demo.board import Plan
    from fleet.demo.run import Played, Show, Stage

_ZOO = Path(__file__).resolve().parents[2] / "modelkit" / "zoo"
_SECONDS_A_LINE = 5.0


def demo(
    *,
    seconds: Annotated[float, typer.Option(min=1, help="Least time to inspect with the first model.")] = 6.0,
    source: Annotated[str, typer.Option(help="A folder of pictures, a video file or an rtsp:// URL.")] = "",
    installed: Annotated[Path | None, typer.Option(help="The bundle to begin with; default: the zoo's first.")] = None,
    bundle: Annotated[Path | None, typer.Option(help="The better bundle; default: the zoo's best.")] = None,
    out: Annotated[Path, typer.Option(help="Where the report and the pictures go.")] = Path("build/demo"),
    as_json: Annotated[bool, typer.Option("--json", help="Print the report as JSON and nothing else.")] = False,
) -> None:
    """A factory on this machine: a broker, the server with its signed registry, boards on moving pictures, and an MES
    that receives every result. A better model is rolled out by way of a canary; then one that is rightly signed but
    bad, which a gate stops and takes back.

    Exit 0 only if the better model inspects on every board, the bad one went no further than its canary, and no result
    was lost.

    `rkfleet demo` shows it on drawn boards, `rkfleet demo --seconds 60 --source /data/boards` on pictures of your own,
    `rkfleet demo --source rtsp://camera.example/stream --json` on a camera, for a script.
    """
    from fleet.demo import run as demonstration  # noqa: PLC0415  python-tuf and httpx are slow to import
    from fleet.demo.board import Plan  # noqa: PLC0415
    from fleet.demo.plant import DemoFailed  # noqa: PLC0415
    from fleet.errors import FleetError  # noqa: PLC0415

    zoo = zoo_bundles()
    plan = Plan(seconds, source, installed or zoo[0], bundle or zoo[-1], out)
    _check(plan)
    console = Console(stderr=as_json)
    _clear(plan)
    try:
        played = _run(demonstration.run, plan, console)
    except (DemoFailed, FleetError, RuntimeError, TimeoutError) as error:
        console.print(f"The demonstration failed: {error}", style="red", markup=False)
        raise typer.Exit(1) from error
    _finish(played, plan, console, as_json=as_json)


def zoo_bundles() -> list[Path]:
    """From the first version to the last, of those that need no reference: the demo's boards are all different."""
    found = sorted(_ZOO.glob("*/manifest.json"), key=lambda path: _numbers(path.parent.name))
    bundles = [path.parent for path in found if len(json.loads(path.read_text())["inputs"]) == 1]
    if not bundles:
        raise typer.BadParameter(f"there is no bundle under {_ZOO}; name them with --installed and --bundle")
    return bundles


def _numbers(name: str) -> list[int]:
    return [int(part) for part in name.rsplit("-", 1)[-1].split(".") if part.isdigit()]


def _check(plan: "Plan") -> None:
    if plan.source and "://" not in plan.source and not Path(plan.source).exists():
        raise typer.BadParameter(f"{plan.source} does not exist")
    for bundle in (plan.installed, plan.better):
        if not (bundle / "manifest.json").is_file():
            raise typer.BadParameter(f"{bundle} is no model bundle: it has no manifest.json")


def _clear(plan: "Plan") -> None:
    """What an earlier demonstration left."""
    for name in ("registry", "registry-keys", "server"):
        shutil.rmtree(plan.out / name, ignore_errors=True)


def _run(run: "Callable[[Plan, Show], Played]", plan: "Plan", console: Console) -> "Played":
    if not console.is_terminal:
        return run(plan, _lines(console))
    with Live(console=console, refresh_per_second=5) as live:
        return run(plan, lambda played, stage: live.update(_view(played, stage)))


def _lines(console: Console) -> "Show":
    """For logs: a line at each change, and every few seconds."""
    printed_s, told = 0.0, ""

    def show(played: "Played", stage: "Stage") -> None:
        nonlocal printed_s, told
        now = f"{stage.title}{_waves(stage)}"
        if now != told or time.monotonic() - printed_s >= _SECONDS_A_LINE:
            printed_s, told = time.monotonic(), now
            counts = ", ".join(
                f"{node} {seen.tally.received} {seen.latest.model.version if seen.latest else '-'}"
                for node, seen in played.boards.items()
            )
            console.print(f"{now}: results {counts}", markup=False, highlight=False)

    return show


def _waves(stage: "Stage") -> str:
    rollout = stage.rollout
    if rollout is None:
        return ""
    waves = ", ".join(f"{wave['name']} {wave['state']}" for wave in rollout["waves"])
    return f" {rollout['state']} ({waves})"


def _view(played: "Played", stage: "Stage") -> Group:
    left = "" if stage.left_s is None else f", {stage.left_s:.0f} s left"
    table = Table(title=f"rkfleet demo: {stage.title}{left}", min_width=78, title_justify="left")
    for column in ("board", "model", "update", "results", "OK", "not OK", "?", "latency", "last defects"):
        table.add_column(column)
    for node, seen in played.boards.items():
        latest, tally = seen.latest, seen.tally
        total = seen.measured.latency_ms.get("total") if seen.measured else None
        table.add_row(
            node,
            latest.model.version if latest else "starting",
            seen.reported.phase.value if seen.reported else "",
            str(tally.received),
            *(str(tally.by_evaluation.get(name, 0)) for name in ("OK", "NOT_OK", "NOT_DECIDABLE")),
            f"{total.p50:.0f} ms" if total else "",
            ", ".join(sorted({defect.class_name for defect in latest.defects})) if latest else "",
        )
    return Group(table, _waves(stage).strip())


def _finish(played: "Played", plan: "Plan", console: Console, *, as_json: bool) -> None:
    from fleet import sheet, timeline  # noqa: PLC0415  OpenCV
    from fleet.demo import report  # noqa: PLC0415

    figures = report.figures(played)
    (plan.out / "report.json").write_text(json.dumps(figures, indent=2) + "\n")
    rows = {node: seen.marks for node, seen in played.boards.items()}
    exhibits = [result for seen in played.boards.values() for result in seen.exhibits]
    pictures = [
        plan.out / name
        for name, is_written in (
            ("defects.png", sheet.write(exhibits, plan.out / "defects.png")),
            ("rollout.png", timeline.write(rows, played.moments, plan.out / "rollout.png")),
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
