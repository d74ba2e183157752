"""A connection that can be given up at any moment: while it is made, while it is silent, and while it drips."""

import socket
import threading
import time
from types import TracebackType
from typing import Self

from agent.adapters.fetcher_http.options import FetchOptions, Gone, Passing, canceled

_POLL_S = 0.05


class _Call:
    """Looks the name up and connects on a thread of its own: neither can be interrupted.

    Whoever comes second of `_run` and `abandon` closes the socket.
    """

    def __init__(self, host: str, port: int, timeout_s: float) -> None:
        self.done = threading.Event()
        self.socket: socket.socket | None = None
        self.error: OSError | UnicodeError | None = None
        self._lock = threading.Lock()
        self._abandoned = False
        threading.Thread(target=self._run, args=(host, port, timeout_s), name="fetch-dial", daemon=True).start()

    def _run(self, host: str, port: int, timeout_s: float) -> None:
        made = None
        try:
            made = socket.create_connection((host, port), timeout_s)
        except (OSError, UnicodeError) as error:
            self.error = error
        with self._lock:
            self.socket = made
            self.done.set()
            if self._abandoned and made is not None:
                made.close()

    def abandon(self) -> None:
        with self._lock:
            self._abandoned = True
            if self.socket is not None:
                self.socket.close()


def dial(host: str, port: int, options: FetchOptions, stop: threading.Event) -> socket.socket:
    """Errors: Passing without a connection in time, Gone for a name that cannot be one, Retryable(CANCELED)."""
    where = f"{host}:{port}"
    call = _Call(host, port, options.connect_timeout_s)
    deadline = time.monotonic() + options.connect_timeout_s
    while not call.done.wait(_POLL_S):
        if stop.is_set() or time.monotonic() > deadline:
            call.abandon()
            if stop.is_set():
                raise canceled()
            raise Passing(f"{where}: no connection within {options.connect_timeout_s:g} s")
    if isinstance(call.error, UnicodeError):
        raise Gone(f"{where}: no name of a host")
    if call.socket is None:
        # The socket's own timeout may come a moment before ours.
        late = isinstance(call.error, TimeoutError)
        raise Passing(
            f"{where}: no connection within {options.connect_timeout_s:g} s" if late else f"{where}: {call.error}"
        )
    call.socket.settimeout(options.read_timeout_s)
    return call.socket


class Guard:
    """Cuts a connection from aside when `stop` is set or too little comes, whatever its reader is blocked in.

    A context manager; the reader adds to `received` and calls `check` after each read.
    """

    def __init__(self, connection: socket.socket, options: FetchOptions, stop: threading.Event) -> None:
        self.received = 0
        self._options = options
        self._stop = stop
        self._slow = False
        self._over = threading.Event()
        # A second handle on the connection: the first may be wrapped by TLS, which must not be touched by two threads.
        self._handle = connection.dup()
        self._thread = threading.Thread(target=self._watch, name="fetch-guard", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._over.set()
        self._thread.join()
        self._handle.close()

    def check(self) -> None:
        """Errors: Retryable(CANCELED) when stopped, Passing when cut for being slow."""
        if self._stop.is_set():
            raise canceled()
        if self._slow:
            least, window = self._options.least_bytes_per_s, self._options.rate_window_s
            raise Passing(f"fewer than {least:g} bytes a second over {window:g} s")

    def _watch(self) -> None:
        before, since = 0, time.monotonic()
        while not self._over.wait(_POLL_S):
            now = time.monotonic()
            if now - since >= self._options.rate_window_s:
                self._slow = self.received - before < self._options.least_bytes_per_s * (now - since)
                before, since = self.received, now
            if self._slow or self._stop.is_set():
                self._cut()
                return

    def _cut(self) -> None:
        try:
            self._handle.shutdown(socket.SHUT_RDWR)
        except OSError:
            return  # the other side was quicker
