"""`data` and `synthesise`."""

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from modelkit.cli.options import BOARDS, SIZE_PX, DataPlace, DeepPcbFolder, SizePx, supply
from modelkit.cli.said import AsJson, command, examples, show

if TYPE_CHECKING:
    from modelkit.data import Dataset
    from modelkit.data.overview import Balance


def add(app: typer.Typer) -> None:
    app.command(
        epilog=examples(
            "{p} data --data folder:FOLDER --sheet build/sheet.png",
            "{p} data --data deeppcb:FOLDER --part validation --json",
            "{p} data --data coco:annotations.json:IMAGES",
        )
    )(data)
    app.command(epilog=examples("{p} synthesise --count 32 --out build/pictures"))(synthesise)


@command
def data(  # noqa: PLR0913  options of a command
    *,
    place: DataPlace = BOARDS,
    deeppcb: DeepPcbFolder = None,
    size_px: SizePx = SIZE_PX,
    part: Annotated[Literal["train", "validation"], typer.Option(help="Which part; drawn boards have one.")] = "train",
    sheet: Annotated[Path | None, typer.Option(help="Write a contact sheet to this PNG.")] = None,
    count: Annotated[int, typer.Option(min=1, help="Pictures on the sheet, spread over all; boards to draw.")] = 24,
    as_json: AsJson = False,
) -> None:
    """Show what is in a set of data: pixels, pictures and instances of each class, and a contact sheet.

    Reads every picture once, so it also finds those that are broken.
    """
    from modelkit.data.overview import balance, contact_sheet  # noqa: PLC0415  OpenCV, and help does without

    chosen = _part(place, deeppcb, size_px, part, count)
    with Progress(console=Console(stderr=True), transient=True) as progress:
        bar = progress.add_task("reading", total=len(chosen.ids))
        found = balance(chosen, progress=lambda done, _: progress.update(bar, completed=done))
        if sheet:
            spread = chosen.ids[:: max(1, len(chosen.ids) // count)][:count]
            _write(sheet, contact_sheet(chosen, spread))
    show(asdict(found) | {"absent": found.absent(), "sheet": str(sheet or "")}, _table(found), as_json=as_json)


def _part(place: str, deeppcb: Path | None, size_px: int, part: str, count: int) -> "Dataset":
    from modelkit import synthesise  # noqa: PLC0415  OpenCV, and help does without
    from modelkit.pipeline.seen import Drawn  # noqa: PLC0415  as above
    from modelkit.pipeline.spec_data import Boards  # noqa: PLC0415  as above

    given = supply(place, deeppcb, size_px)
    if isinstance(given.data, Boards):
        return Drawn(synthesise.validation(count, size_px))
    return given.train if part == "train" else given.validation


def _write(path: Path, picture: object) -> None:
    import cv2  # noqa: PLC0415  as above
    import numpy as np  # noqa: PLC0415  as above

    path.parent.mkdir(parents=True, exist_ok=True)
    if not cv2.imwrite(str(path), np.asarray(picture)[:, :, ::-1]):
        raise OSError(f"{path} could not be written")


def _table(found: "Balance") -> Table:
    table = Table("class", title=f"{found.images} pictures, {found.clean} of them clean", title_justify="left")
    for name in ("share of pixels", "pictures", "instances"):
        table.add_column(name, justify="right")
    for each in found.classes:
        instances = "-" if each is found.classes[0] else f"{each.instances:,}"
        table.add_row(each.name, f"{each.pixels / found.pixels:.4%}", f"{each.images:,}", instances)
    return table


@command
def synthesise(
    *,
    out: Annotated[Path, typer.Option(help="Folder for the pictures.")],
    count: Annotated[int, typer.Option(min=1, help="So many pictures.")] = 16,
    size: Annotated[int, typer.Option(min=64, help="Side in pixels.")] = 512,
) -> None:
    """Draw boards: pictures, masks, and a sheet with the defects framed."""
    from modelkit import synthesise as drawn  # noqa: PLC0415  OpenCV, and help does without

    drawn.write(drawn.validation(count, size), out)
