"""The inbox in one SQLite file: commands outlive the process, and a repeated one gets the reply it got before."""

import sqlite3
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from agent.core.outgoing import Accepted, Incoming
from agent.errors import Retryable
from agent.sqlite_file import SqliteFile
from schemas.codes import FailureCode

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)

_SCHEMA = """
CREATE TABLE IF NOT EXISTS waiting (
  row INTEGER PRIMARY KEY AUTOINCREMENT, topic TEXT NOT NULL, received_us INTEGER NOT NULL, retain INTEGER NOT NULL,
  response_topic TEXT, correlation BLOB, payload BLOB NOT NULL);
CREATE TABLE IF NOT EXISTS reply (
  turn INTEGER PRIMARY KEY AUTOINCREMENT, command_id TEXT NOT NULL UNIQUE, at_us INTEGER NOT NULL, reply BLOB NOT NULL);
CREATE TABLE IF NOT EXISTS session (only_row INTEGER PRIMARY KEY CHECK (only_row = 1), number INTEGER NOT NULL);
"""


@dataclass(frozen=True, slots=True)
class InboxLimits:
    """A command that comes again after its reply is forgotten is carried out again: commands are idempotent."""

    max_waiting: int = 1000
    max_replies: int = 1000
    max_reply_age_s: float = 86400.0


class SqliteInbox:
    """See the port. `clock` gives UTC.

    With `max_waiting` messages unfinished, `put` raises Retryable(DISK_FULL), and the broker keeps the rest.
    A file that cannot be read is moved aside, see `corrupt_file`; found at work, the call at hand raises
    Permanent(SPOOL_CORRUPT) and the next one works on a new file. A new file counts sessions from the seconds of the
    clock, so that the numbers grow over the loss of a file.
    Errors of the constructor: Permanent(CONFIG_INVALID) where no file can be made, Retryable(INTERNAL) while another
    process has it, Retryable(DISK_FULL).
    """

    def __init__(self, path: Path, limits: InboxLimits, clock: Callable[[], datetime]) -> None:
        self._limits = limits
        self._clock = clock
        self._lock = threading.Lock()
        self._file = SqliteFile(path, _SCHEMA, None, clock, _loaded)
        with self._lock:
            self._file.open()

    @property
    def corrupt_file(self) -> Path | None:
        """Where the last unreadable file was put; its owner raises the alarm SPOOL_CORRUPT."""
        return self._file.corrupt_file

    def put(self, message: Incoming) -> int:
        received_us = (message.received_at - _EPOCH) // _MICROSECOND
        with self._transaction() as db:
            (waiting,) = db.execute("SELECT COUNT(*) FROM waiting").fetchone()
            if waiting >= self._limits.max_waiting:
                raise Retryable(FailureCode.DISK_FULL, f"{waiting} messages wait to be worked off: the inbox is full")
            row = db.execute(
                "INSERT INTO waiting VALUES (NULL, ?, ?, ?, ?, ?, ?)",
                (
                    message.topic,
                    received_us,
                    message.retain,
                    message.response_topic,
                    message.correlation,
                    message.payload,
                ),
            ).lastrowid
        assert row is not None  # noqa: S101 -- an INSERT that did not raise has a row
        return row

    def waiting(self) -> Sequence[Accepted]:
        with self._transaction() as db:
            found = db.execute(
                "SELECT row, topic, payload, received_us, retain, response_topic, correlation FROM waiting ORDER BY row"
            ).fetchall()
        return [
            Accepted(row, Incoming(topic, payload, _EPOCH + us * _MICROSECOND, bool(retain), response_topic, data))
            for row, topic, payload, us, retain, response_topic, data in found
        ]

    def reply_to(self, command_id: str) -> bytes | None:
        with self._transaction() as db:
            found = db.execute(
                "SELECT reply FROM reply WHERE command_id = ? AND at_us >= ?", (command_id, self._forgotten_us())
            ).fetchone()
        return found[0] if found else None

    def finish(self, row: int, command_id: str | None = None, reply: bytes | None = None) -> None:
        with self._transaction() as db:
            db.execute("DELETE FROM waiting WHERE row = ?", (row,))
            if command_id is None or reply is None:
                return
            now_us = (self._clock() - _EPOCH) // _MICROSECOND
            db.execute("INSERT OR REPLACE INTO reply VALUES (NULL, ?, ?, ?)", (command_id, now_us, reply))
            db.execute(
                "DELETE FROM reply WHERE turn <= (SELECT MAX(turn) FROM reply) - ? OR at_us < ?",
                (self._limits.max_replies, self._forgotten_us()),
            )

    def next_session(self) -> int:
        first = max(1, int(self._clock().timestamp()))
        with self._transaction() as db:
            (number,) = db.execute(
                "INSERT INTO session VALUES (1, ?) ON CONFLICT DO UPDATE SET number = number + 1 RETURNING number",
                (first,),
            ).fetchone()
        return int(number)

    def close(self) -> None:
        with self._lock:
            self._file.close()

    def _forgotten_us(self) -> int:
        return (self._clock() - _EPOCH) // _MICROSECOND - round(self._limits.max_reply_age_s * 1e6)

    @contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        with self._lock, self._file.transaction() as db:
            yield db


def _loaded(db: sqlite3.Connection) -> None:
    """A table of another shape under our name shows here."""
    db.execute("SELECT turn, command_id, at_us, reply FROM reply LIMIT 1").fetchall()
    db.execute(
        "SELECT row, topic, payload, received_us, retain, response_topic, correlation FROM waiting LIMIT 1"
    ).fetchall()
