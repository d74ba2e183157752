"""A SQLite file that one process owns: durable commits, typed errors, and a new start when it cannot be read.

Not an adapter itself: the spool and the inbox are made of it, and adapters never import each other.
Source: https://sqlite.org/wal.html, https://sqlite.org/pragma.html, https://sqlite.org/rescode.html.
"""

import logging
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path

from agent.errors import AgentError, Permanent, Retryable
from schemas.codes import FailureCode

_log = logging.getLogger(__name__)

_PAGE_BYTES = 4096
_MOST_PAGES = 2**30
_LOG_BYTES = 4 * 2**20
_CORRUPT_KEPT = 3
_UNREADABLE = (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)


class SqliteFile:
    """WAL with synchronous=FULL under an exclusive lock. The owner lets one thread in at a time.

    `loaded` is called with each new connection, after the schema is there. A file that cannot be read, at the opening
    or later, is moved aside as `NAME.corrupt-TIME` with its log, and a new one is begun; the newest three stay.
    Units: max_bytes bounds the file without its log, which is cut back to 4 MiB; None is no bound.
    """

    def __init__(
        self,
        path: Path,
        schema: str,
        max_bytes: int | None,
        clock: Callable[[], datetime],
        loaded: Callable[[sqlite3.Connection], None],
    ) -> None:
        self.corrupt_file: Path | None = None
        self._path = path
        self._schema = schema
        self._max_pages = _MOST_PAGES if max_bytes is None else max_bytes // _PAGE_BYTES
        self._clock = clock
        self._loaded = loaded
        self._db: sqlite3.Connection | None = None
        self._closed = False
        self._is_durable: bool | None = None

    def open(self) -> sqlite3.Connection:
        """The connection, made when there is none.

        Errors: Permanent(CONFIG_INVALID) where no file can be made, Retryable(INTERNAL) while another process has it,
        Retryable(DISK_FULL).
        """
        if self._closed:
            raise Permanent(FailureCode.INTERNAL, f"{self._path} is closed")
        if self._db is None:
            try:
                self._path.parent.mkdir(parents=True, exist_ok=True)
                self._db = self._open_or_start_anew()
            except OSError as error:
                raise Permanent(FailureCode.CONFIG_INVALID, f"cannot use {self._path}: {error}") from error
        return self._db

    @contextmanager
    def transaction(self, *, durable: bool = True) -> Iterator[sqlite3.Connection]:
        """Committed and on the disk when it ends; rolled back on any error. Without `durable` it outlives the process,
        and a power cut only from the next durable one on: the log keeps the order.

        Errors: those of `open`; Permanent(SPOOL_CORRUPT) once, the next transaction then meets a new file.
        """
        db = self.open()
        try:
            if durable is not self._is_durable:  # it holds until it is changed
                db.execute(f"PRAGMA synchronous = {'FULL' if durable else 'NORMAL'}")
                self._is_durable = durable
            db.execute("BEGIN IMMEDIATE")
            yield db
            db.execute("COMMIT")
        except sqlite3.Error as error:
            failure = _failure(error, self._path)
            if failure.code is FailureCode.SPOOL_CORRUPT:
                self._start_anew(str(error))
            raise failure from error
        finally:
            _roll_back(db)

    def close(self) -> None:
        self._closed = True
        self._disconnect()

    def _open_or_start_anew(self) -> sqlite3.Connection:
        # SQLite writes the header before anything else: an empty file has lost its content, and would pass as new.
        if self._path.exists() and self._path.stat().st_size == 0:
            self._move_aside("the file is empty")
        try:
            try:
                return self._connect()
            except sqlite3.DatabaseError as error:
                if _code(error) not in (*_UNREADABLE, sqlite3.SQLITE_ERROR):
                    raise
                self._move_aside(str(error))
            return self._connect()
        except sqlite3.Error as error:
            raise _failure(error, self._path) from error

    def _connect(self) -> sqlite3.Connection:
        db = sqlite3.connect(self._path, timeout=2.0, isolation_level=None, check_same_thread=False)
        try:
            for pragma in (
                "locking_mode = EXCLUSIVE",
                "journal_mode = WAL",
                "synchronous = FULL",
                "secure_delete = OFF",
                f"journal_size_limit = {_LOG_BYTES}",
                f"max_page_count = {self._max_pages}",
            ):
                db.execute(f"PRAGMA {pragma}").fetchall()
            self._is_durable = None
            db.executescript(f"BEGIN;{self._schema}COMMIT;")
            self._loaded(db)
        except BaseException:
            db.close()
            raise
        return db

    def _start_anew(self, reason: str) -> None:
        self._disconnect()
        try:
            self._move_aside(reason)
        except OSError as error:
            _log.warning("%s cannot be moved aside yet: %s", self._path, error)

    def _move_aside(self, reason: str) -> None:
        aside = self._path.with_name(f"{self._path.name}.corrupt-{self._clock():%Y%m%dT%H%M%S.%fZ}")
        for ending in ("-shm", "-wal", ""):
            part = self._path.with_name(self._path.name + ending)
            if part.exists():
                part.replace(aside.with_name(aside.name + ending))
        self.corrupt_file = aside
        _log.error("%s cannot be read (%s): moved to %s, a new file is begun", self._path, reason, aside.name)
        kept = [each for each in self._path.parent.glob(f"{self._path.name}.corrupt-*Z") if each != aside]
        for old in sorted(kept)[: -(_CORRUPT_KEPT - 1)]:
            for ending in ("-shm", "-wal", ""):
                old.with_name(old.name + ending).unlink(missing_ok=True)

    def _disconnect(self) -> None:
        if self._db is not None:
            db, self._db = self._db, None
            try:
                db.close()
            except sqlite3.Error as error:  # the last checkpoint may fail; the log is then read at the next opening
                _log.warning("%s was not closed well: %s", self._path, error)


def _roll_back(db: sqlite3.Connection) -> None:
    try:
        if db.in_transaction:
            db.execute("ROLLBACK")
    except sqlite3.Error as error:  # a closed or broken connection has nothing to roll back
        _log.debug("no rollback: %s", error)


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
