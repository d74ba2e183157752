"""The port `Spool` on SQLite."""

import json
import logging
import sqlite3
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from agent.adapters.spool_sqlite import rows as sql
from agent.adapters.spool_sqlite.rows import KIND, RANK, ROW_BYTES, Rank, Sized, SpoolLimits, Totals
from agent.core.outgoing import Kind, Outgoing, Place, Spooled
from agent.errors import Retryable
from agent.ports import SpoolDepth
from agent.sqlite_file import SqliteFile
from schemas.codes import FailureCode

_log = logging.getLogger(__name__)

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)
_BATCH = 256
_SCAN = 2000
_SPARE_BYTES = 2**20


class SqliteSpool:
    """See the port. `clock` gives UTC; rows grow without reuse for as long as the process lives.

    Dead letters that are results are kept like unsent ones until they are replayed. Age never removes a result that
    was not sent, so no jump of the clock does.
    A file that cannot be read is moved aside, see `corrupt_file`: found at the opening, the spool begins empty; found
    at work, the call at hand raises Permanent(SPOOL_CORRUPT) and the next one works on a new file.
    Errors of the constructor: Permanent(CONFIG_INVALID) where no file can be made, Retryable(INTERNAL) while another
    process has it, Retryable(DISK_FULL).
    """

    def __init__(self, path: Path, limits: SpoolLimits, clock: Callable[[], datetime]) -> None:
        self._limits = limits
        self._clock = clock
        self._lock = threading.Lock()
        self._next_row = 1
        self._totals = Totals()
        # Twice: a page that holds rows of more than half its size is half empty.
        self._file = SqliteFile(path, sql.SCHEMA, 2 * limits.max_bytes + _SPARE_BYTES, clock, self._load)
        with self._lock:
            self._file.open()

    @property
    def corrupt_file(self) -> Path | None:
        """Where the last unreadable file was put; its owner raises the alarm SPOOL_CORRUPT."""
        return self._file.corrupt_file

    def append(self, kind: Kind, message: Outgoing, place: Place | None = None) -> int:
        size_bytes = ROW_BYTES + len(message.payload) + len(message.topic.encode()) + len(message.correlation or b"")
        rank = RANK[kind]
        created_us = self._now_us()
        expires_us = None
        if kind is Kind.TELEMETRY and message.expiry_s is not None:
            expires_us = created_us + message.expiry_s * 1_000_000
        where = (place.boot_id, place.sequence_number) if place else (None, None)
        with self._transaction() as (db, totals):
            self._make_room(db, totals, rank, size_bytes)
            row = self._next_row
            head = (row, rank, size_bytes, created_us, expires_us, *where, message.topic, message.qos, message.retain)
            db.execute(
                sql.INSERT, (*head, message.expiry_s, message.content_type, message.correlation, message.payload)
            )
            totals.count(rank, 1, size_bytes)
            self._next_row += 1
        return row

    def pending(self, after_row: int, limit: int) -> Sequence[Spooled]:
        with self._transaction() as (db, _):
            return [_spooled(found) for found in db.execute(sql.PENDING, (after_row, self._now_us(), limit))]

    def sent(self, rows: Iterable[int]) -> None:
        """See the port. One transaction for all; only results stay, as history.

        It does not wait for the disk: after a power cut the newest of these are sent again.
        """
        wanted = json.dumps(list(rows))
        with self._transaction(durable=False) as (db, totals):
            # A dead letter counts as sent too: its acknowledgement came late, after a resend that was refused.
            found = [*db.execute(sql.WAITING_OF, (wanted,)), *db.execute(sql.SETTLED_OF, (wanted,))]
            fresh = [each for each in found if each[1] != Rank.HISTORY or each[2]]
            db.execute(sql.UNSETTLE, (_rows(each for each in fresh if not each[2]),))
            db.execute(sql.DELETE_SETTLED, (_rows(each for each in fresh if not each[2]),))
            db.execute(sql.SETTLE_SENT, (_rows(each for each in fresh if KIND[each[1]] is Kind.RESULT),))
            db.execute(sql.DELETE_WAITING, (_rows(fresh),))
            for _, rank, waits, size_bytes in fresh:
                totals.count(rank, waits, -size_bytes, -1)
                if KIND[rank] is Kind.RESULT:
                    totals.count(Rank.HISTORY, 0, size_bytes)

    def refused(self, row: int, reason: str) -> None:
        wanted = json.dumps([row])
        with self._transaction() as (db, totals):
            found = db.execute(sql.WAITING_OF, (wanted,)).fetchall()
            # A replayed result that is refused was sent once: it goes back to the history.
            db.execute(sql.SETTLE_DEAD, (reason, wanted))
            db.execute(sql.DELETE_WAITING, (wanted,))
            for _, rank, _, size_bytes in found:
                totals.count(rank, 1, -size_bytes, -1)
                totals.count(rank, 0, size_bytes)

    def replay(self, boot_id: str, first: int, last: int) -> Sequence[int]:
        """See the port. Dead letters come to life again.

        What still waits gets a new row: the broker may have it already, with the mark still to come, and whoever asks
        for a replay was perhaps not there to see it. A mark of the old row then marks nothing.
        """
        waiting = list(self._waiting_places(boot_id, first, last))
        with self._transaction() as (db, totals):
            for row, _ in waiting:
                db.execute(sql.RENUMBER, (self._next_row, row))
                self._next_row += 1
            places = db.execute(sql.SETTLED_RANGE, (boot_id, first, last)).fetchall()
            wanted = json.dumps([row for row, _ in places])
            for _, rank, waits, size_bytes in db.execute(sql.SETTLED_OF, (wanted,)).fetchall():
                totals.count(rank, waits, -size_bytes, -1)
                totals.count(rank, 1, size_bytes)
            db.execute(sql.UNSETTLE, (wanted,))
            db.execute(sql.DELETE_SETTLED, (wanted,))
        return sorted({sequence for _, sequence in (*waiting, *places)})

    def depth(self) -> SpoolDepth:
        with self._transaction() as (db, totals):
            oldest = db.execute(sql.OLDEST).fetchone()
        return SpoolDepth(
            pending=totals.pending,
            pending_results=totals.pending_results,
            used_bytes=totals.used_bytes,
            oldest_s=max(0.0, (self._now_us() - oldest[0]) / 1e6) if oldest else 0.0,
            dropped_telemetry=totals.dropped_telemetry,
            dead=totals.dead,
        )

    def prune(self) -> None:
        """See the port. Works in short transactions, so that an append never waits for long."""
        now_us = self._now_us()
        cutoff_us = now_us - round(self._limits.max_age_s * 1e6)
        for query, moment_us in ((sql.EXPIRED, now_us), (sql.AGED, cutoff_us)):
            while True:
                with self._transaction() as (db, totals):
                    found = db.execute(query, (moment_us, _BATCH)).fetchall()
                    _drop(db, totals, found)
                if len(found) < _BATCH:
                    break
        with self._transaction() as (db, totals):
            self._free(db, totals, range(Rank.KEEP), totals.used_bytes - self._limits.max_bytes)

    def close(self) -> None:
        with self._lock:
            self._file.close()

    def _make_room(self, db: sqlite3.Connection, totals: Totals, rank: Rank, size_bytes: int) -> None:
        """Drop what is worth no more than the new row; SPOOL_FULL when that would not do, and nothing is dropped."""
        highest = min(rank, Rank.EVENT)
        share_bytes = int(self._limits.telemetry_share * self._limits.max_bytes)
        lasting_bytes = sum(taken for each, taken in totals.bytes_by_rank.items() if each > highest)
        if lasting_bytes + size_bytes > self._limits.max_bytes or (rank is Rank.TELEMETRY and size_bytes > share_bytes):
            text = f"{totals.pending_results} results wait, {totals.dead} dead letters: no room for {size_bytes} bytes"
            raise Retryable(FailureCode.SPOOL_FULL, text)
        if rank is Rank.TELEMETRY:
            self._free(db, totals, (rank,), totals.bytes_by_rank[rank] + size_bytes - share_bytes)
        self._free(db, totals, range(highest + 1), totals.used_bytes + size_bytes - self._limits.max_bytes)

    def _free(self, db: sqlite3.Connection, totals: Totals, ranks: Iterable[int], over_bytes: int) -> None:
        """Drop `over_bytes` in the order of the ranks; of the history somewhat more, so that it goes in batches."""
        for rank in ranks:
            more_bytes = self._limits.max_bytes // 256 if rank == Rank.HISTORY and over_bytes > 0 else 0
            while over_bytes > 0:
                chosen: list[Sized] = []
                for found in db.execute(sql.SPARE, (rank, _BATCH)).fetchall():
                    if over_bytes + more_bytes <= 0:
                        break
                    chosen.append(found)
                    over_bytes -= found[3]
                if not chosen:
                    break
                _drop(db, totals, chosen)

    def _waiting_places(self, boot_id: str, first: int, last: int) -> Iterator[tuple[int, int]]:
        """In short transactions: what waits may be much, and has no index by place."""
        after_row = 0
        while True:
            with self._transaction() as (db, _):
                found = db.execute(sql.WAITING_PLACES, (after_row, _SCAN)).fetchall()
            yield from ((row, number) for row, boot, number in found if boot == boot_id and first <= number <= last)
            if len(found) < _SCAN:
                return
            after_row = found[-1][0]

    @contextmanager
    def _transaction(self, *, durable: bool = True) -> Iterator[tuple[sqlite3.Connection, Totals]]:
        with self._lock:
            with self._file.transaction(durable=durable) as db:
                totals = self._totals.copy()
                yield db, totals
            self._totals = totals

    def _load(self, db: sqlite3.Connection) -> None:
        totals = Totals(dropped_telemetry=self._totals.dropped_telemetry)
        for rank, waits, rows, size_bytes in db.execute(sql.TOTALS):
            totals.count(rank, waits, size_bytes, rows)
        (last_row,) = db.execute(sql.LAST_ROW).fetchone()
        self._next_row = max(self._next_row, last_row + 1)
        self._totals = totals

    def _now_us(self) -> int:
        return (self._clock() - _EPOCH) // _MICROSECOND


def _drop(db: sqlite3.Connection, totals: Totals, found: Sequence[Sized]) -> None:
    db.execute(sql.DELETE_SETTLED, (_rows(found),))
    db.execute(sql.DELETE_WAITING, (_rows(found),))
    for _, rank, waits, size_bytes in found:
        totals.count(rank, waits, -size_bytes, -1)
    totals.dropped_telemetry += sum(rank == Rank.TELEMETRY for _, rank, _, _ in found)
    events = sum(rank == Rank.EVENT for _, rank, _, _ in found)
    if events:
        _log.warning("%d events were dropped: the spool's bounds are reached", events)


def _rows(found: Iterable[Sized]) -> str:
    return json.dumps([row for row, *_ in found])


def _spooled(found: tuple[Any, ...]) -> Spooled:
    row, rank, created_us, topic, payload, qos, retain, expiry_s, content_type, correlation = found
    message = Outgoing(topic, payload, qos, bool(retain), expiry_s, content_type, correlation)
    return Spooled(row, KIND[rank], message, _EPOCH + created_us * _MICROSECOND)
