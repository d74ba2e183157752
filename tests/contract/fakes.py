"""Ports in memory, for tests of the loops. `MemorySpool` passes the contract suite of the spool."""

import threading
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from agent.core.outgoing import Incoming, Kind, Outgoing, Place, Spooled
from agent.errors import AgentError
from agent.ports import LinkEvent, SpoolDepth


@dataclass
class _Row:
    spooled: Spooled
    place: Place | None
    state: str = "unsent"
    was_sent: bool = False


class MemorySpool:
    """Without bounds. `failure`, when it is set, is raised by every call but `depth`."""

    def __init__(self, clock: Callable[[], datetime]) -> None:
        self.failure: AgentError | None = None
        self.pending_calls = 0
        self.sent_calls: list[list[int]] = []
        self.reasons: dict[int, str] = {}
        self._clock = clock
        self._rows: dict[int, _Row] = {}
        self._last_row = 0
        self._lock = threading.Lock()

    def append(self, kind: Kind, message: Outgoing, place: Place | None = None) -> int:
        self._fail()
        with self._lock:
            self._last_row += 1
            self._rows[self._last_row] = _Row(Spooled(self._last_row, kind, message, self._clock()), place)
            return self._last_row

    def pending(self, after_row: int, limit: int) -> Sequence[Spooled]:
        self._fail()
        self.pending_calls += 1
        found = [row.spooled for row in self._rows.values() if row.state == "unsent" and row.spooled.row > after_row]
        return sorted((each for each in found if not self._has_expired(each)), key=lambda each: each.row)[:limit]

    def sent(self, rows: Iterable[int]) -> None:
        self._fail()
        self.sent_calls.append(list(rows))
        for row in self.sent_calls[-1]:
            found = self._rows.get(row)
            if found and found.spooled.kind is Kind.RESULT:
                self._rows[row] = replace(found, state="sent", was_sent=True)
            elif found:
                del self._rows[row]

    def refused(self, row: int, reason: str) -> None:
        self._fail()
        found = self._rows.get(row)
        if found and found.state == "unsent":
            found.state = "sent" if found.was_sent else "dead"
            self.reasons[row] = reason

    def replay(self, boot_id: str, first: int, last: int) -> Sequence[int]:
        self._fail()
        found = []
        for row in sorted(self._rows):
            place = self._rows[row].place
            if place and place.boot_id == boot_id and first <= place.sequence_number <= last:
                if self._rows[row].state == "unsent":
                    self._renumber(row)
                else:
                    self._rows[row].state = "unsent"
                found.append(place.sequence_number)
        return sorted(set(found))

    def _renumber(self, row: int) -> None:
        moved = self._rows.pop(row)
        self._last_row += 1
        self._rows[self._last_row] = replace(moved, spooled=replace(moved.spooled, row=self._last_row))

    def depth(self) -> SpoolDepth:
        unsent = [row.spooled for row in self._rows.values() if row.state == "unsent"]
        return SpoolDepth(
            pending=len(unsent),
            pending_results=sum(each.kind is Kind.RESULT for each in unsent),
            used_bytes=sum(len(row.spooled.message.payload) for row in self._rows.values()),
            oldest_s=max((max(0.0, (self._clock() - each.created_at).total_seconds()) for each in unsent), default=0.0),
            dropped_telemetry=0,
            dead=sum(row.state == "dead" for row in self._rows.values()),
        )

    def prune(self) -> None:
        self._fail()
        self._rows = {
            row: found
            for row, found in self._rows.items()
            if found.state != "unsent" or not self._has_expired(found.spooled)
        }

    def close(self) -> None:
        """Nothing to free."""

    def _has_expired(self, spooled: Spooled) -> bool:
        expiry_s = spooled.message.expiry_s
        age_s = (self._clock() - spooled.created_at).total_seconds()
        return spooled.kind is Kind.TELEMETRY and expiry_s is not None and age_s >= expiry_s

    def _fail(self) -> None:
        if self.failure is not None:
            raise self.failure


class FakeLink:
    """Takes what it is given while `takes` is true; the test says what becomes of it."""

    def __init__(self) -> None:
        self.takes = True
        self.published: list[tuple[int, Outgoing]] = []

    def start(self, report: Callable[[LinkEvent], None], accept: Callable[[Incoming], None]) -> None:
        """Events are put in by the test."""

    def publish(self, message: Outgoing, token: int) -> bool:
        if self.takes:
            self.published.append((token, message))
        return self.takes

    def stop(self, goodbye: Outgoing | None, timeout_s: float) -> None:
        self.takes = False
