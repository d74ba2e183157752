"""Options that several commands share, and those that come from the fields of `Plan`."""

import inspect
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final, get_args, get_origin, get_type_hints

import typer
from pydantic import ValidationError

from modelkit.plan import Plan

if TYPE_CHECKING:
    from modelkit.pipeline.data import Supply
    from modelkit.pipeline.spec_data import Data

Work = Annotated[Path, typer.Option(help="Folder that the steps hand their files on in.")]
WORK: Final = Path("build/modelkit")
Environment = Annotated[
    Path, typer.Option(help="The converter's own environment, which `python -m modelkit.convert_rknn FOLDER` makes.")
]
ENVIRONMENT: Final = Path(".venv-convert")
DeepPcbFolder = Annotated[Path | None, typer.Option("--deeppcb", help="The same as --data deeppcb:FOLDER.")]
DataPlace = Annotated[
    str,
    typer.Option("--data", metavar="DATA", help="boards, deeppcb:FOLDER, folder:FOLDER or coco:FILE.json:FOLDER."),
]
BOARDS: Final = "boards"
SizePx = Annotated[
    int, typer.Option("--size", min=64, max=2048, help="Side of the model's input in pixels; DeepPCB's is 640.")
]
SIZE_PX: Final = 512
_WORDS: Final = {
    "architecture": "One of modelkit.models.ARCHITECTURES, for example unet or pair-unet.",
    "batch": "Crops a step.",
    "crop_px": "Side of a crop, a multiple of 32.",
    "emphasis": "How many times another pixel's a defect's counts, at first and at the end.",
    "faults": "Scales how many crops get light, noise and misplacement of their own.",
    "loss": "NAME=WEIGHT, once a part of the mix.",
    "mean_decay": "What the running mean of the weights keeps a step.",
    "patience": "Stop after so many validations without a better mIoU; 0 is never.",
    "rate": "The highest rate of learning.",
    "roles": "An input of the network: image, or reference; once each.",
    "seed": "The same seed, machine and threads give the same model.",
    "start": "A checkpoint of the same network to begin from.",
    "steps": "Batches to learn from.",
    "threads": "Of the CPU.",
    "validate_every": "Steps between two looks at unseen pictures.",
    "width": "Channels of the network's first level.",
}


def with_plan(command: Callable[..., None]) -> Callable[..., None]:
    """The command takes the fields of `Plan` as options, and gets the plan as `plan`. How many classes there are is
    for the data to say.
    """
    hints = get_type_hints(Plan)
    known = [each for each in fields(Plan) if each.name != "classes"]
    own = inspect.signature(command, eval_str=True)
    rest = [each for each in own.parameters.values() if each.name != "plan"]
    options = [_option(each.name, hints[each.name], each.default) for each in known]

    def filled(**given: Any) -> None:
        values = {each.name: given.pop(each.name) for each in known}
        made: dict[str, Any] = {k: tuple(each) if isinstance(each, list) else each for k, each in values.items()}
        command(plan=Plan(**made), **given)

    filled.__name__, filled.__doc__ = command.__name__, command.__doc__
    filled.__signature__ = inspect.Signature([*rest, *options])  # type: ignore[attr-defined] # inspect reads it
    filled.__annotations__ = {each.name: each.annotation for each in (*rest, *options)}
    return filled


def _option(name: str, hint: Any, default: Any) -> inspect.Parameter:
    is_open = get_origin(hint) is tuple and Ellipsis in get_args(hint)
    kind = list[str] if is_open else hint
    annotation = Annotated[kind, typer.Option(help=_WORDS.get(name, ""))]  # type: ignore[valid-type] # made here
    value = list(default) if is_open else default
    return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=value, annotation=annotation)


def supply(data: str, deeppcb: Path | None, size_px: int) -> "Supply":
    """What the options of data say. Errors: ValueError."""
    from modelkit.pipeline.data import Supply  # noqa: PLC0415  OpenCV, and help does without

    return Supply(parsed(f"deeppcb:{deeppcb}" if deeppcb else data, size_px))


def parsed(text: str, size_px: int) -> "Data":
    """Errors: ValueError."""
    try:
        return _data(text, size_px)
    except ValidationError as error:
        told = error.errors()[0]
        words = told.get("ctx", {}).get("error") or told["msg"]
        raise ValueError(f"--data {text}: {words}") from None


def _data(text: str, size_px: int) -> "Data":
    from modelkit.pipeline.spec_data import Boards, CocoData, DeepPcb, FolderData  # noqa: PLC0415  as above

    kind, _, place = text.partition(":")
    terms = "not stated on the command line"
    match kind, place:
        case "boards", "":
            return Boards(kind="boards", size_px=size_px)
        case "deeppcb", folder if folder:
            return DeepPcb(kind="deeppcb", folder=Path(folder))
        case "folder", folder if folder:
            paired = (Path(folder) / "references").is_dir()
            return FolderData(kind="folder", folder=Path(folder), size_px=size_px, reference=paired, terms=terms)
        case "coco", both if ":" in both:
            annotations, _, images = both.partition(":")
            return CocoData(
                kind="coco", annotations=Path(annotations), images=Path(images), size_px=size_px, terms=terms
            )
    raise ValueError(f"--data {text}: write boards, deeppcb:FOLDER, folder:FOLDER or coco:FILE.json:FOLDER")
