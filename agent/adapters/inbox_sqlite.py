"""The inbox in one SQLite file: commands outlive the process, and a repeated one gets the reply it got before.

WAL and synchronous=FULL under an exclusive lock. Source: https://sqlite.org/wal.html, https://sqlite.org/rescode.html.
"""

import logging
import sqlite3
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from agent.core.outgoing import Accepted, Incoming
from agent.errors import AgentError, Permanent, Retryable
from schemas.codes import FailureCode

_log = logging.getLogger(__name__)

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)
_UNREADABLE = (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)

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
    A file that cannot be read is moved aside as `NAME.corrupt-TIME` (the newest is kept), see `corrupt_file`; found at
    work, the call at hand raises Permanent(SPOOL_CORRUPT) and the next one works on a new file. A new file counts
    sessions from the seconds of the clock, so that the numbers grow over the loss of a file.
    Errors of the constructor: Permanent(CONFIG_INVALID) where no file can be made, Retryable(INTERNAL) while another
    process has it, Retryable(DISK_FULL).
    """

    def __init__(self, path: Path, limits: InboxLimits, clock: Callable[[], datetime]) -> None:
        self.corrupt_file: Path | None = None
        self._path = path
        self._limits = limits
        self._clock = clock
        self._lock = threading.Lock()
        self._closed = False
        self._db: sqlite3.Connection | None = None
        with self._transaction():
            pass

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
            self._closed = True
            self._disconnect()

    def _forgotten_us(self) -> int:
        return (self._clock() - _EPOCH) // _MICROSECOND - round(self._limits.max_reply_age_s * 1e6)

    @contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        with self._lock:
            try:
                db = self._opened()
                db.execute("BEGIN IMMEDIATE")
                yield db
                db.execute("COMMIT")
            except sqlite3.Error as error:
                if _code(error) in _UNREADABLE:
                    self._move_aside(str(error))
                raise _failure(error, self._path) from error
            except OSError as error:
                raise Permanent(FailureCode.CONFIG_INVALID, f"cannot use {self._path}: {error}") from error
            finally:
                self._roll_back()

    def _opened(self) -> sqlite3.Connection:
        if self._closed:
            raise Permanent(FailureCode.INTERNAL, f"{self._path} is closed")
        if self._db is None:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            try:
                self._db = _connect(self._path)
            except sqlite3.DatabaseError as error:
                if _code(error) not in (*_UNREADABLE, sqlite3.SQLITE_ERROR):
                    raise
                self._move_aside(str(error))
                self._db = _connect(self._path)
        return self._db

    def _move_aside(self, reason: str) -> None:
        self._disconnect()
        for old in self._path.parent.glob(f"{self._path.name}.corrupt-*"):
            old.unlink()
        aside = self._path.with_name(f"{self._path.name}.corrupt-{self._clock():%Y%m%dT%H%M%S.%fZ}")
        for ending in ("-wal", ""):
            part = self._path.with_name(self._path.name + ending)
            if part.exists():
                part.replace(aside.with_name(aside.name + ending))
        self.corrupt_file = aside
        _log.error("%s cannot be read (%s): moved to %s, a new file is begun", self._path, reason, aside.name)

    def _roll_back(self) -> None:
        with suppress(sqlite3.Error):  # the error that led here is the one to report
            if self._db is not None and self._db.in_transaction:
                self._db.execute("ROLLBACK")

    def _disconnect(self) -> None:
        if self._db is not None:
            db, self._db = self._db, None
            with suppress(sqlite3.Error):  # without a last checkpoint the log is read at the next opening
                db.close()


def _connect(path: Path) -> sqlite3.Connection:
    db = sqlite3.connect(path, timeout=2.0, isolation_level=None, check_same_thread=False)
    try:
        for pragma in ("locking_mode = EXCLUSIVE", "journal_mode = WAL", "synchronous = FULL"):
            db.execute(f"PRAGMA {pragma}").fetchall()
        db.executescript(f"BEGIN;{_SCHEMA}COMMIT;")
        db.execute("SELECT turn, command_id, at_us, reply FROM reply LIMIT 1").fetchall()
    except BaseException:
        db.close()
        raise
    return db


def _code(error: sqlite3.Error) -> int:
    """The primary result code; errors of the Python module itself carry none."""
    return getattr(error, "sqlite_errorcode", sqlite3.SQLITE_MISUSE) & 0xFF


def _failure(error: sqlite3.Error, path: Path) -> AgentError:
    code = _code(error)
    text = f"{path}: {error}"
    if code in _UNREADABLE:
        return Permanent(FailureCode.SPOOL_CORRUPT, text)
    # A full disk shows as SQLITE_IOERR where SQLite cannot tell, for example at fsync.
    if code in (sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR, sqlite3.SQLITE_READONLY):
        return Retryable(FailureCode.DISK_FULL, text, delay_s=2.0)
    if code in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
        return Retryable(FailureCode.INTERNAL, f"{text} (another process has it)", delay_s=2.0)
    if code in (sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_PERM):
        return Permanent(FailureCode.CONFIG_INVALID, text)
    return Permanent(FailureCode.INTERNAL, text)
