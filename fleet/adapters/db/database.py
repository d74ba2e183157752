"""The connection to SQLite or PostgreSQL, and the turning of its errors into ours."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import Connection, Engine, create_engine, event
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError, DBAPIError, IntegrityError, InterfaceError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.orm import DeclarativeBase

from fleet.errors import Conflict, ErrorCode, Permanent, Retryable

BUSY_S = 10.0
_WRITES = "rkfleet_writes"


class Database:
    """One pool of connections. `sqlite:///path/fleet.db` or `postgresql://user@host/name`."""

    def __init__(self, url: str) -> None:
        parsed = _url(url)
        self.is_sqlite = parsed.get_backend_name() == "sqlite"
        self._statements: dict[Any, str] = {}
        # A connection that broke while nobody used it is noticed before use, not by the first who needs it.
        self.engine: Engine = create_engine(parsed, pool_pre_ping=not self.is_sqlite)
        if self.is_sqlite:
            event.listen(self.engine, "connect", _prepare_sqlite)
            event.listen(self.engine, "begin", _begin_sqlite)

    @contextmanager
    def write(self) -> Iterator[Connection]:
        """A transaction that commits at the end. In SQLite writers wait for each other at its beginning."""
        with _errors(), self.engine.connect().execution_options(**{_WRITES: True}) as connection, connection.begin():
            yield connection

    @contextmanager
    def read(self) -> Iterator[Connection]:
        with _errors(), self.engine.connect() as connection, connection.begin():
            yield connection

    def upsert(
        self,
        connection: Connection,
        table: type[DeclarativeBase],
        rows: Sequence[Mapping[str, Any]],
        keys: Sequence[str],
        changes: Sequence[str] = (),
    ) -> int:
        """Insert, or where `keys` are there, set `changes`; none of them: leave the row. Returns how many rows were
        written. `rows` must differ in `keys`, and come in their order, so that no two writers wait for each other.
        """
        if not rows:
            return 0
        columns = tuple(rows[0])
        values = [tuple([row[name] for name in columns]) for row in rows]
        return self.insert(connection, table, columns, values, (tuple(keys), tuple(changes)))

    def insert(
        self,
        connection: Connection,
        table: type[DeclarativeBase],
        columns: tuple[str, ...],
        values: list[tuple[Any, ...]],
        conflict: tuple[tuple[str, ...], tuple[str, ...]],
    ) -> int:
        """As `upsert`, for values in the order of `columns`; `conflict` has keys and changes."""
        statement = self._statements.get((table, columns, conflict))
        if statement is None:
            statement = self._statements[table, columns, conflict] = self._insert(table, columns, *conflict)
        sent = values if self.is_sqlite else tuple(list(column) for column in zip(*values, strict=True))
        return max(0, connection.exec_driver_sql(statement, sent).rowcount)

    def _insert(
        self, table: type[DeclarativeBase], columns: tuple[str, ...], keys: tuple[str, ...], changes: tuple[str, ...]
    ) -> str:
        """Text for the driver: a batch is thousands of rows, and each value would be looked at twice more on its way.

        Our columns are numbers and text, which need no conversion. PostgreSQL takes a batch as one array a column.
        """
        if self.is_sqlite:
            source = f"VALUES ({', '.join('?' * len(columns))})"
        else:
            types = [str(table.__table__.c[name].type) for name in columns]
            # In binary: as text each quotation mark of a document would be escaped, and read back.
            source = f"SELECT * FROM unnest({', '.join(f'CAST(%b AS {each}[])' for each in types)})"  # noqa: S608  # as below
        then = "UPDATE SET " + ", ".join(f"{name} = excluded.{name}" for name in changes) if changes else "NOTHING"
        head = f"INSERT INTO {table.__tablename__} ({', '.join(columns)})"
        # All names are those of our tables.
        return f"{head} {source} ON CONFLICT ({', '.join(keys)}) DO {then}"

    def close(self) -> None:
        self.engine.dispose()


def ms(at: datetime) -> int:
    return round(at.timestamp() * 1000)


def utc(at_ms: int) -> datetime:
    return datetime.fromtimestamp(at_ms / 1000, UTC)


def utc_or_none(at_ms: int | None) -> datetime | None:
    return None if at_ms is None else utc(at_ms)


def _url(text: str) -> URL:
    try:
        url = make_url(text)
    except ArgumentError:
        raise Permanent(ErrorCode.INVALID, "not the URL of a database; try sqlite:///fleet.db") from None
    if url.drivername in {"postgresql", "postgres"}:
        url = url.set(drivername="postgresql+psycopg")
    if url.drivername not in {"sqlite", "sqlite+pysqlite", "postgresql+psycopg"}:
        raise Permanent(ErrorCode.INVALID, f"{url.drivername}: the database is SQLite or PostgreSQL")
    return url


def _prepare_sqlite(connection: Any, _record: object) -> None:
    # The driver would begin transactions by itself, and not before the first change.
    connection.isolation_level = None
    # What was acknowledged to the broker must outlive a power cut: FULL.
    for pragma in (
        f"busy_timeout = {round(BUSY_S * 1000)}",
        "journal_mode = WAL",
        "synchronous = FULL",
        "foreign_keys = ON",
    ):
        connection.execute(f"PRAGMA {pragma}").fetchall()


def _begin_sqlite(connection: Connection) -> None:
    writes = connection.get_execution_options().get(_WRITES, False)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")


@contextmanager
def _errors() -> Iterator[None]:
    """Texts of drivers hold what was to be written; only their first line is passed on."""
    try:
        yield
    except IntegrityError as error:
        raise Conflict(f"already there, or not there: {_first_line(error)}") from error
    except (OperationalError, InterfaceError) as error:
        raise Retryable(ErrorCode.DATABASE_UNAVAILABLE, _first_line(error)) from error
    except PoolTimeout as error:
        raise Retryable(ErrorCode.DATABASE_UNAVAILABLE, "all connections are in use") from error
    except DBAPIError as error:
        raise Permanent(ErrorCode.DATABASE_FAULT, _first_line(error)) from error


def _first_line(error: DBAPIError) -> str:
    return (str(error.orig).splitlines() or [type(error).__name__])[0][:300]
