"""Hears what the RKNN library says, and tells what it means.

The library swallows its exceptions: it answers None or -1 and gives the reason in its log alone.
"""

import contextlib
import ctypes
import os
import re
import selectors
import sys
import threading
from collections.abc import Iterator
from typing import Final

from agent.errors import AgentError, Permanent, Retryable
from schemas.codes import FailureCode

_MAX_TEXT: Final = 1500
# A static model makes the first one at each start; the rest is decoration.
_NOISE: Final = re.compile(r"^W Query dynamic range|Traceback \(most recent|^(W )?\W*$")

# The first that stands in the library's log decides. Without any of them it is NPU_FAULT, which may pass.
_MEANINGS: Final[tuple[tuple[str, type[AgentError], FailureCode], ...]] = (
    ("Invalid RKNN model version", Permanent, FailureCode.RUNTIME_TOO_OLD),
    ("does not support dynamic shape", Permanent, FailureCode.RUNTIME_TOO_OLD),
    ("librknnrt.so is missing", Permanent, FailureCode.RUNTIME_MISSING),
    ("Can not find dynamic library", Permanent, FailureCode.RUNTIME_MISSING),
    ("files are missing in the container", Permanent, FailureCode.RUNTIME_MISSING),
    ("RKNN_ERR_TIMEOUT", Retryable, FailureCode.NPU_TIMEOUT),
    ("RKNN_ERR_MALLOC_FAIL", Retryable, FailureCode.NPU_OUT_OF_MEMORY),
    ("RKNN_ERR_TARGET_PLATFORM_UNMATCH", Permanent, FailureCode.MODEL_WRONG_TARGET),
    # The runtime's manual: "please update rknn sdk and npu driver/firmware".
    ("RKNN_ERR_DEVICE_UNMATCH", Permanent, FailureCode.RUNTIME_TOO_OLD),
    ("RKNN_ERR_INCOMPATILE", Permanent, FailureCode.RUNTIME_TOO_OLD),
    ("RKNN_ERR_MODEL_INVALID", Permanent, FailureCode.MODEL_INVALID),
    ("RKNN_ERR_DECRYPT_FAILED", Permanent, FailureCode.MODEL_INVALID),
    ("RKNN_ERR_INPUT_INVALID", Permanent, FailureCode.SHAPE_MISMATCH),
    ("RKNN_ERR_FAIL", Retryable, FailureCode.NPU_FAULT),
    # The library compares the inputs with the model by itself, and then there is no code of the runtime.
    ("Catch exception when setting inputs", Permanent, FailureCode.SHAPE_MISMATCH),
)
_RETRY_S: Final = 1.0
_WORDS_ENV: Final = "RKFLEET_NPU_WORDS"
"""As `segmenter_process` sets it: adapters do not import each other."""


class Log:
    """Hears what the library says from Python and from C: both write to the process's stdout and stderr.

    The two file descriptors belong to the whole process, so calls of several threads share one redirection, into a
    pipe; each hears what was said since its call began. A thread passes everything on to the real stderr at once, so
    that the last words before a hang are seen, though no call returns to tell them.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._ears: list[list[bytes]] = []
        self._saved: list[tuple[int, int]] = []
        self._pipe: tuple[int, int] | None = None
        self._c = ctypes.CDLL(None)

    @contextlib.contextmanager
    def listen(self) -> Iterator[list[str]]:
        """Yield a list that holds the text once the block has ended."""
        said: list[str] = []
        heard: list[bytes] = []
        self._flush()
        with self._lock:
            if not self._ears:
                self._redirect()
            self._drain()
            self._ears.append(heard)
        try:
            yield said
        finally:
            self._flush()
            with self._lock:
                if len(self._ears) == 1:
                    self._restore()
                self._drain()
                self._ears = [ear for ear in self._ears if ear is not heard]
            said.append(b"".join(heard).decode(errors="replace"))

    def _redirect(self) -> None:
        if self._pipe is None:
            self._pipe = _pipe()
            os.set_blocking(self._pipe[0], False)
            threading.Thread(target=self._pass_on, args=(self._pipe[0],), name="rknn-log", daemon=True).start()
        self._saved = [(fd, os.dup(fd)) for fd in (1, 2)]
        for fd, _ in self._saved:
            os.dup2(self._pipe[1], fd)

    def _restore(self) -> None:
        for fd, saved in self._saved:
            os.dup2(saved, fd)
            os.close(saved)
        self._saved = []

    def _pass_on(self, source: int) -> None:
        with selectors.DefaultSelector() as selector:
            selector.register(source, selectors.EVENT_READ)
            while True:
                selector.select()
                with self._lock:
                    self._drain()

    def _drain(self) -> None:
        """Call with the lock held."""
        while self._pipe is not None:
            try:
                chunk = os.read(self._pipe[0], 65536)
            except BlockingIOError:
                return
            for ear in self._ears:
                ear.append(chunk)
            with contextlib.suppress(OSError):  # nobody reads our stderr: not the model's fault
                os.write(self._saved[-1][1] if self._saved else 2, chunk)

    def _flush(self) -> None:
        for stream in (sys.stdout, sys.stderr):
            if stream is not None:
                stream.flush()
        self._c.fflush(None)


def _pipe() -> tuple[int, int]:
    """In a child the one whose reading end its parent has too: what stands in it when the child crashes is not lost."""
    inherited = os.environ.get(_WORDS_ENV, "").split(",")
    return (int(inherited[0]), int(inherited[1])) if len(inherited) == 2 else os.pipe()


LOG: Final = Log()


def failure(doing: str, said: list[str]) -> AgentError:
    """Make the error that the library's log tells of. Warnings, which a healthy start has too, decide nothing."""
    lines = [line for line in "".join(said).splitlines() if line.strip() and not line.startswith((" ", "I "))]
    text = "\n".join(line for line in lines if not _NOISE.search(line))
    message = f"{doing}: {text[-_MAX_TEXT:] or 'the library gives no reason'}"
    for marker, kind, code in _MEANINGS:
        if marker in text:
            return kind(code, message)
    return Retryable(FailureCode.NPU_FAULT, message, delay_s=_RETRY_S)
