"""A folder of pictures as a camera: for demonstrations, tests, and cells where another program drops files."""

import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from agent.core.frame import Layout, Picture, Pixels
from agent.core.rate import Rate
from agent.errors import Permanent, Retryable
from schemas.codes import FailureCode

_SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".bmp", ".tif", ".tiff"})


@dataclass(frozen=True, slots=True)
class FolderOptions:
    """pattern: a glob below the folder, every depth; rate_hz None is as fast as pictures are read; loop: begin again at
    the end, with the files that are there by then.
    """

    path: str
    pattern: str = "*"
    rate_hz: float | None = 5.0
    loop: bool = False


class FolderCamera:
    """Gives the pictures of a folder in the order of their paths; sizes may differ from one to the next.

    Shapes: RGB (H, W, 3); grey and 16-bit files are converted, transparency is dropped.
    Errors: CAMERA_ABSENT where the folder is missing or has no picture; an unreadable file is passed over and counted
    in `unreadable`; CAMERA_LOST when not one of the folder could be read; CAMERA_ENDED after the last.
    """

    def __init__(self, options: FolderOptions) -> None:
        self._options = options
        self._rate = Rate.of_hz(options.rate_hz)
        self._closed = threading.Event()
        self._closed.set()
        self._paths: Iterator[Path] = iter(())
        self._given = 0
        self._bad = ""
        self.unreadable = 0

    def open(self) -> None:
        cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)  # what it would print is counted here
        self._begin()
        self._closed.clear()

    def read(self) -> Picture:
        while True:
            if self._closed.wait(self._rate.wait_s(time.monotonic())):
                raise Retryable(FailureCode.CAMERA_LOST, f"{self._options.path}: the camera is closed")
            path = next(self._paths, None)
            if path is None:
                self._end()
                continue
            rgb = _decoded(path)
            if rgb is not None:
                self._given += 1
                self._rate = self._rate.taken(time.monotonic())
                return Picture(rgb, Layout.RGB)
            self.unreadable += 1
            self._bad = path.name

    def close(self) -> None:
        self._closed.set()

    def _begin(self) -> None:
        folder = Path(self._options.path)
        try:
            found = sorted(path for path in folder.rglob(self._options.pattern) if path.suffix.lower() in _SUFFIXES)
        except (OSError, ValueError, NotImplementedError) as error:  # the last two: a pattern that is no glob
            raise Retryable(FailureCode.CAMERA_ABSENT, f"{folder}: {error}") from error
        if not found:
            what = f"no picture matches {self._options.pattern}" if folder.is_dir() else "there is no such folder"
            raise Retryable(FailureCode.CAMERA_ABSENT, f"{folder}: {what}")
        self._paths = iter(found)
        self._given = 0

    def _end(self) -> None:
        """Begin the folder again, or raise."""
        path = self._options.path
        if not self._given:
            self.close()
            raise Retryable(FailureCode.CAMERA_LOST, f"{path}: no picture can be read, the last tried is {self._bad}")
        if not self._options.loop:
            self.close()
            raise Permanent(FailureCode.CAMERA_ENDED, f"{path}: all {self._given} pictures were given")
        try:
            self._begin()
        except Retryable as error:
            self.close()
            raise Retryable(FailureCode.CAMERA_LOST, error.text) from error


def _decoded(path: Path) -> Pixels | None:
    try:
        decoded = cv2.imdecode(np.fromfile(path, np.uint8), cv2.IMREAD_COLOR)
    except (OSError, cv2.error):  # OpenCV raises for an empty file and for one with an absurd size in its header
        return None
    return None if decoded is None else np.asarray(cv2.cvtColor(decoded, cv2.COLOR_BGR2RGB), np.uint8)
