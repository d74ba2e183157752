"""Results and counts of them."""

from datetime import UTC, datetime
from typing import Self

from pydantic_core import from_json, to_json

from fleet.ports import Share, StoredResult
from schemas.base import Wire
from schemas.result import Result

_TIMES = frozenset({"hour", "day"})


class ResultRow(Wire):
    """`row` grows with arrival."""

    row: int
    result: Result


class ResultPage(Wire):
    """`next` is `afterRow` of the next page; null where nothing follows yet, and for the newest first."""

    results: list[ResultRow]
    next: int | None


class ShareView(Wire):
    """`key` is empty for results without one. Of hours and days it is the time at which they begin."""

    key: str
    results: int
    ok: int
    not_ok: int
    undecidable: int
    faults: int
    defects: int

    @classmethod
    def of(cls, share: Share, by: str) -> Self:
        return cls(
            key=_began(share.key) if by in _TIMES else share.key,
            results=share.results,
            ok=share.ok,
            not_ok=share.not_ok,
            undecidable=share.undecidable,
            faults=share.faults,
            defects=share.defects,
        )


class Shares(Wire):
    """The greatest first."""

    shares: list[ShareView]


def _began(key: str) -> str:
    return datetime.fromtimestamp(int(key) / 1000, UTC).isoformat(timespec="seconds").replace("+00:00", "Z")


def document(stored: StoredResult) -> bytes:
    """In one line, with fields that are newer than this server. What JSON does not know (NaN) is null."""
    return to_json(from_json(stored.document), inf_nan_mode="null")


def row(stored: StoredResult) -> bytes:
    """A ResultRow."""
    return b'{"row":%d,"result":%b}' % (stored.row, document(stored))


def page(found: list[StoredResult], next_row: int | None) -> bytes:
    """A ResultPage: not taken apart and put together again, result by result."""
    rest = b"null" if next_row is None else b"%d" % next_row
    return b'{"results":[%b],"next":%b}' % (b",".join(map(row, found)), rest)
