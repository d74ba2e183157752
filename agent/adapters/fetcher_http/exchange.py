"""One GET, redirects followed, as a stream of checked reads."""

import email.utils
import http.client
import ssl
import threading
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager

from agent.adapters.fetcher_http.line import Guard, dial
from agent.adapters.fetcher_http.options import PASSING_DELAY_S, FetchOptions, Gone, Passing
from agent.adapters.fetcher_http.place import Place

_REDIRECTS = frozenset({301, 302, 303, 307, 308})
_ASK_AGAIN = frozenset({408, 421, 425, 429})


class Reply:
    """An answer 200, 206 or 416. `length` is what its header announces of the body, None without one."""

    def __init__(self, response: http.client.HTTPResponse, guard: Guard, place: Place) -> None:
        self.status = response.status
        self.length: int | None = response.length
        self.chunked = bool(response.chunked)
        self.place = place
        self._response = response
        self._guard = guard

    def header(self, name: str) -> str:
        return self._response.getheader(name) or ""

    def read(self, most_bytes: int) -> bytes:
        """What has come, at least one byte; nothing at the end. Errors: Passing, Retryable(CANCELED)."""
        try:
            chunk = self._response.read1(most_bytes)
        except (OSError, ValueError, http.client.HTTPException) as error:
            self._guard.check()
            raise Passing(f"{self.place.shown}: {_said(error)}") from error
        self._guard.received += len(chunk)
        self._guard.check()
        return chunk


@contextmanager
def get(place: Place, headers: Mapping[str, str], options: FetchOptions, stop: threading.Event) -> Iterator[Reply]:
    """Ask, and follow redirects; the connection is closed at the end.

    Errors: Passing, Gone, Retryable(CANCELED).
    """
    for _ in range(options.max_redirects + 1):
        with ExitStack() as stack:
            reply = _ask(stack, place, headers, options, stop)
            if reply.status not in _REDIRECTS:
                _refuse_status(reply, options)
                yield reply
                return
            place = place.moved(reply.header("Location"))
    raise Gone(f"more than {options.max_redirects} redirects, the last to {place.shown}")


def _ask(
    stack: ExitStack, place: Place, headers: Mapping[str, str], options: FetchOptions, stop: threading.Event
) -> Reply:
    connected = stack.enter_context(dial(place.host, place.port, options, stop))
    try:
        guard = stack.enter_context(Guard(connected, options, stop))
    except OSError as error:
        raise Passing(f"{place.shown}: {_said(error)}") from error
    try:
        if place.scheme == "https":
            context = options.tls or ssl.create_default_context()
            connected = stack.enter_context(context.wrap_socket(connected, server_hostname=place.host))
        connection = http.client.HTTPConnection(place.host, place.port)
        connection.sock = connected
        connection.auto_open = 0  # a second connection would have no guard
        connection.request("GET", place.target, headers=_headers(place, headers))
        response = connection.getresponse()
        stack.callback(response.close)
    except (OSError, ValueError, http.client.HTTPException) as error:
        guard.check()
        raise Passing(f"{place.shown}: {_said(error)}") from error
    guard.check()
    return Reply(response, guard, place)


def _headers(place: Place, headers: Mapping[str, str]) -> dict[str, str]:
    # A compressed body would have another size and another digest.
    full = {"Host": place.netloc, "Accept-Encoding": "identity", "User-Agent": "rkfleet", "Connection": "close"}
    if place.authorization is not None:
        full["Authorization"] = place.authorization
    return full | dict(headers)


def _refuse_status(reply: Reply, options: FetchOptions) -> None:
    status, shown = reply.status, reply.place.shown
    if status in {200, 206}:
        if (coding := reply.header("Content-Encoding").strip().lower()) not in {"", "identity"}:
            raise Gone(f"{shown}: sends the file encoded as {coding[:40]!r}")
        return
    if status == 416:
        return
    if status in _ASK_AGAIN or status >= 500:
        raise Passing(f"{shown}: answers {status}", _retry_after_s(reply, options.max_retry_after_s))
    if status >= 400:
        raise Gone(f"{shown}: answers {status}")
    raise Passing(f"{shown}: answers {status} to a plain GET")


def _retry_after_s(reply: Reply, most_s: float) -> float:
    """Seconds, or a date: read against the server's own, for the clock of a board may be wrong."""
    said = reply.header("Retry-After").strip()
    if said.isascii() and said.isdigit():
        return min(float(said[:9]), most_s)
    try:
        then = email.utils.parsedate_to_datetime(said)
        now = email.utils.parsedate_to_datetime(reply.header("Date"))
        return min(max((then - now).total_seconds(), PASSING_DELAY_S), most_s)
    except (TypeError, ValueError):
        return PASSING_DELAY_S


def _said(error: Exception) -> str:
    """Without what the server sent: it may be long, and it is hostile."""
    if isinstance(error, TimeoutError):
        return "nothing came in time"
    if isinstance(error, OSError):
        return error.strerror or type(error).__name__
    if isinstance(error, http.client.RemoteDisconnected):
        return "closed without an answer"
    return f"no proper HTTP ({type(error).__name__})"
