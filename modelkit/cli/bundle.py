"""`convert` and `pack`."""

from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Literal

import typer

from modelkit.cli.options import (
    BOARDS,
    ENVIRONMENT,
    SIZE_PX,
    WORK,
    DataPlace,
    DeepPcbFolder,
    Environment,
    SizePx,
    Work,
    supply,
)
from modelkit.cli.said import AsJson, Failed, aside, command, examples, show


def add(app: typer.Typer) -> None:
    app.command(
        epilog=examples(
            "{p} convert --work build/mine", "{p} convert --work build/mine --deeppcb FOLDER --algorithm mmse"
        )
    )(convert)
    app.command(
        epilog=examples("{p} pack --work build/mine --name mine --version 1.0.0 --out build/mine-1.0.0"),
    )(pack)


@command
def convert(  # noqa: PLR0913  options of a command
    *,
    work: Work = WORK,
    data: DataPlace = BOARDS,
    deeppcb: DeepPcbFolder = None,
    size_px: SizePx = SIZE_PX,
    environment: Environment = ENVIRONMENT,
    target: Annotated[list[str] | None, typer.Option(help="A board's chip, once each; default all six.")] = None,
    algorithm: Annotated[
        Literal["normal", "mmse", "kl_divergence"], typer.Option(help="From calibration pictures to int8 ranges.")
    ] = "normal",
    hybrid: Annotated[int, typer.Option(min=0, help="So many layers that lose most may stay float16.")] = 0,
    shape: Annotated[
        list[str] | None, typer.Option(metavar="HxW", help="A shape that the model takes, once each; not simulated.")
    ] = None,
    batch: Annotated[int, typer.Option(min=1, help="Pictures a call; more than one is not simulated.")] = 1,
    class_map: Annotated[
        bool, typer.Option("--class-map", help="The model gives the winning class instead of logits.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Convert to int8, ask the simulator what that gives, and name the operators that an NPU leaves to the CPU."""
    from modelkit import build  # noqa: PLC0415  OpenCV, and help does without
    from modelkit.convert_rknn import TARGETS, Hybrid  # noqa: PLC0415  as above

    how = build.How(
        targets=tuple(target or TARGETS),
        algorithm=algorithm,
        hybrid=Hybrid(hybrid) if hybrid else None,
        shapes=tuple(_shape(text) for text in shape or ()),
        batch=batch,
        class_map=class_map,
    )
    with aside(as_json=as_json):
        made = build.convert_all(supply(data, deeppcb, size_px).source, work, environment, how)
    lines = [f"{name}  {path}" for name, path in made.models.items()]
    lines += [f"float16: {layer}" for layer in made.float16_layers]
    for name, layers in made.fallbacks.items():
        lines += [f"{name}: on the CPU: {each.operator} {each.layer} ({each.dtype})" for each in layers]
    show(asdict(made), "\n".join(lines), as_json=as_json)


def _shape(text: str) -> tuple[int, int]:
    high, _, wide = text.partition("x")
    if not (high.isdecimal() and wide.isdecimal()):
        raise Failed(f"--shape {text}: write HEIGHTxWIDTH in pixels, for example 224x224")
    return int(high), int(wide)


@command
def pack(  # noqa: PLR0913  options of a command
    *,
    version: Annotated[str, typer.Option(help="The bundle's version.")],
    out: Annotated[Path, typer.Option(help="The bundle's folder, which must not exist.")],
    name: Annotated[str, typer.Option(help="The bundle's name.")] = "pcb-unet",
    work: Work = WORK,
    data: DataPlace = BOARDS,
    deeppcb: DeepPcbFolder = None,
    size_px: SizePx = SIZE_PX,
) -> None:
    """Write the bundle, and print how good it is."""
    from modelkit import build  # noqa: PLC0415  OpenCV, and help does without

    given = supply(data, deeppcb, size_px)
    build.bundle((name, version), given.source, given.names, work, out)
