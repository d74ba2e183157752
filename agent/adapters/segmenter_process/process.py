"""The child as its parent sees it: start, ask with a deadline, read its log, end it for certain."""

import contextlib
import os
import select
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from pathlib import Path
from typing import IO, cast

from agent.adapters.segmenter_process.memory import SharedMemory
from agent.adapters.segmenter_process.wire import MESSAGE_BYTES, Garbled, Message, decode

LOG_BYTES = 4_096
REAP_S = 1.0


class Ended(Exception):
    """The child closed its side, or could not be spoken to."""


class Silent(Exception):
    """The child did not answer in time."""


WORDS_ENV = "RKFLEET_NPU_WORDS"
"""Descriptors of a pipe, "read,write", that outlives the child; `segmenter_rknn.log` knows the name too."""


@dataclass(frozen=True, slots=True)
class Interpreter:
    """The Python that runs the child; by default the one that runs this, with the same module search path.

    Another one, such as an emulated board's, needs this package and the factory's module on `path`.
    """

    command: tuple[str, ...] = (sys.executable,)
    path: tuple[str, ...] | None = None

    def environment(self) -> dict[str, str]:
        path = self.path if self.path is not None else (entry or str(os.curdir) for entry in sys.path)
        return {**os.environ, "PYTHONPATH": os.pathsep.join(path)}


class Child:
    """One child process with its memory. Owned by one thread; after `end` or `kill` only what is read-only is left.

    Three descriptors lead to it: a socket for messages, a pipe whose closing kills it (the kernel closes it when this
    process ends in whatever way), and its standard output and error, of which the last LOG_BYTES are kept. It gets both
    ends of a pipe named by WORDS_ENV besides, to listen to its library with: what it had no time to read there before a
    crash is read here.
    """

    def __init__(self, slots: Sequence[int], interpreter: Interpreter) -> None:
        self._log = bytearray()
        with contextlib.ExitStack() as theirs:
            self.memory, memory_fd = SharedMemory.create(slots)
            theirs.callback(os.close, memory_fd)
            self._control, their_control = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
            theirs.callback(their_control.close)
            life_fd, our_life_fd = os.pipe()
            theirs.callback(os.close, life_fd)
            self._life = os.fdopen(our_life_fd, "wb")
            words_fd, their_words_fd = os.pipe()
            theirs.callback(os.close, their_words_fd)
            self._words = os.fdopen(words_fd, "rb", buffering=0)
            os.set_blocking(words_fd, False)
            try:
                self._process = _spawn(
                    interpreter, (their_control.fileno(), life_fd, memory_fd), (words_fd, their_words_fd)
                )
            except OSError:
                self._control.close()
                self._life.close()
                self._words.close()
                raise
        self._output = cast("IO[bytes]", self._process.stdout)
        os.set_blocking(self._output.fileno(), False)
        self._open_fds = {self._control.fileno(), self._output.fileno()}

    @property
    def pid(self) -> int:
        return self._process.pid

    def send(self, data: bytes) -> None:
        """Raise Ended when nobody is there."""
        try:
            self._control.send(data)
        except (BrokenPipeError, ConnectionResetError) as error:
            raise Ended from error

    def receive(self, call: int, timeout_s: float) -> Message:
        """Wait for the answer to `call`. Raise Ended, Silent, or Garbled when it is the answer to another."""
        if wait_for_any([self], timeout_s) is None:
            raise Silent
        data = self._read_control()
        if not data:
            raise Ended
        answer = decode(data)
        if answer.call != call:
            raise Garbled(f"answered call {answer.call} in call {call}")
        return answer

    def end(self, grace_s: float) -> bool:
        """Ask it to end, or let it end, for `grace_s`; then kill it. False when even that does not end it."""
        if self._control.fileno() in self._open_fds:
            try:
                self._control.shutdown(socket.SHUT_WR)
            except OSError:  # not connected any more
                self._open_fds.discard(self._control.fileno())
        self._drain(grace_s)
        return self.kill() if self._open_fds else self._reaped() or self.kill()

    def kill(self) -> bool:
        """False when it does not end: a driver holds it, and only a reboot or the driver can let it go."""
        self._process.kill()
        self._drain(REAP_S)
        return self._reaped()

    def gone(self) -> bool:
        if self._process.poll() is None:
            return False
        if not self._words.closed:
            self._keep(self._words.read(LOG_BYTES))
            self._words.close()
        self._open_fds.clear()
        self._control.close()
        self._output.close()
        self._life.close()
        self.memory.release()
        return True

    def exit_text(self) -> str:
        code = self._process.returncode
        if code is None:
            return "still there"
        if code >= 0:
            return f"exit code {code}"
        names = {number.value: number.name for number in signal.Signals}
        return f"signal {-code} ({names.get(-code, 'unnamed')})"

    def log_text(self) -> str:
        """The last lines that it or its library printed, oldest first; empty when there are none."""
        return self._log.decode(errors="replace").strip()

    def memory_bytes(self) -> int:
        """Resident memory, the shared part included; 0 when it has ended."""
        try:
            pages = Path(f"/proc/{self.pid}/statm").read_text(encoding="ascii").split()[1]
            return int(pages) * os.sysconf("SC_PAGE_SIZE")
        except (OSError, IndexError):
            return 0

    @property
    def open_fds(self) -> AbstractSet[int]:
        return self._open_fds

    @property
    def has_closed(self) -> bool:
        """Its side of the socket, as its end does."""
        return self._control.fileno() not in self._open_fds

    def hear(self, ready: AbstractSet[int]) -> bool:
        """Read the log where it is ready; True when the socket is."""
        if self._output.fileno() in ready:
            self._read_log()
        return self._control.fileno() in ready

    def _drain(self, timeout_s: float) -> None:
        """Wait until it has closed both its sides, as its end does."""
        deadline_s = time.monotonic() + timeout_s
        while self._open_fds and (left_s := deadline_s - time.monotonic()) > 0:
            if self.hear(_poll([self], left_s)):
                self._read_control()

    def _read_control(self) -> bytes:
        try:
            data = self._control.recv(MESSAGE_BYTES)
        except ConnectionResetError:
            data = b""
        if not data:
            self._open_fds.discard(self._control.fileno())
        return data

    def _read_log(self) -> None:
        data = self._output.read(LOG_BYTES)
        if data == b"":
            self._open_fds.discard(self._output.fileno())
        self._keep(data)

    def _keep(self, said: bytes | None) -> None:
        self._log += said or b""
        del self._log[:-LOG_BYTES]

    def _reaped(self) -> bool:
        try:
            self._process.wait(REAP_S)
        except subprocess.TimeoutExpired:
            return False
        return self.gone()


