"""Real boards: the public DeepPCB set, pairs of a tested board and its template, with a fixed validation split.

Its licence file is MIT and its README limits the data to research; none of its pictures are part of the project.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Final

import cv2
import numpy as np
import numpy.typing as npt

from agent.core.frame import Layout, Picture
from agent.core.vision.align import Golden, align, laid
from modelkit.data.sample import DataError, Mask, Sample
from modelkit.data.split import Part, held_out

CLASSES: Final = ("background", "open", "short", "mousebite", "spur", "spurious-copper", "pin-hole")
_KERNEL: Final = np.ones((3, 3), np.uint8)
_LEAST_SOLID_PX: Final = 6
_LEVEL: Final = 127


@dataclass(frozen=True, slots=True)
class Box:
    """An annotated defect: pixels, right and bottom exclusive; `kind` is 1 to 6, the class id."""

    x1: int
    y1: int
    x2: int
    y2: int
    kind: int


@dataclass(frozen=True, slots=True)
class Pair:
    """Paths relative to the set's folder, `image` without the endings `_test.jpg` and `_temp.jpg`."""

    group: str
    id: str
    image: str
    boxes: str

    @property
    def held_out(self) -> bool:
        """Whether it is in the validation split: by the digest of its id, so for ever and on every machine."""
        return held_out(self.id)


class DeepPcb:
    """`part` is `train`, `validation` (about 15 % of each group, fixed by id) or `all` of what the list names.

    One template in ten lies 2 to 8 px off. The reference of a sample is the template laid over the tested board by
    `agent.core.vision.align`, as a board's agent does it. With `aligned_masks` masks are derived from that, without
    from the pictures as they are, in which case the edges of what lies off count as defects inside a box.
    """

    def __init__(
        self, folder: Path, part: Part = "all", listing: Path | None = None, *, aligned_masks: bool = False
    ) -> None:
        listing = folder / "trainval.txt" if listing is None else listing
        pairs = [pair for pair in read_list(listing) if part == "all" or pair.held_out == (part == "validation")]
        self._folder, self._aligned_masks = folder, aligned_masks
        self._pairs = {pair.id: pair for pair in pairs}
        if len(self._pairs) != len(pairs):
            raise DataError(f"{listing} names a pair twice")

    @property
    def classes(self) -> tuple[str, ...]:
        return CLASSES

    @property
    def ids(self) -> tuple[str, ...]:
        return tuple(self._pairs)

    def group(self, sample_id: str) -> str:
        return self._pairs[sample_id].group

    def boxes(self, sample_id: str) -> list[Box]:
        return read_boxes(self._folder / self._pairs[sample_id].boxes)

    def read(self, sample_id: str) -> Sample:
        stem = self._folder / self._pairs[sample_id].image
        tested, template = (
            _read(stem.with_name(stem.name + "_test.jpg")),
            _read(stem.with_name(stem.name + "_temp.jpg")),
        )
        if tested.shape != template.shape:
            raise DataError(f"{stem}: tested board and template are of different sizes")
        reference = _laid(template, tested)
        mask = derive(tested, reference if self._aligned_masks else template, self.boxes(sample_id))
        return Sample(sample_id, _as_rgb(tested), mask, _as_rgb(reference))


def read_list(path: Path) -> list[Pair]:
    """A list in the form of `trainval.txt`: `group/id/ID.jpg group/id_not/ID.txt` a line. Raises DataError."""
    try:
        lines = path.read_text().splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path} is not a list of pairs: {error}") from None
    pairs = []
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        match line.split():
            case [image, boxes] if image.endswith(".jpg") and boxes.endswith(".txt"):
                stem = image.removesuffix(".jpg")
                pairs.append(Pair(stem.split("/")[0], stem.split("/")[-1], stem, boxes))
            case _:
                raise DataError(f"{path}, line {number}: not `group/id/ID.jpg group/id_not/ID.txt`")
    if not pairs:
        raise DataError(f"{path} names no pair")
    return pairs


def read_boxes(path: Path) -> list[Box]:
    """Raises DataError for a file that is missing or holds anything but `x1 y1 x2 y2 type`, type 1 to 6."""
    try:
        lines = path.read_text().splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: {error}") from None
    boxes = []
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            box = Box(*(int(part) for part in line.replace(",", " ").split()))
        except (ValueError, TypeError):
            raise DataError(f"{path}, line {number}: not `x1 y1 x2 y2 type`") from None
        if not (0 <= box.x1 < box.x2 and 0 <= box.y1 < box.y2 and 1 <= box.kind < len(CLASSES)):
            raise DataError(f"{path}, line {number}: an empty box or an unknown type")
        boxes.append(box)
    return boxes


def derive(tested: Mask, template: Mask, boxes: list[Box]) -> Mask:
    """Class ids where tested board and template, both (H, W) grey, differ inside a box, less what binarising frayed."""
    differ = ((tested > _LEVEL) != (template > _LEVEL)).astype(np.uint8)
    mask = np.zeros(tested.shape, np.uint8)
    for box in boxes:
        inside = differ[box.y1 : box.y2, box.x1 : box.x2]
        if not inside.size:
            continue
        solid = cv2.morphologyEx(inside, cv2.MORPH_OPEN, _KERNEL)
        part = cv2.dilate(solid, _KERNEL) & inside if int(solid.sum()) >= _LEAST_SOLID_PX else inside
        mask[box.y1 : box.y2, box.x1 : box.x2][part > 0] = box.kind
    return mask


def _laid(template: Mask, tested: Mask) -> Mask:
    picture = Picture(np.ascontiguousarray(_as_rgb(tested)), Layout.RGB)
    golden = Golden.of(Picture(np.ascontiguousarray(_as_rgb(template)), Layout.RGB))
    alignment = align(picture, golden)
    return template if alignment.misfit else laid(golden, alignment, picture).pixels[:, :, 0]


def _as_rgb(grey: Mask) -> npt.NDArray[np.uint8]:
    """Three channels that share one: a thousand pairs fit in memory."""
    return np.broadcast_to(grey[:, :, None], (*grey.shape, 3))


def _read(path: Path) -> Mask:
    grey = cv2.imread(str(path), cv2.IMREAD_GRAYSCALE)
    if grey is None:
        raise DataError(f"{path} is missing or no picture")
    return np.asarray(grey, np.uint8)
