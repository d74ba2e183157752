"""Any source that ffmpeg reads, as raw NV12 from a child process: for hardware decoders that OpenCV can't reach.

On a Rockchip board, with an ffmpeg built for it: input_args=("-hwaccel", "rkmpp", "-hwaccel_output_format",
"drm_prime"), output_args=("-vf", "scale_rkrga=w=1280:h=720:format=nv12,hwdownload,format=nv12").
"""

import contextlib
import fcntl
import functools
import os
import re
import select
import signal
import subprocess
import threading
import time
from collections import deque
from dataclasses import dataclass
from typing import IO

import numpy as np

from agent.core.frame import Layout, Picture, Pixels
from agent.core.watch import redacted
from agent.errors import Permanent, Retryable
from schemas.codes import FailureCode

# What the filter graph is fed, said again at each change; what comes out at the pipe; what tells nothing of a failure.
_FED = re.compile(r"^\[graph[^\]]*input[^\]]*\] w:(\d+) h:(\d+) ")
_GIVEN = re.compile(r"^ *Stream #0:0.*: Video: rawvideo.*?, (\d{2,5})x(\d{2,5})[ ,]")
_CHATTER = re.compile(r"^\[(AVIOContext|auto_|format|scaler)|^ |^(Input|Output|Stream|frame=|video:)")
_KEPT_LINES = 6
_LONGEST_LINE_BYTES = 4096
_PIPE_BYTES = 1 << 20  # the default of 64 KiB costs a switch of processes for each 20 rows of a 1080p picture


@dataclass(frozen=True, slots=True)
class FfmpegOptions:
    """source: what stands after -i. input_args stand before it, output_args after.

    live: the source never ends by itself, so its end is a loss. For files: loop, and native_rate reads no faster than
    the file would play. size_px (width, height) None takes it from what ffmpeg says. stride_px and stride_rows: the
    length of a row, and the number of rows of the Y plane, where the child's pictures are padded; None is unpadded.
    """

    source: str
    input_args: tuple[str, ...] = ()
    output_args: tuple[str, ...] = ()
    transport: str = "tcp"
    live: bool = True
    loop: bool = False
    native_rate: bool = True
    size_px: tuple[int, int] | None = None
    stride_px: int | None = None
    stride_rows: int | None = None
    open_timeout_s: float = 8.0
    read_timeout_s: float = 3.0
    binary: str = "ffmpeg"


