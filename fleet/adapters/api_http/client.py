"""Requests to the server: bounded in time and size; what only reads is tried again, what changes something is not."""

import json
import ssl
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import version
from typing import Any, Self
from urllib.parse import quote, urlsplit

import httpx

from fleet.adapters.api_http.problem import rejection, unreachable
from fleet.adapters.api_http.stream import Live, Reader, lines, parsed
from fleet.errors import ErrorCode, FleetError, Permanent, Retryable

BASE = "/api/v1"
_ALIVE_S = 2.0
"""A live stream that held for less has failed like one that never began."""
Param = str | int | bool | None


@dataclass(frozen=True, slots=True)
class ApiLimits:
    """`tries` are of what only reads; `live_tries` in a row, without a sign of life in between."""

    connect_s: float = 5.0
    read_s: float = 60.0
    silence_s: float = 45.0
    """Of a live stream, which has a heartbeat every few seconds."""
    tries: int = 3
    live_tries: int = 8
    most_delay_s: float = 5.0
    most_bytes: int = 256 << 20


def path(*parts: str) -> str:
    """`/a/b` of parts that may hold anything; raises Permanent for what would lead elsewhere."""
    if bad := [part for part in parts if part in {"", ".", ".."}]:
        raise Permanent(ErrorCode.INVALID, f"{bad[0]!r} is no name")
    return "".join(f"/{quote(part, safe='')}" for part in parts)


class ApiHttp:
    """One server. Errors: Rejected (it said no), Retryable (away, busy, broken off), Permanent (no such server).

    Redirects are not followed: the token is for this address alone.
    """

    def __init__(
        self,
        server: str,
        token: str = "",
        limits: ApiLimits | None = None,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self.server = _checked(server)
        self._limits = limits or ApiLimits()
        self._sleep = sleep
        headers = {"User-Agent": f"rkfleet/{version('rkfleet')}", "Accept": "application/json"}
        if token:
            headers["Authorization"] = f"Bearer {token}"
        timeout = httpx.Timeout(self._limits.read_s, connect=self._limits.connect_s)
        # Where nothing is encrypted, reading all authorities of the system would be half the time of a command.
        verify = True if self.server.startswith("https:") else ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        self._http = httpx.Client(base_url=self.server + BASE, headers=headers, timeout=timeout, verify=verify)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._http.close()

    def get(self, target: str, params: Mapping[str, Param] | None = None) -> Any:
        """Tried again where the server is away or busy."""
        for number in range(self._limits.tries):
            try:
                return self._once("GET", target, params=_given(params))
            except Retryable as error:
                if number + 1 == self._limits.tries:
                    raise
                self._wait(number, error.delay_s)
        raise AssertionError("no try at all")

    def send(self, method: str, target: str, body: Any = None, params: Mapping[str, Param] | None = None) -> Any:
        """Once: whoever asks for a change twice may get it twice. None where the answer has no body."""
        return self._once(method, target, params=_given(params), json=body)

    def post_text(self, target: str, text: bytes, media_type: str, params: Mapping[str, Param] | None = None) -> Any:
        headers = {"Content-Type": media_type}
        return self._once("POST", target, params=_given(params), content=text, headers=headers)

    def each(self, target: str, params: Mapping[str, Param] | None = None) -> Iterator[Any]:
        """Documents of a body of JSON lines, as they come. A body that breaks off raises Retryable: what came is part
        of the whole.
        """
        with self._open("GET", target, params=_given(params)) as answer:
            for line in lines(answer.iter_bytes()):
                if line:
                    yield parsed(line)

    def live(self, kinds: Sequence[str], last_id: str = "") -> Iterator[Live | None]:
        """Events as they happen, for ever; None with each heartbeat. After the first one nothing is missed: that is the
        time to read the whole. Results go on after `last_id`.
        """
        reader, failed = Reader(last_id), 0
        while True:
            began, heard = time.monotonic(), reader.heard
            try:
                yield from self._listen(kinds, reader)
                error: FleetError = Retryable(
                    ErrorCode.UNAVAILABLE, f"{self.server} ends its live view again and again"
                )
            except Retryable as caught:
                error = caught
            was_alive = reader.heard > heard and time.monotonic() - began > _ALIVE_S
            failed = 0 if was_alive else failed + 1
            if failed >= self._limits.live_tries:
                raise error
            reader.restart()
            self._wait(failed, reader.retry_s)

    def _listen(self, kinds: Sequence[str], reader: Reader) -> Iterator[Live | None]:
        headers = {"Accept": "text/event-stream", **({"Last-Event-ID": reader.last_id} if reader.last_id else {})}
        timeout = httpx.Timeout(self._limits.silence_s, connect=self._limits.connect_s)
        with self._open("GET", "/live", params={"kinds": ",".join(kinds)}, headers=headers, timeout=timeout) as answer:
            for line in lines(answer.iter_bytes()):
                reader.heard += 1
                if line.startswith(b":"):
                    yield None
                elif (event := reader.line(line)) is not None:
                    yield event

    def _once(self, method: str, target: str, **how: Any) -> Any:
        with self._open(method, target, **how) as answer:
            body = self._read(answer)
            return parsed(body) if body else None

    @contextmanager
    def _open(self, method: str, target: str, **how: Any) -> Iterator[httpx.Response]:
        try:
            with self._http.stream(method, target, **how) as answer:
                if answer.status_code >= 300:
                    raise rejection(answer.status_code, answer.headers, self._read(answer))
                yield answer
        except httpx.TransportError as error:
            raise unreachable(self.server, error) from None
        except httpx.DecodingError as error:
            raise Permanent(ErrorCode.INVALID, f"the answer of {self.server} cannot be unpacked: {error}") from None

    def _read(self, answer: httpx.Response) -> bytes:
        parts, size = [], 0
        for chunk in answer.iter_bytes():
            parts.append(chunk)
            size += len(chunk)
            if size > self._limits.most_bytes:
                raise Permanent(ErrorCode.INVALID, f"the answer has more than {self._limits.most_bytes >> 20} MB")
        return b"".join(parts)

    def _wait(self, number: int, least_s: float) -> None:
        self._sleep(min(max(least_s, 0.25 * 2**number), self._limits.most_delay_s))


def _given(params: Mapping[str, Param] | None) -> dict[str, str]:
    said = {name: value for name, value in (params or {}).items() if value is not None}
    return {name: json.dumps(value) if isinstance(value, bool) else str(value) for name, value in said.items()}


def _checked(server: str) -> str:
    """Without a slash at the end. Raises Permanent for what is no address, or one that holds a password."""
    try:
        parts = urlsplit(server)
        port = parts.port
    except ValueError as error:
        raise Permanent(ErrorCode.INVALID, f"{server} is no address of a server: {error}") from None
    if parts.scheme not in {"http", "https"} or not parts.hostname or port == 0 or parts.query or parts.fragment:
        raise Permanent(ErrorCode.INVALID, f"{server} is no address of a server, like https://fleet.example:8870")
    if parts.username or parts.password:
        raise Permanent(ErrorCode.INVALID, "no name or password in the server's address: use `rkfleet login`")
    return server.rstrip("/")