def wait_for_any(children: Sequence[Child], timeout_s: float) -> Child | None:
    """The first child that has an answer or has closed its side; None when the time is up.

    Logs are read on the way. Answers that are there already are seen though the time is 0.
    """
    deadline_s = time.monotonic() + timeout_s
    while True:
        left_s = deadline_s - time.monotonic()
        closed = next((child for child in children if child.has_closed), None)
        ready = set() if closed else _poll(children, max(0.0, left_s))
        heard = [child for child in children if child.hear(ready)]
        if closed or heard or left_s <= 0:
            return closed or next(iter(heard), None)


def _poll(children: Sequence[Child], timeout_s: float) -> set[int]:
    """Descriptors with news, of those still open; none when the time is up."""
    poll = select.poll()
    for child in children:
        for fd in child.open_fds:
            poll.register(fd, select.POLLIN)
    return {fd for fd, _ in poll.poll(timeout_s * 1_000)}


def _spawn(interpreter: Interpreter, fds: tuple[int, int, int], words: tuple[int, int]) -> subprocess.Popen[bytes]:
    """Start the child with SIGINT and SIGTERM blocked from its first instruction: a signal to the whole control group
    must not end it before its parent has finished the call in hand.
    """
    command = [*interpreter.command, "-P", "-u", "-X", "faulthandler", "-m", f"{__package__}.child", *map(str, fds)]
    blocked = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT, signal.SIGTERM})
    try:
        return subprocess.Popen(  # noqa: S603 - our own interpreter and module
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            bufsize=0,
            pass_fds=(*fds, *words),
            env=interpreter.environment() | {WORDS_ENV: ",".join(map(str, words))},
            start_new_session=True,
        )
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, blocked)
