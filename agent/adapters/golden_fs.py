"""Golden frames of a bundle, from PNG files."""

import struct
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt

from agent.core.bundle import Bundle, GoldenFrame
from agent.errors import Permanent
from schemas.codes import FailureCode

_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_HEAD = struct.Struct(">8s4x4sII")
_MOST_BYTES = 32 * 2**20


def read_golden(bundle: Bundle) -> list[GoldenFrame]:
    """In the manifest's order, RGB at the model's input size. The digests are not checked here.

    Errors: Permanent(MODEL_MISSING) for a file that is not there, Permanent(MODEL_INVALID) for one that is no PNG of
    a size that the model takes; its pixels are not unpacked then.
    """
    folder, shapes = Path(bundle.folder), bundle.spec.shapes
    frames = []
    for golden in bundle.manifest.golden.frames:
        inputs = tuple(_rgb(folder / name, shapes) for name in golden.inputs)
        class_map = _pixels(folder / golden.class_map, shapes, cv2.IMREAD_GRAYSCALE)
        if any(picture.shape[:2] != class_map.shape for picture in inputs):
            raise Permanent(FailureCode.MODEL_INVALID, f"{folder}: golden frame and class map differ in size")
        frames.append(GoldenFrame(inputs, class_map))
    return frames


def _rgb(path: Path, shapes: tuple[tuple[int, int], ...]) -> npt.NDArray[np.uint8]:
    return np.ascontiguousarray(_pixels(path, shapes, cv2.IMREAD_COLOR)[:, :, ::-1])


def _pixels(path: Path, shapes: tuple[tuple[int, int], ...], how: int) -> npt.NDArray[np.uint8]:
    try:
        with path.open("rb") as file:
            raw = file.read(_MOST_BYTES + 1)
    except OSError as error:
        raise Permanent(FailureCode.MODEL_MISSING, f"{path}: {error.strerror or error}") from error
    if len(raw) < _HEAD.size or len(raw) > _MOST_BYTES:
        raise Permanent(FailureCode.MODEL_INVALID, f"{path}: no PNG of a golden frame")
    signature, kind, width, height = _HEAD.unpack_from(raw)
    if signature != _SIGNATURE or kind != b"IHDR" or (height, width) not in shapes:
        raise Permanent(FailureCode.MODEL_INVALID, f"{path}: no PNG of a size that the model takes")
    pixels = cv2.imdecode(np.frombuffer(raw, np.uint8), how)
    if pixels is None:
        raise Permanent(FailureCode.MODEL_INVALID, f"{path}: a PNG that cannot be decoded")
    return np.asarray(pixels, np.uint8)
