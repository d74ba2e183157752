"""Video files, RTSP streams and V4L2 devices through OpenCV's own FFmpeg and V4L2.

A `cv2.VideoCapture` must not be released while another thread reads from it, and some of its calls outlast their
timeout (a stalled RTSP read takes three times as long, name resolution has none). So each capture belongs to a thread
of its own: `close` leaves it at once, and that thread releases the capture when its call comes back.

FFmpeg inside OpenCV scales a stream that changes its size without a break to the first size, silently; `camera_ffmpeg`
notices it.
"""

import atexit
import functools
import math
import os
import queue
import threading
import time
from collections.abc import Callable
from concurrent.futures import FIRST_COMPLETED, CancelledError, Future, wait
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any, TypeVar

import cv2
import numpy as np

from agent.core.frame import Layout, Picture, Pixels
from agent.core.rate import Rate
from agent.core.watch import redacted
from agent.errors import Permanent, Retryable
from schemas.codes import FailureCode

_PLAUSIBLE_FPS = 1000.0
_DEFAULT_FPS = 25.0  # for files that don't tell theirs
_LAST_WAIT_S = 1.0

T = TypeVar("T")

# OpenCV reads these when FFmpeg is first used. What FFmpeg would print is in our errors; UDP loses parts of pictures;
# finding out the frames a second of a stream takes two seconds of each reconnect.
os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")
os.environ.setdefault("OPENCV_FFMPEG_CAPTURE_OPTIONS", "rtsp_transport;tcp|fpsprobesize;0")


class Kind(StrEnum):
    FILE = "file"
    STREAM = "stream"
    DEVICE = "device"


@dataclass(frozen=True, slots=True)
class VideoOptions:
    """source: path of a file, URL of a stream, or /dev/videoN; kind None is told from it.

    rate_hz: for files, None is the file's own rate; for devices, the rate to ask for. loop: for files. size_px (width,
    height) and fourcc (as "MJPG"): what to ask of a device; it may choose otherwise.
    """

    source: str
    kind: Kind | None = None
    open_timeout_s: float = 5.0
    read_timeout_s: float = 3.0
    loop: bool = False
    rate_hz: float | None = None
    size_px: tuple[int, int] | None = None
    fourcc: str | None = None


def kind_of(source: str) -> Kind:
    if source.startswith("/dev/"):
        return Kind.DEVICE
    return Kind.STREAM if "://" in source else Kind.FILE


class CvCamera:
    """One file, stream or device. Shapes: RGB (H, W, 3).

    Errors: CAMERA_ABSENT within open_timeout_s; CAMERA_LOST within read_timeout_s; CAMERA_ENDED at the end of a file
    that is not looped. Permanent(CONFIG_INVALID) for a fourcc that is none.
    """

    def __init__(self, options: VideoOptions) -> None:
        if options.fourcc is not None and not (len(options.fourcc) == 4 and options.fourcc.isascii()):
            raise Permanent(FailureCode.CONFIG_INVALID, f"{options.fourcc!r} is no four-character code")
        self._options = options
        self._kind = options.kind or kind_of(options.source)
        self._shown = redacted(options.source)
        self._rate = Rate()
        self._owner: _Owner | None = None
        self._begun = False

    def open(self) -> None:
        self.close()
        self._begun = False
        if self._kind is not Kind.STREAM and not Path(self._options.source).exists():
            raise Retryable(FailureCode.CAMERA_ABSENT, f"{self._shown}: there is no such {self._kind}")
        self._start(FailureCode.CAMERA_ABSENT)

    def read(self) -> Picture:
        owner = self._owner
        if owner is None or owner.is_left(self._rate.wait_s(time.monotonic())):
            raise Retryable(FailureCode.CAMERA_LOST, f"{self._shown}: the camera is closed")
        bgr = self._call(owner, _next_picture, FailureCode.CAMERA_LOST)
        if bgr is None and self._kind is Kind.FILE and self._begun:
            bgr = self._after_the_end()
        if bgr is None:
            self.close()
            raise Retryable(FailureCode.CAMERA_LOST, f"{self._shown}: it gives no more pictures")
        self._begun = True
        if self._kind is Kind.FILE:
            self._rate = self._rate.taken(time.monotonic())
        return Picture(np.asarray(cv2.cvtColor(bgr, cv2.COLOR_BGR2RGB), np.uint8), Layout.RGB)

    def close(self) -> None:
        owner, self._owner = self._owner, None
        if owner is not None:
            owner.leave()

    def _start(self, code: FailureCode) -> "_Owner":
        self._owner = owner = _Owner()
        fps = self._call(owner, self._opened, code)
        if fps is None:
            self.close()
            raise Retryable(code, f"{self._shown}: can't be opened as a {self._kind}")
        if self._kind is Kind.FILE:
            self._rate = Rate(due_s=self._rate.due_s, period_s=Rate.of_hz(self._options.rate_hz or fps).period_s)
        return owner

    def _opened(self, capture: cv2.VideoCapture) -> float | None:
        """Runs on the owner's thread. Return the source's frames a second, None where it can't be opened."""
        options = self._options
        cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)
        backend = cv2.CAP_V4L2 if self._kind is Kind.DEVICE else cv2.CAP_FFMPEG
        if not capture.open(options.source, backend, _limits(options) if self._kind is Kind.STREAM else []):
            return None
        if self._kind is Kind.DEVICE:
            for prop, value in _wishes(options):
                capture.set(prop, value)
        fps = capture.get(cv2.CAP_PROP_FPS)
        return fps if math.isfinite(fps) and 0.0 < fps <= _PLAUSIBLE_FPS else _DEFAULT_FPS

    def _after_the_end(self) -> Pixels | None:
        """Return the first picture of the next round; opening anew works where seeking doesn't."""
        self.close()
        if not self._options.loop:
            raise Permanent(FailureCode.CAMERA_ENDED, f"{self._shown}: the file is at its end")
        owner = self._start(FailureCode.CAMERA_LOST)
        return self._call(owner, _next_picture, FailureCode.CAMERA_LOST)

    def _call(self, owner: "_Owner", work: Callable[[cv2.VideoCapture], T], code: FailureCode) -> T:
        opening = code is FailureCode.CAMERA_ABSENT
        timeout_s = self._options.open_timeout_s if opening else self._options.read_timeout_s
        try:
            return owner.call(work, timeout_s)
        except (TimeoutError, CancelledError, cv2.error) as error:
            owner.leave()
            raise Retryable(code, f"{self._shown}: {error}") from error


