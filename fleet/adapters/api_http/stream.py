"""Lines and server-sent events out of a body that has no end. Source: WHATWG HTML, "Server-sent events"."""

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

from fleet.errors import ErrorCode, Permanent

MOST_LINE_BYTES = 32 << 20
"""A rollout of 10,000 boards is some 4 MB."""


@dataclass(frozen=True, slots=True)
class Live:
    """One event; `id` is the place to go on from."""

    kind: str
    data: Any
    id: str


@dataclass(slots=True)
class Reader:
    """Owned by one thread. `last_id`, `retry_s` and the lines `heard` outlive a connection, what is half read
    does not.
    """

    last_id: str = ""
    retry_s: float = 0.5
    heard: int = 0
    _kind: str = ""
    _data: list[str] = field(default_factory=list)
    _size: int = 0

    def restart(self) -> None:
        self._kind, self._data, self._size = "", [], 0

    def line(self, raw: bytes) -> Live | None:
        """The event that this line ends, if it ends one. Raises Permanent for data that are no JSON."""
        text = raw.decode("utf-8", "replace")
        if not text:
            return self._end()
        name, _, value = text.partition(":")
        value = value.removeprefix(" ")
        if name == "data":
            self._size += len(value)
            if self._size > MOST_LINE_BYTES:
                raise _too_long()
            self._data.append(value)
        elif name == "event":
            self._kind = value
        elif name == "id" and "\0" not in value:
            self.last_id = value
        elif name == "retry" and value.isascii() and value.isdigit():
            self.retry_s = min(int(value[:6]) / 1000.0, 10.0)
        return None

    def _end(self) -> Live | None:
        kind, text = self._kind or "message", "\n".join(self._data)
        self.restart()
        return Live(kind, parsed(text), self.last_id) if text else None


def parsed(text: str | bytes) -> Any:
    """JSON; raises Permanent for anything else."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        raise Permanent(ErrorCode.INVALID, "the answer is no JSON: is that an rkfleet server?") from None


def lines(chunks: Iterable[bytes]) -> Iterator[bytes]:
    """Split at LF and CR LF alone: other breaks, which may stand inside of JSON, are none here. What follows the last
    break is a line too. Raises Permanent for one without end.
    """
    rest: list[bytes] = []
    size = 0
    for chunk in chunks:
        *whole, last = chunk.split(b"\n")
        for each in whole:
            yield b"".join([*rest, each]).removesuffix(b"\r")
            rest, size = [], 0
        rest.append(last)
        size += len(last)
        if size > MOST_LINE_BYTES:
            raise _too_long()
    if size:
        yield b"".join(rest)


def _too_long() -> Permanent:
    return Permanent(ErrorCode.INVALID, f"the server sent a line of more than {MOST_LINE_BYTES >> 20} MB")
