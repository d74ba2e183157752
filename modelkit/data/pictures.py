"""Pictures and label maps from files, or an error that names the file."""

from pathlib import Path
from typing import Final

import cv2
import numpy as np
import numpy.typing as npt

from agent.core.frame import Pixels
from modelkit.data.sample import DataError

ENDINGS: Final = frozenset({".bmp", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp"})
_JPEG: Final = b"\xff\xd8"
_JPEG_SCAN, _JPEG_END = b"\xff\xda", b"\xff\xd9"


def read_rgb(path: Path) -> Pixels:
    """(H, W, 3) uint8. Raises DataError for a file that is missing, cut short, or no picture."""
    return np.asarray(_decoded(path, cv2.IMREAD_COLOR_RGB), np.uint8)


def read_as_it_is(path: Path) -> npt.NDArray[np.uint8] | npt.NDArray[np.uint16]:
    """(H, W), or (H, W, 3) RGB without its alpha, in the depth of the file. Raises DataError as `read_rgb`, and for
    a depth of neither 8 nor 16 bits.
    """
    raw = _decoded(path, cv2.IMREAD_UNCHANGED)
    if raw.dtype not in (np.uint8, np.uint16):
        raise DataError(f"{path} has values of {raw.dtype}: save it with 8 or 16 bits a pixel")
    if raw.ndim == 3 and raw.shape[2] >= 3:
        return raw[:, :, 2::-1]
    return raw if raw.ndim == 2 else raw[:, :, 0]


def id_of(path: str) -> str:
    """A name that is also a file name's, from a path relative to the set's pictures."""
    return Path(path).with_suffix("").as_posix().replace("/", "_")


def _decoded(path: Path, flags: int) -> npt.NDArray[np.uint8]:
    try:
        data = path.read_bytes()
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror}") from None
    if data.startswith(_JPEG) and data.rfind(_JPEG_END) < data.rfind(_JPEG_SCAN):
        # The decoder would fill the rest with grey and say nothing.
        raise DataError(f"{path} is cut short: copy it again, or take it and its labels out of the set")
    picture = cv2.imdecode(np.frombuffer(data, np.uint8), flags) if data else None
    if picture is None:
        raise DataError(f"{path} is broken or no picture: replace it, or take it and its labels out of the set")
    return np.asarray(picture)