def _next_picture(capture: cv2.VideoCapture) -> Pixels | None:
    fine, bgr = capture.read()
    return np.asarray(bgr, np.uint8) if fine else None


def _limits(options: VideoOptions) -> list[int]:
    """Return OpenCV's parameters for a stream; each decoding thread beyond one would delay it by a picture."""
    open_ms, read_ms = int(options.open_timeout_s * 1e3), int(options.read_timeout_s * 1e3)
    timeouts = [cv2.CAP_PROP_OPEN_TIMEOUT_MSEC, open_ms, cv2.CAP_PROP_READ_TIMEOUT_MSEC, read_ms]
    return [*timeouts, cv2.CAP_PROP_N_THREADS, 1]


def _wishes(options: VideoOptions) -> list[tuple[int, float]]:
    """Return what to ask of a device, in the order in which V4L2 takes it: the format first."""
    wishes: list[tuple[int, float]] = []
    if options.fourcc is not None:
        wishes.append((cv2.CAP_PROP_FOURCC, cv2.VideoWriter.fourcc(*options.fourcc)))
    if options.size_px is not None:
        width_px, height_px = options.size_px
        wishes += [(cv2.CAP_PROP_FRAME_WIDTH, width_px), (cv2.CAP_PROP_FRAME_HEIGHT, height_px)]
    if options.rate_hz is not None:
        wishes.append((cv2.CAP_PROP_FPS, options.rate_hz))
    return wishes


class _Owner(threading.Thread):
    """Owns one capture and makes the calls on it, one after the other, until it is left."""

    def __init__(self) -> None:
        super().__init__(name="cv2-capture", daemon=True)
        self._left: Future[None] = Future()
        self._jobs: queue.SimpleQueue[Callable[[cv2.VideoCapture], None] | None] = queue.SimpleQueue()
        self._leaving = threading.Lock()
        self.start()

    def run(self) -> None:
        # A daemon, lest a call that hangs keep the agent from exiting; but the interpreter should not go away under it.
        at_exit = functools.partial(self.join, _LAST_WAIT_S)
        atexit.register(at_exit)
        capture = cv2.VideoCapture()
        while (job := self._jobs.get()) is not None:
            job(capture)
        capture.release()
        atexit.unregister(at_exit)

    def call(self, work: Callable[[cv2.VideoCapture], T], timeout_s: float) -> T:
        """Return what `work` returns; TimeoutError, CancelledError when left, and cv2.error."""
        answer: Future[T] = Future()

        def job(capture: cv2.VideoCapture) -> None:
            try:
                answer.set_result(work(capture))
            except cv2.error as error:
                answer.set_exception(error)

        self._jobs.put(job)
        either: tuple[Future[Any], ...] = (answer, self._left)
        done, _ = wait(either, timeout_s, FIRST_COMPLETED)
        if self._left in done:
            raise CancelledError("the camera is closed")
        if not done:
            raise TimeoutError(f"no answer within {timeout_s} s")
        return answer.result()

    def is_left(self, after_s: float) -> bool:
        """Wait for so long, or until left; return which."""
        return bool(wait((self._left,), after_s).done)

    def leave(self) -> None:
        with self._leaving:
            if not self._left.done():
                self._left.set_result(None)
                self._jobs.put(None)
