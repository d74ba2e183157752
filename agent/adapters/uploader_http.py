"""HTTP PUT of one file at a time, by the standard library."""

import base64
import http.client
import os
import random
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from urllib.parse import quote, unquote, urlsplit

from agent.core.backoff import Backoff
from agent.errors import AgentError, Permanent, Retryable
from schemas.codes import FailureCode

_TYPES = {".png": "image/png", ".json": "application/json"}
_PASSING = frozenset({408, 421, 425, 429})
_BLOCK_BYTES = 1 << 18
_POLL_S = 0.05
_SAFE = "/:@!$&'()*+,;=~-._%"


@dataclass(frozen=True, slots=True)
class UploadOptions:
    """`timeout_s` is for each wait, `least_bytes_per_s` bounds the whole: a file gets `timeout_s` and its bytes' time.
    `tls` None: the system's authorities, no client certificate.
    """

    attempts: int = 5
    timeout_s: float = 20.0
    least_bytes_per_s: float = 10_000.0
    backoff: Backoff = field(default_factory=lambda: Backoff(1.0, 30.0))
    tls: ssl.SSLContext | None = None


class HttpUploader:
    """See the port `Uploader`. Redirects are not followed: a PUT that was sent elsewhere is not what was asked for."""

    def __init__(self, options: UploadOptions | None = None, chance: Callable[[], float] = random.random) -> None:
        self._options = options or UploadOptions()
        self._chance = chance

    def put(self, url: str, name: str, content: bytes, stop: threading.Event) -> None:
        place = _place(url, name)
        backoff = self._options.backoff
        for attempt in range(1, self._options.attempts + 1):
            try:
                self._try(place, content, stop)
            except _Passing as error:
                if attempt == self._options.attempts:
                    text = f"{place.shown}: {error}, {attempt} times"
                    raise Retryable(FailureCode.UPLOAD_FAILED, text, delay_s=backoff.most_s) from error
            else:
                return
            backoff, pause_s = backoff.failed(self._chance())
            stop.wait(pause_s)

    def _try(self, place: "_Place", content: bytes, stop: threading.Event) -> None:
        if stop.is_set():
            raise _canceled()
        connection = place.connection(self._options)
        most_s = self._options.timeout_s + len(content) / self._options.least_bytes_per_s
        try:
            connection.connect()
            with _guard(connection.sock, time.monotonic() + most_s, stop):
                status = _exchange(connection, place, content)
        except (OSError, ValueError, http.client.HTTPException) as error:
            if stop.is_set():
                raise _canceled() from error
            raise _Passing(_said(error)) from error
        finally:
            connection.close()
        _judge(status, place)


class _Passing(Exception):
    """One attempt came to nothing; the next may not."""


@dataclass(frozen=True, slots=True)
class _Place:
    """`shown` is what may be told: neither user info nor query."""

    is_secure: bool
    host: str
    port: int
    target: str
    media_type: str
    authorization: str | None

    @property
    def shown(self) -> str:
        return f"{'https' if self.is_secure else 'http'}://{self.host}:{self.port}{self.target.partition('?')[0]}"

    def connection(self, options: UploadOptions) -> http.client.HTTPConnection:
        if not self.is_secure:
            return http.client.HTTPConnection(self.host, self.port, timeout=options.timeout_s)
        context = options.tls or ssl.create_default_context()
        return http.client.HTTPSConnection(self.host, self.port, timeout=options.timeout_s, context=context)


def _place(url: str, name: str) -> _Place:
    try:
        parts = urlsplit(url)
        scheme, host, port = parts.scheme, parts.hostname, parts.port
    except ValueError as error:
        raise Permanent(FailureCode.COMMAND_INVALID, "upload: what should be a URL cannot be read as one") from error
    if scheme not in {"http", "https"} or not host or not host.isascii() or port == 0 or not url.isprintable():
        raise Permanent(FailureCode.COMMAND_INVALID, "upload: only http and https URLs with a host are allowed")
    target = f"{quote(parts.path, safe=_SAFE).rstrip('/')}/{quote(name, safe='')}"
    if parts.query:
        target = f"{target}?{quote(parts.query, safe=_SAFE + '?')}"
    authorization = None
    if parts.username is not None:
        pair = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
        authorization = "Basic " + base64.b64encode(pair.encode()).decode()
    is_secure = scheme == "https"
    media_type = _TYPES.get(os.path.splitext(name)[1], "application/octet-stream")  # noqa: PTH122  a name, no path
    return _Place(is_secure, host, port or (443 if is_secure else 80), target, media_type, authorization)


def _exchange(connection: http.client.HTTPConnection, place: _Place, content: bytes) -> int:
    connection.putrequest("PUT", place.target, skip_accept_encoding=True)
    headers = {"Content-Type": place.media_type, "Content-Length": str(len(content)), "User-Agent": "rkfleet"}
    if place.authorization is not None:
        headers["Authorization"] = place.authorization
    for name, value in {**headers, "Connection": "close"}.items():
        connection.putheader(name, value)
    connection.endheaders()
    view = memoryview(content)
    try:
        for start in range(0, len(view), _BLOCK_BYTES):
            connection.send(view[start : start + _BLOCK_BYTES])
    except (BrokenPipeError, ConnectionResetError):
        # A server that refuses need not read the rest; its answer says why.
        return connection.getresponse().status
    return connection.getresponse().status


def _judge(status: int, place: _Place) -> None:
    if 200 <= status < 300:
        return
    if status in _PASSING or status >= 500:
        raise _Passing(f"answers {status}")
    text = f"{place.shown}: answers {status}"
    if status in {401, 403}:
        raise Permanent(FailureCode.NOT_AUTHORIZED, text)
    raise Permanent(FailureCode.UPLOAD_FAILED, text)


@contextmanager
def _guard(connection: socket.socket, ends_s: float, stop: threading.Event) -> Iterator[None]:
    """Cut the connection from aside when `stop` is set or the time is over, whatever its user is blocked in."""
    over = threading.Event()
    # A second handle: the first may be wrapped by TLS, which two threads must not touch.
    handle = socket.socket(fileno=os.dup(connection.fileno()))

    def watch() -> None:
        while not over.wait(_POLL_S):
            if stop.is_set() or time.monotonic() >= ends_s:
                try:
                    handle.shutdown(socket.SHUT_RDWR)
                except OSError:
                    return  # the other side was quicker
                return

    thread = threading.Thread(target=watch, name="upload-guard", daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()
        handle.close()


def _canceled() -> AgentError:
    return Retryable(FailureCode.CANCELED, "the upload was stopped; what was not sent is kept", delay_s=0.0)


def _said(error: Exception) -> str:
    """Without what the server sent: it may be long, and it is hostile."""
    if isinstance(error, TimeoutError):
        return "nothing came in time"
    if isinstance(error, OSError):
        return error.strerror or type(error).__name__
    return f"no proper HTTP ({type(error).__name__})"
