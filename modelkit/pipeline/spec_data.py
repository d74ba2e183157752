"""What a pipeline file may say of its data."""

from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, Field, ValidationInfo

from schemas.base import Strict, Text


def _from_folder(path: Path, info: ValidationInfo) -> Path:
    """Relative to the pipeline file's folder, where the context names it."""
    folder = Path((info.context or {}).get("folder", ""))
    return folder / path.expanduser()


def _existing(path: Path, info: ValidationInfo) -> Path:
    full = _from_folder(path, info)
    if not full.exists():
        raise ValueError(f"{full} does not exist: write where it is")
    return full


Existing = Annotated[Path, AfterValidator(_existing)]


class Boards(Strict):
    """Drawn boards. `size_px` is the side of the model's input. Numbers of pictures: `validation` is measured on,
    `golden` are candidates for golden frames, `watched` choose the best state of training. With `reference` the model
    compares each picture with one of the board without its faults.
    """

    kind: Literal["boards"]
    size_px: int = Field(default=512, ge=64, le=2048, multiple_of=16)
    plates: int = Field(default=1000, gt=0)
    validation: int = Field(default=96, gt=0)
    golden: int = Field(default=32, gt=0)
    watched: int = Field(default=48, gt=0)
    reference: bool = False
    terms: Text = "Drawn by this project; no terms but its licence."


class DeepPcb(Strict):
    """The DeepPCB set: learned from its training part, measured on the pairs that are held out."""

    kind: Literal["deeppcb"]
    folder: Existing
    terms: Text = (
        "DeepPCB's licence file is MIT, and its README limits the data to research: clear that before other use. "
        "None of its pictures are handed on with the model."
    )


class _OwnPictures(Strict):
    """`size_px` is the side of the model's input, to which pictures are letterboxed. `held_out` of them are measured
    on, and not learned from. `terms` are those of the pictures; the golden frames of the bundle are some of them.
    """

    size_px: int = Field(default=512, ge=64, le=2048, multiple_of=32)
    held_out: float = Field(default=0.15, gt=0, lt=1)
    golden: int = Field(default=32, gt=0)
    watched: int = Field(default=48, gt=0)
    terms: Text = Field(min_length=1)


class FolderData(_OwnPictures):
    """A folder of pictures and label maps, see `modelkit.data.folder`; with `reference` the model compares each picture
    with the one in `references`.
    """

    kind: Literal["folder"]
    folder: Existing
    reference: bool = False


class CocoData(_OwnPictures):
    """`annotations` in COCO's format, of the pictures in the folder `images`."""

    kind: Literal["coco"]
    annotations: Existing
    images: Existing


Data = Annotated[Boards | DeepPcb | FolderData | CocoData, Field(discriminator="kind")]
