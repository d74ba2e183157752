"""`rkfleet`: the operator's commands."""

import json
import shutil
import sys
import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.live import Live
from rich.table import Table

from fleet import demo as demonstration
from fleet import report, sheet

app = typer.Typer(no_args_is_help=True, add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False)
_ZOO = Path(__file__).resolve().parent.parent / "modelkit" / "zoo"
_SECONDS_A_LINE = 5.0


@app.callback()
def main() -> None:
    """Put a defect-segmentation model on every board of a factory, keep it there, and prove that it works."""


@app.command("version")
def show_version() -> None:
    """Print the version."""
    typer.echo(version("rkfleet"))


@app.command()
def demo(
    *,
    seconds: Annotated[float, typer.Option(min=1, help="How long to inspect.")] = 20.0,
    source: Annotated[str, typer.Option(help="A folder of pictures, a video file or an rtsp:// URL.")] = "",
    bundle: Annotated[Path | None, typer.Option(help="A model bundle; by default the best of the zoo.")] = None,
    out: Annotated[Path, typer.Option(help="Where the report and the picture go.")] = Path("build/demo"),
    as_json: Annotated[bool, typer.Option("--json", help="Print the report as JSON and nothing else.")] = False,
) -> None:
    """Run an agent on moving pictures with a broker inside; a reader receives every result.

    Exit 0 only if nothing was lost.

    `rkfleet demo` shows it on drawn boards, `rkfleet demo --seconds 60 --source /data/boards` on pictures of your own,
    `rkfleet demo --source rtsp://camera.example/stream --json` on a camera, for a script.
    """
    plan = demonstration.Plan(seconds, source, bundle or best_of_zoo(), out)
    _check(plan)
    console = Console(stderr=as_json)
    shutil.rmtree(out / "data", ignore_errors=True)
    try:
        seen = _run(plan, console)
    except (demonstration.DemoFailed, RuntimeError, TimeoutError) as error:
        console.print(f"The demonstration failed: {error}", style="red", markup=False)
        raise typer.Exit(1) from error
    _finish(seen, plan, console, as_json=as_json)


def best_of_zoo() -> Path:
    """The bundle with the highest version."""
    bundles = sorted(_ZOO.glob("*/manifest.json"), key=lambda path: _numbers(path.parent.name))
    if not bundles:
        raise typer.BadParameter(f"there is no bundle under {_ZOO}; name one with --bundle")
    return bundles[-1].parent


def _numbers(name: str) -> list[int]:
    return [int(part) for part in name.rsplit("-", 1)[-1].split(".") if part.isdigit()]


def _check(plan: demonstration.Plan) -> None:
    if plan.source and "://" not in plan.source and not Path(plan.source).exists():
        raise typer.BadParameter(f"{plan.source} does not exist")
    if not (plan.bundle / "manifest.json").is_file():
        raise typer.BadParameter(f"{plan.bundle} is no model bundle: it has no manifest.json")


def _run(plan: demonstration.Plan, console: Console) -> demonstration.Seen:
    if not console.is_terminal:
        return demonstration.run(plan, _lines(console))
    with Live(console=console, refresh_per_second=5) as live:
        return demonstration.run(plan, lambda seen, left_s: live.update(_table(seen, left_s)))


def _lines(console: Console) -> Callable[[demonstration.Seen, float], None]:
    """For logs: a line every few seconds."""
    printed_s = 0.0

    def show(seen: demonstration.Seen, left_s: float) -> None:
        nonlocal printed_s
        if time.monotonic() - printed_s >= _SECONDS_A_LINE:
            printed_s = time.monotonic()
            console.print(f"{left_s:5.0f} s left, {seen.tally.received} results, {seen.tally.by_evaluation}")

    return show


def _table(seen: demonstration.Seen, left_s: float) -> Table:
    table = Table(title=f"rkfleet demo, {left_s:.0f} s left", min_width=72, title_justify="left")
    for column in ("camera", "results", "OK", "not OK", "not decidable", "rate", "latency", "last defects"):
        table.add_column(column)
    tally, latest, measured = seen.tally, seen.latest, seen.measured
    cameras = measured.cameras if measured else {}
    total = measured.latency_ms.get("total") if measured else None
    defects = ", ".join(sorted({defect.class_name for defect in latest.defects})) if latest else ""
    table.add_row(
        ", ".join(f"{name} ({camera.state})" for name, camera in cameras.items()) or "starting",
        str(tally.received),
        *(str(tally.by_evaluation.get(name, 0)) for name in ("OK", "NOT_OK", "NOT_DECIDABLE")),
        f"{sum(camera.rate_hz for camera in cameras.values()):.1f}/s",
        f"{total.p50:.0f} ms" if total else "",
        defects,
    )
    for code, alarm in seen.alarms.items():
        table.add_row("alarm", code, *[""] * 5, alarm.sources[0].text)
    return table


def _finish(seen: demonstration.Seen, plan: demonstration.Plan, console: Console, *, as_json: bool) -> None:
    figures = report.figures(seen)
    (plan.out / "report.json").write_text(json.dumps(figures, indent=2) + "\n")
    has_picture = sheet.write(seen.exhibits, plan.out / "defects.png")
    if as_json:
        sys.stdout.write(json.dumps(figures) + "\n")
    console.print(report.words(figures), markup=False, highlight=False)
    console.print(f"Report: {plan.out / 'report.json'}", markup=False, highlight=False)
    if has_picture:
        console.print(f"Picture: {plan.out / 'defects.png'}", markup=False, highlight=False)
    if problems := report.problems(figures):
        console.print("Failed: " + "; ".join(problems), style="red", markup=False)
        raise typer.Exit(1)


if __name__ == "__main__":
    app()