def unpadded(raw: Pixels, size_px: tuple[int, int], stride_px: int) -> Pixels:
    """Return NV12 (H * 3 // 2, W) from the flat bytes of an NV12 picture whose rows are `stride_px` long.

    The Y plane may have more rows than H; the UV plane follows it and has half as many.
    """
    width_px, height_px = size_px
    rows = raw.reshape(-1, stride_px)
    uv_row = rows.shape[0] * 2 // 3
    if stride_px == width_px and uv_row == height_px:
        return rows
    return np.concatenate((rows[:height_px, :width_px], rows[uv_row : uv_row + height_px // 2, :width_px]))


class FfmpegCamera:
    """Shapes: NV12 (H * 3 // 2, W).

    Errors: Permanent(CAMERA_ABSENT) without ffmpeg; Retryable(CAMERA_ABSENT) within open_timeout_s, CAMERA_LOST within
    read_timeout_s, CAMERA_SIZE_CHANGED when the stream changes in the middle; Permanent(CAMERA_ENDED) at the end of a
    file. Their texts carry what ffmpeg said last.
    """

    def __init__(self, options: FfmpegOptions) -> None:
        self._options = options
        self._child: _Child | None = None

    def open(self) -> None:
        self.close()
        child = self._child = _Child(command(self._options))
        size_px = self._options.size_px or child.given_px(self._options.open_timeout_s)
        if size_px is None or not child.is_readable(self._options.open_timeout_s):
            raise self._failure(child, FailureCode.CAMERA_ABSENT, "gives no picture")
        width_px, height_px = size_px
        stride = self._options.stride_px or width_px, self._options.stride_rows or height_px
        if width_px % 2 or height_px % 2 or stride[0] < width_px or stride[1] < height_px or stride[1] % 2:
            self.close()
            text = f"NV12 of {width_px}x{height_px} with rows of {stride[0]} and {stride[1]} of them is not possible"
            raise Permanent(FailureCode.CONFIG_INVALID, f"{redacted(self._options.source)}: {text}")
        self._size_px, self._stride = size_px, stride

    def read(self) -> Picture:
        child = self._child
        if child is None:
            raise Retryable(FailureCode.CAMERA_LOST, f"{redacted(self._options.source)}: the camera is closed")
        raw = np.empty(self._stride[0] * self._stride[1] * 3 // 2, np.uint8)
        problem = child.fill(raw.data, self._options.read_timeout_s)
        if problem and child.has_ended() and not self._options.live:
            self.close()
            raise Permanent(FailureCode.CAMERA_ENDED, f"{redacted(self._options.source)}: the file is at its end")
        if problem:
            raise self._failure(child, FailureCode.CAMERA_LOST, problem)
        if child.changed_px is not None:
            raise self._failure(child, FailureCode.CAMERA_SIZE_CHANGED, f"became {child.changed_px}")
        return Picture(unpadded(raw, self._size_px, self._stride[0]), Layout.NV12)

    def close(self) -> None:
        child, self._child = self._child, None
        if child is not None:
            child.end()

    def _failure(self, child: "_Child", code: FailureCode, problem: str) -> Retryable:
        self.close()
        child.end()
        said = "; ".join(child.said) or "nothing"
        return Retryable(code, redacted(f"{self._options.source}: {problem}; ffmpeg said: {said}"))


def command(options: FfmpegOptions) -> list[str]:
    words = [options.binary, "-hide_banner", "-nostdin", "-nostats", "-loglevel", "verbose"]
    if options.source.startswith("rtsp"):
        words += ["-rtsp_transport", options.transport, "-timeout", str(int(options.read_timeout_s * 1e6))]
    if options.live:
        # Frame threads would delay a stream by a picture each; finding out its rate takes two seconds of a reconnect.
        words += ["-thread_type", "slice", "-fpsprobesize", "0"]
    else:
        words += ["-stream_loop", "-1"] * options.loop + ["-re"] * options.native_rate
    words += [*options.input_args, "-i", options.source, "-map", "0:v:0", *options.output_args]
    # Even ffmpeg's encoder of raw video has frame threads, and each would hold a picture back until the next ones come.
    return [*words, "-pix_fmt", "nv12", "-threads", "1", "-f", "rawvideo", "pipe:1"]


class _Child:
    """One ffmpeg. `end` may come from any thread: killing the child ends a read, for its pipe is then at its end."""

    def __init__(self, words: list[str]) -> None:
        self.said: deque[str] = deque(maxlen=_KEPT_LINES)
        self.changed_px: str | None = None
        self._fed_px: tuple[str, ...] | None = None
        self._given_px: tuple[int, int] | None = None
        self._known = threading.Event()
        try:
            self._process = subprocess.Popen(  # noqa: S603  the words are the configuration's, there is no shell
                words, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True
            )
        except FileNotFoundError as error:
            text = f"{words[0]} is missing: install it (apt install ffmpeg), or take the camera through OpenCV"
            raise Permanent(FailureCode.CAMERA_ABSENT, text) from error
        except (OSError, ValueError) as error:  # the latter for a word with a null byte
            raise Permanent(FailureCode.CAMERA_ABSENT, f"{words[0]} can't be started: {error}") from error
        assert self._process.stdout is not None  # noqa: S101  for the type checker: both are pipes
        assert self._process.stderr is not None  # noqa: S101
        self._pipe = self._process.stdout
        with contextlib.suppress(PermissionError):  # the user's limit of pipe memory is reached: slower, but right
            fcntl.fcntl(self._pipe, fcntl.F_SETPIPE_SZ, _PIPE_BYTES)
        self._reading = threading.Lock()
        self._ending = threading.Lock()
        listen = functools.partial(self._listen, self._process.stderr)
        self._listener = threading.Thread(target=listen, name="ffmpeg-stderr", daemon=True)
        self._listener.start()

    def given_px(self, timeout_s: float) -> tuple[int, int] | None:
        """Return the size (width, height) of what comes, None if it isn't known in time or the child ended."""
        self._known.wait(timeout_s)
        return self._given_px

    def is_readable(self, timeout_s: float) -> bool:
        with self._reading:
            return self._poll(time.monotonic() + timeout_s) == select.POLLIN

    def fill(self, view: memoryview, timeout_s: float) -> str:
        """Read until `view` is full; return "" or what went wrong."""
        deadline_s = time.monotonic() + timeout_s
        with self._reading:
            while view:
                ready = self._poll(deadline_s)
                if ready is None:
                    return f"no picture within {timeout_s:g} s"
                count = os.readv(self._pipe.fileno(), [view]) if ready == select.POLLIN else 0
                if not count:
                    return "the stream ended"
                view = view[count:]
        return ""

    def has_ended(self) -> bool:
        """True when the child came to the end of its source and was content."""
        try:
            return self._process.wait(1.0) == 0
        except subprocess.TimeoutExpired:
            return False

    def end(self) -> None:
        with self._ending:
            if self._process.returncode is None:  # not reaped yet, so the number can't be another's
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(self._process.pid, signal.SIGKILL)
                # A decoder's driver can hold a killed process for a while; then the kernel ends it later.
                with contextlib.suppress(subprocess.TimeoutExpired):
                    self._process.wait(2.0)
        with self._reading:
            self._pipe.close()
        self._listener.join(1.0)

    def _poll(self, deadline_s: float) -> int | None:
        """Return POLLIN when there is something to read, POLLHUP at the end, None at the deadline."""
        if self._pipe.closed:
            return select.POLLHUP
        poller = select.poll()
        poller.register(self._pipe, select.POLLIN)
        found = poller.poll(max(0.0, deadline_s - time.monotonic()) * 1e3)
        if not found:
            return None
        return select.POLLIN if found[0][1] & select.POLLIN else select.POLLHUP

    def _listen(self, stderr: IO[bytes]) -> None:
        with stderr:
            for raw in iter(lambda: stderr.readline(_LONGEST_LINE_BYTES), b""):
                self._hear(raw.decode(errors="replace").rstrip())
        self._known.set()

    def _hear(self, line: str) -> None:
        if fed := _FED.match(line):
            if self._fed_px not in {None, fed.groups()}:
                self.changed_px = "x".join(fed.groups())
            self._fed_px = fed.groups()
        elif (given := _GIVEN.match(line)) and self._given_px is None:
            self._given_px = int(given[1]), int(given[2])
            self._known.set()
        elif line and not _CHATTER.match(line):
            self.said.append(line)
