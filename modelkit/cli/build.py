"""`build`."""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from modelkit.cli.options import ENVIRONMENT, Environment
from modelkit.cli.said import AsJson, aside, command, examples, show


class _Lines:
    """A line when a step begins, is skipped or ends: in a log it reads as on a terminal."""

    def __init__(self) -> None:
        self._console = Console(stderr=True)

    def began(self, step: str, number: int, of: int, why: Sequence[str], *, resumed: bool) -> None:
        words = "goes on where it was stopped" if resumed else "; ".join(why)
        self._console.print(f"[bold]{number}/{of} {step}[/bold]: {words}", highlight=False, soft_wrap=True)

    def skipped(self, step: str, number: int, of: int) -> None:
        self._console.print(f"[dim]{number}/{of} {step}: up to date[/dim]", highlight=False, soft_wrap=True)

    def ended(self, step: str, took_s: float) -> None:
        self._console.print(f"    {step} took {took_s:.1f} s", style="dim", highlight=False, soft_wrap=True)


def add(app: typer.Typer) -> None:
    app.command(
        epilog=examples(
            "{p} build pipelines/smoke.yaml",
            "{p} build pipelines/pcb-unet.yaml --set data.folder=/data/deeppcb --out build/models",
            "{p} build pipelines/smoke.yaml --set training.steps=200 --json",
        )
    )(build)


@command
def build(  # noqa: PLR0913  options of a command
    pipeline: Annotated[Path, typer.Argument(metavar="PIPELINE.yaml", help="What to build, and how.")],
    *,
    out: Annotated[Path, typer.Option(help="Where bundles go, card and report beside them.")] = Path("build/models"),
    work: Annotated[Path | None, typer.Option(help="Where steps keep what they make; default: in --out.")] = None,
    environment: Environment = ENVIRONMENT,
    changed: Annotated[
        list[str] | None, typer.Option("--set", metavar="FIELD=VALUE", help="Another value for a field of the file.")
    ] = None,
    same_code: Annotated[
        bool, typer.Option("--same-code", help="Take what other versions of the code made as up to date.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Run a pipeline file: data, training, compression, int8, measurement, gates, bundle and model card.

    What is up to date is skipped; after Ctrl-C the same command goes on. A gate that fails ends with exit code 1 and no
    bundle, and says which figure misses by how much.
    """
    from modelkit.pipeline import run  # noqa: PLC0415  OpenCV, and help does without

    places = run.Places(out, work, environment)
    with aside(as_json=as_json):
        built = run.build(pipeline, places, _Lines(), changed or (), same_code=same_code)
    document = {
        "bundle": str(built.bundle),
        "card": str(built.card),
        "report": str(built.report),
        "made": list(built.ran.made),
        "skipped": list(built.ran.skipped),
    }
    words = f"bundle  {built.bundle}\ncard    {built.card}\nreport  {built.report}"
    show(document, words, as_json=as_json)
