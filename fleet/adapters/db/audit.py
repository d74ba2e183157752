"""The audit trail in the database."""

from sqlalchemy import Connection, desc, insert, select, text

from fleet.adapters.db.database import Database
from fleet.adapters.db.tables import AuditRow
from fleet.core.audit import FIRST, Broken, Entry, Record, seal, verify

_BATCH = 2000
_COLUMNS = ("number", "at_ms", "actor", "action", "subject", "detail", "before", "digest")


class DbAudit:
    def __init__(self, database: Database) -> None:
        self._database = database

    def append(self, entry: Entry) -> Record:
        with self._database.write() as connection:
            return append(self._database, connection, entry)

    def records(self, after: int = 0, limit: int = 1000) -> list[Record]:
        with self._database.read() as connection:
            columns = [getattr(AuditRow, name) for name in _COLUMNS]
            rows = connection.execute(
                select(*columns).where(AuditRow.number > after).order_by(AuditRow.number).limit(limit)
            )
            return [Record(*row) for row in rows]

    def verify(self) -> Broken | None:
        before, number = FIRST, 0
        while batch := self.records(number, _BATCH):
            broken = verify(batch, before, number + 1)
            if broken is not None:
                return broken
            before, number = batch[-1].digest, batch[-1].number
        return None


def append(database: Database, connection: Connection, entry: Entry) -> Record:
    """Inside the transaction of what is recorded: either both are there afterwards, or none is."""
    if not database.is_sqlite:
        # Readers go on; a second writer waits, or two records would follow the same one.
        connection.execute(text("LOCK TABLE audit IN SHARE ROW EXCLUSIVE MODE"))
    last = connection.execute(
        select(AuditRow.number, AuditRow.digest).order_by(desc(AuditRow.number)).limit(1)
    ).one_or_none()
    number, before = (last.number + 1, last.digest) if last else (1, FIRST)
    record = seal(entry, number, before)
    connection.execute(insert(AuditRow), {name: getattr(record, name) for name in _COLUMNS})
    return record
