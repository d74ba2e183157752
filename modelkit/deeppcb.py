"""Pictures of real boards to measure on: the public DeepPCB set, which is never trained on.

Its licence limits the data to research, so weights that are shipped must not come from it.
"""

from pathlib import Path
from typing import Final

import cv2
import numpy as np
import numpy.typing as npt

from modelkit.synthesise import PLATE_PX, Sample, letterboxed

_KERNEL: Final = np.ones((3, 3), np.uint8)


def load(folder: Path, count: int, size_px: int = PLATE_PX) -> list[Sample]:
    """`count` pictures spread evenly over `trainval.txt`, letterboxed, with masks made from the pairs and the boxes."""
    lines = (folder / "trainval.txt").read_text().splitlines()
    chosen = lines[:: max(1, len(lines) // count)][:count]
    return [letterboxed(_sample(folder, *line.split()), size_px) for line in chosen]


def _sample(folder: Path, image: str, boxes: str) -> Sample:
    """The mask is where tested board and template differ inside a box, without the ragged edges of binarising."""
    stem = image.removesuffix(".jpg")
    tested, template = _read(folder / f"{stem}_test.jpg"), _read(folder / f"{stem}_temp.jpg")
    differ = ((tested > 127) != (template > 127)).astype(np.uint8)
    mask = np.zeros(tested.shape, np.uint8)
    for line in (folder / boxes).read_text().splitlines():
        x1, y1, x2, y2, kind = map(int, line.replace(",", " ").split())
        inside = differ[y1:y2, x1:x2]
        solid = cv2.morphologyEx(inside, cv2.MORPH_OPEN, _KERNEL)
        part = cv2.dilate(solid, _KERNEL) & inside if int(solid.sum()) >= 6 else inside
        mask[y1:y2, x1:x2][part > 0] = kind
    return Sample(np.repeat(tested[:, :, None], 3, axis=2), mask)


def _read(path: Path) -> npt.NDArray[np.uint8]:
    grey = cv2.imread(str(path), cv2.IMREAD_GRAYSCALE)
    if grey is None:
        raise FileNotFoundError(f"{path} is missing or no picture")
    return np.asarray(grey, np.uint8)
