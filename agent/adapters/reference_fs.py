"""Golden references: pictures of parts without defects, from files beside the settings."""

import stat
from functools import lru_cache
from pathlib import Path

import cv2
import numpy as np

from agent.core.frame import Layout, Picture
from agent.core.vision.align import Golden
from agent.errors import Permanent
from schemas.codes import FailureCode

MAX_BYTES = 64 * 2**20
_KEPT = 16


def read_reference(path: Path) -> Golden:
    """PNG, JPEG, BMP or what else OpenCV reads. A file that has not changed is not read again.

    Errors: Permanent(CONFIG_INVALID) for a file that is not there, is too large or is no picture to align with.
    """
    try:
        found = path.stat()
        if not stat.S_ISREG(found.st_mode):
            raise _refused(path, "not a file")
        return _read(path, (found.st_ino, found.st_mtime_ns, found.st_size))
    except OSError as error:
        raise _refused(path, error.strerror or str(error)) from error


@lru_cache(maxsize=_KEPT)
def _read(path: Path, _version: tuple[int, int, int]) -> Golden:
    with path.open("rb") as file:
        raw = file.read(MAX_BYTES + 1)
    if not 0 < len(raw) <= MAX_BYTES:
        raise _refused(path, "empty" if not raw else f"over {MAX_BYTES} bytes")
    try:
        pixels = cv2.imdecode(np.frombuffer(raw, np.uint8), cv2.IMREAD_COLOR)
    except cv2.error:
        pixels = None  # more pixels than OpenCV unpacks
    if pixels is None:
        raise _refused(path, "not a picture")
    rgb = np.asarray(cv2.cvtColor(pixels, cv2.COLOR_BGR2RGB), np.uint8)
    try:
        return Golden.of(Picture(rgb, Layout.RGB))
    except ValueError as error:
        raise _refused(path, str(error)) from error


def _refused(path: Path, why: str) -> Permanent:
    return Permanent(FailureCode.CONFIG_INVALID, f"reference picture {path}: {why}")
