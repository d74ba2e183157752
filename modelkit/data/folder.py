"""A folder of pictures and label maps.

    classes.txt       a class a line, the background first: NAME, or NAME VALUE, or NAME #RRGGBB
    images/           pictures, also in folders below
    masks/            for each picture a PNG of the same name and size
    references/       optional: for each picture the same view of a part without defects

In a label map a pixel is the class's value, which is its line's number from 0 unless told, or its colour. A map with a
palette is read by its colours.
"""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt

from modelkit.data.pictures import ENDINGS, id_of, read_as_it_is, read_rgb
from modelkit.data.sample import DataError, Mask, Sample

TABLE: Final = "classes.txt"
_UNKNOWN: Final = 255
_LINE: Final = re.compile(r"(?P<name>\S+)(?:\s+(?:#(?P<colour>[0-9a-fA-F]{6})|(?P<value>\d{1,5})))?")


@dataclass(frozen=True, slots=True)
class Table:
    """The classes by id; `keys` are their values in a label map, or their colours as 0xRRGGBB."""

    path: Path
    names: tuple[str, ...]
    keys: tuple[int, ...]
    coloured: bool

    def ids(self, raw: npt.NDArray[np.uint8] | npt.NDArray[np.uint16], path: Path) -> Mask:
        """(H, W) uint8 of class ids. Raises DataError for a value or colour that is no class's, with the first."""
        codes = _colours(raw) if self.coloured else _values(raw, path, self.path)
        lookup = np.full(2**24 if self.coloured else 2**16, _UNKNOWN, np.uint8)
        lookup[list(self.keys)] = range(len(self.keys))
        ids: Mask = lookup[codes]
        unknown = ids == _UNKNOWN
        if unknown.any():
            y, x = (int(at) for at in np.argwhere(unknown)[0])
            code = f"colour #{codes[y, x]:06x}" if self.coloured else f"value {codes[y, x]}"
            raise DataError(
                f"{path}: {code} at x {x}, y {y} ({int(unknown.sum())} px unknown in all) is no class of {self.path}: "
                "add it there, or mend the label map"
            )
        return ids


class Folder:
    """`table` is elsewhere than in the folder if told. Ids are the pictures' paths without ending, `_` for `/`.

    Raises DataError when the folder, the table or pictures are missing, and for pictures and label maps that don't
    pair.
    """

    def __init__(self, folder: Path, table: Path | None = None) -> None:
        self._table = read_table(folder / TABLE if table is None else table)
        self._images = _listed(folder / "images")
        if not self._images:
            raise DataError(f"{folder / 'images'} holds no picture ({', '.join(sorted(ENDINGS))})")
        self._masks = _paired(self._images, folder / "masks")
        references = folder / "references"
        self._references = _paired(self._images, references) if references.is_dir() else {}

    @property
    def classes(self) -> tuple[str, ...]:
        return self._table.names

    @property
    def ids(self) -> tuple[str, ...]:
        return tuple(self._images)

    def read(self, sample_id: str) -> Sample:
        image, path = read_rgb(self._images[sample_id]), self._masks[sample_id]
        mask = self._table.ids(read_as_it_is(path), path)
        reference_path = self._references.get(sample_id)
        reference = None if reference_path is None else read_rgb(reference_path)
        for other, what in ((mask, path), (reference, reference_path)):
            if other is not None and other.shape[:2] != image.shape[:2]:
                raise DataError(
                    f"{what} is of {_size(other)} px and its picture of {_size(image)} px: they must be of one size"
                )
        return Sample(sample_id, image, mask, reference)


def read_table(path: Path) -> Table:
    """Raises DataError for a table that is missing, empty, or says two things."""
    try:
        lines = [line.strip() for line in path.read_text().splitlines() if line.strip()]
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path} is not a table of classes: {error}") from None
    found = [_LINE.fullmatch(line) for line in lines]
    for number, (line, match) in enumerate(zip(lines, found, strict=True), 1):
        if match is None:
            raise DataError(f"{path}, class {number}: {line!r} is not NAME, NAME VALUE or NAME #RRGGBB")
    matches = [match for match in found if match is not None]
    names = tuple(match["name"] for match in matches)
    coloured = [match["colour"] is not None for match in matches]
    if len(names) < 2 or len(names) >= _UNKNOWN:
        raise DataError(f"{path} names {len(names)} classes: there must be a background and 1 to 253 others")
    if any(coloured) != all(coloured):
        raise DataError(f"{path} gives colours to some classes only: give them to all or to none")
    keys = tuple(_key(match, number) for number, match in enumerate(matches))
    for what, values in (("name", names), ("value or colour", keys)):
        if len(set(values)) < len(values):
            raise DataError(f"{path} uses a {what} twice")
    if max(keys) >= (2**24 if all(coloured) else 2**16):
        raise DataError(f"{path}: a value must be below 65536")
    return Table(path, names, keys, all(coloured))


def _key(match: re.Match[str], number: int) -> int:
    if match["colour"] is not None:
        return int(match["colour"], 16)
    return number if match["value"] is None else int(match["value"])


def _listed(folder: Path) -> dict[str, Path]:
    if not folder.is_dir():
        raise DataError(f"{folder} is not there: the set needs the folders images and masks")
    out: dict[str, Path] = {}
    for path in sorted(path for path in folder.rglob("*") if path.suffix.lower() in ENDINGS and path.is_file()):
        name = id_of(path.relative_to(folder).as_posix())
        if name in out:
            raise DataError(f"{path} and {out[name]} have one name: rename one, with what belongs to it")
        out[name] = path
    return out


def _paired(images: dict[str, Path], folder: Path) -> dict[str, Path]:
    others = _listed(folder)
    for lonely, beside in (
        (sorted(set(images) - set(others)), f"nothing of its name in {folder}"),
        (sorted(set(others) - set(images)), "no picture"),
    ):
        if lonely:
            path = images.get(lonely[0]) or others[lonely[0]]
            more = f", nor have {len(lonely) - 1} more" if len(lonely) > 1 else ""
            raise DataError(f"{path} has {beside}{more}: add what is missing, or take it out")
    return others


def _values(raw: npt.NDArray[np.uint8] | npt.NDArray[np.uint16], path: Path, table: Path) -> npt.NDArray[np.integer]:
    if raw.ndim == 2:
        return raw
    if not (raw == raw[:, :, :1]).all():
        raise DataError(f"{path} is in colour, and {table} tells values: add the classes' colours there")
    return raw[:, :, 0]


def _colours(raw: npt.NDArray[np.uint8] | npt.NDArray[np.uint16]) -> npt.NDArray[np.integer]:
    codes = raw.astype(np.uint32) >> (8 if raw.dtype == np.uint16 else 0)
    red, green, blue = (codes if codes.ndim == 2 else codes[:, :, channel] for channel in range(3))
    return (red << 16) | (green << 8) | blue


def _size(picture: npt.NDArray[np.uint8]) -> str:
    return f"{picture.shape[1]}x{picture.shape[0]}"
