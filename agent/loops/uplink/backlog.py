"""Reads unsent rows in chunks, so that memory does not grow with their number."""

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime

from agent.core.outgoing import Kind, Outgoing, Spooled
from agent.ports import Spool


@dataclass(frozen=True, slots=True)
class _Cursor:
    """Rows up to `row` are read; `more` tells whether there may be others."""

    row: int = 0
    more: bool = True


class Backlog:
    """Owned by the uplink's thread. New rows come first and in order; what became unsent again behind them comes when
    there are none, so that a long replay does not hold them up. Rows that `is_out` names are left out.
    """

    def __init__(self, spool: Spool, chunk_rows: int, is_out: Callable[[int], bool]) -> None:
        self._spool = spool
        self._chunk_rows = chunk_rows
        self._is_out = is_out
        self._new = _Cursor()
        self._old = _Cursor(more=False)
        self._new_rows: deque[Spooled] = deque()
        self._old_rows: deque[Spooled] = deque()

    def grown(self) -> None:
        """Rows were appended."""
        self._new = _Cursor(self._new.row)

    def reread(self) -> None:
        """Rows behind the newest may be unsent again."""
        self._old = _Cursor()
        self._old_rows.clear()

    def restart(self) -> None:
        """Nothing is out any more: read all again, in order."""
        self._new = _Cursor()
        self._old = _Cursor(more=False)
        self._new_rows.clear()
        self._old_rows.clear()

    @property
    def has_new(self) -> bool:
        """Whether there may be rows that were never sent."""
        return bool(self._new_rows) or self._new.more

    def put_back(self, spooled: Spooled) -> None:
        """It was taken and could not be sent."""
        self._new_rows.appendleft(spooled)

    def read_ahead(self, rows: int) -> None:
        """Read the next chunk when fewer new rows than this are at hand."""
        if self._new.more and len(self._new_rows) < rows:
            self._new = self._read(self._new, self._new_rows)

    def take(self) -> Spooled | None:
        while not self._new_rows and self._new.more:
            self._new = self._read(self._new, self._new_rows)
        if self._new_rows:
            return self._new_rows.popleft()
        while self._old_rows or self._old.more:
            if not self._old_rows:
                self._old = self._read(self._old, self._old_rows, self._new.row)
            elif not self._is_out(self._old_rows[0].row):
                return self._old_rows.popleft()
            else:
                self._old_rows.popleft()
        return None

    def _read(self, cursor: _Cursor, into: deque[Spooled], last_row: int | None = None) -> _Cursor:
        found = self._spool.pending(cursor.row, self._chunk_rows)
        wanted = [spooled for spooled in found if last_row is None or spooled.row <= last_row]
        into.extend(spooled for spooled in wanted if not self._is_out(spooled.row))
        return _Cursor(found[-1].row if found else cursor.row, len(wanted) == self._chunk_rows)


def due_now(spooled: Spooled, now: datetime) -> Outgoing | None:
    """What goes on the wire: with the expiry that is left, at least 1 s; None for telemetry that has none left."""
    message = spooled.message
    if spooled.kind is Kind.TELEMETRY:
        message = replace(message, qos=0)
    if message.expiry_s is None:
        return message
    left_s = message.expiry_s - max(0, int((now - spooled.created_at).total_seconds()))
    if left_s <= 0 and spooled.kind is Kind.TELEMETRY:
        return None
    return replace(message, expiry_s=max(1, left_s))
