"""Which process decides: a lease in the database, with an epoch that fences off whoever held it before."""

from datetime import datetime, timedelta

from sqlalchemy import Connection, select, update

from fleet.adapters.db.database import Database, ms
from fleet.adapters.db.tables import LockRow
from fleet.errors import LeaseLost
from fleet.ports import Lease


class DbLock:
    def __init__(self, database: Database) -> None:
        self._database = database

    def acquire(self, name: str, owner: str, lease_s: float, now: datetime) -> Lease | None:
        until = now + timedelta(seconds=lease_s)
        with self._database.write() as connection:
            free = {"name": name, "owner": "", "epoch": 0, "until_ms": 0}
            self._database.upsert(connection, LockRow, [free], ["name"])
            found = connection.execute(
                select(LockRow.owner, LockRow.epoch, LockRow.until_ms).where(LockRow.name == name).with_for_update()
            ).one()
            if found.owner != owner and found.until_ms > ms(now):
                return None
            # A holder that let it run out may have been replaced and have come back: it counts as another.
            is_renewal = found.owner == owner and found.until_ms > ms(now)
            epoch = found.epoch if is_renewal else found.epoch + 1
            connection.execute(
                update(LockRow).where(LockRow.name == name).values(owner=owner, epoch=epoch, until_ms=ms(until))
            )
            return Lease(name, owner, epoch, until)

    def release(self, lease: Lease) -> None:
        """Nothing happens where another has it."""
        with self._database.write() as connection:
            connection.execute(
                update(LockRow)
                .where(LockRow.name == lease.name, LockRow.epoch == lease.epoch, LockRow.owner == lease.owner)
                .values(until_ms=0)
            )


def require(connection: Connection, lease: Lease) -> None:
    """Inside the transaction of a decision: raises LeaseLost where another has taken over.

    The time does not matter here: as long as nobody has taken over, nobody else has decided.
    """
    epoch = connection.execute(
        select(LockRow.epoch).where(LockRow.name == lease.name).with_for_update(read=True)
    ).scalar_one_or_none()
    if epoch != lease.epoch:
        raise LeaseLost(f"{lease.owner} has lost {lease.name}: epoch {epoch}, not {lease.epoch}")
