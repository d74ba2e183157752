"""`train`, `distill`, `prune`, `qat` and `export`: what needs torch."""

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from modelkit.cli.options import BOARDS, SIZE_PX, WORK, DataPlace, DeepPcbFolder, SizePx, Work, supply, with_plan
from modelkit.cli.said import command, examples
from modelkit.plan import Plan

if TYPE_CHECKING:
    from modelkit.lineage import Change

Resume = Annotated[bool, typer.Option("--resume", help="Go on from last.pt in the work folder.")]
Parent = Annotated[Path, typer.Option(help="The checkpoint to begin with, for example best.pt of another work folder.")]


def add(app: typer.Typer) -> None:
    app.command(
        epilog=examples(
            "{p} train --work build/mine --architecture unet --roles image --width 16 --steps 4500",
            "{p} train --work build/mine --deeppcb FOLDER --steps 4500",
            "{p} train --work build/mine --deeppcb FOLDER --steps 4500 --resume",
        )
    )(command(with_plan(train)))
    app.command(
        epilog=examples(
            "{p} distill --teacher build/large/best.pt --work build/small --architecture unet --roles image --width 8"
        )
    )(command(with_plan(distill)))
    app.command(
        epilog=examples(
            "{p} prune --parent build/large/best.pt --most-parameters 5000000 --work build/pruned --steps 2000"
        )
    )(command(with_plan(prune)))
    app.command(epilog=examples("{p} qat --parent build/mine/best.pt --work build/qat --steps 600 --rate 0.0002"))(
        command(with_plan(qat))
    )
    app.command(epilog=examples("{p} export --work build/mine", "{p} export --work build/mine --data folder:FOLDER"))(
        export
    )


def train(
    *,
    plan: Plan,
    work: Work = WORK,
    data: DataPlace = BOARDS,
    deeppcb: DeepPcbFolder = None,
    size_px: SizePx = SIZE_PX,
    resume: Resume = False,
) -> None:
    """Train a network: best.pt, last.pt, a log and curves in the work folder."""
    from modelkit import build  # noqa: PLC0415  OpenCV, and help does without

    given = supply(data, deeppcb, size_px)
    build.train(replace(plan, classes=len(given.names)), given.source, work, resume=resume)


def distill(  # noqa: PLR0913  options of a command
    *,
    plan: Plan,
    teacher: Annotated[Path, typer.Option(help="Checkpoint of the teacher.")],
    temperature: Annotated[float, typer.Option(help="Softens what both say before they are compared.")] = 2.0,
    weight: Annotated[float, typer.Option(help="How much the teacher counts beside the masks.")] = 1.0,
    work: Work = WORK,
    data: DataPlace = BOARDS,
    deeppcb: DeepPcbFolder = None,
    size_px: SizePx = SIZE_PX,
    resume: Resume = False,
) -> None:
    """Train a student with a teacher beside it; says what it cost and gained."""
    from modelkit import distil  # noqa: PLC0415  torch, and help does without

    given = supply(data, deeppcb, size_px)
    plan = replace(plan, classes=len(given.names))
    how, source = distil.Distil(str(teacher), temperature, weight), given.source
    _keep(distil.fit(how, plan, source.crops(plan), source.watched(), work, resume=resume), work)


def prune(  # noqa: PLR0913  options of a command
    *,
    plan: Plan,
    parent: Parent,
    most_parameters: Annotated[int | None, typer.Option(min=1, help="Prune until no more are left.")] = None,
    ratio: Annotated[float | None, typer.Option(help="Or take this share of each layer's channels, 0 to 1.")] = None,
    importance: Annotated[Literal["l2", "bn"], typer.Option(help="What tells which channels matter.")] = "l2",
    round_to: Annotated[int, typer.Option(help="Layers keep a multiple of so many channels.")] = 8,
    work: Work = WORK,
    data: DataPlace = BOARDS,
    deeppcb: DeepPcbFolder = None,
    size_px: SizePx = SIZE_PX,
    resume: Resume = False,
) -> None:
    """Take channels from a trained network and train it on; says what it cost and gained. Architecture, width, classes
    and roles are the parent's.
    """
    from modelkit import prune as pruning  # noqa: PLC0415  torch, and help does without

    source = supply(data, deeppcb, size_px).source
    how = pruning.Prune(str(parent), most_parameters, ratio, importance, round_to)
    _keep(pruning.fit(how, plan, source.crops(plan), source.watched(), work, resume=resume), work)


def qat(  # noqa: PLR0913  options of a command
    *,
    plan: Plan,
    parent: Parent,
    observed: Annotated[int, typer.Option(min=1, help="Batches that the ranges begin with.")] = 16,
    work: Work = WORK,
    data: DataPlace = BOARDS,
    deeppcb: DeepPcbFolder = None,
    size_px: SizePx = SIZE_PX,
    resume: Resume = False,
) -> None:
    """Train a network on with the rounding of int8, so that its ranges are learned; says what it cost and gained.
    Architecture, width, classes and roles are the parent's.
    """
    from modelkit import qat as training  # noqa: PLC0415  torch, and help does without

    source = supply(data, deeppcb, size_px).source
    how = training.Qat(str(parent), observed)
    _keep(training.fit(how, plan, source.crops(plan), source.watched(), work, resume=resume), work)


@command
def export(
    *, work: Work = WORK, data: DataPlace = BOARDS, deeppcb: DeepPcbFolder = None, size_px: SizePx = SIZE_PX
) -> None:
    """Write the network in the work folder as ONNX, for the converter and for boards without an NPU."""
    from modelkit import build  # noqa: PLC0415  OpenCV, and help does without

    build.export(supply(data, deeppcb, size_px).source, work)


def _keep(change: "Change", work: Path) -> None:
    from modelkit import lineage  # noqa: PLC0415  as above

    lineage.write([change], work / "change.json")
    print(lineage.table([change]))
