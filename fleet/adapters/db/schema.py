"""Bringing a database to the tables of this version."""

from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from alembic.util import CommandError
from sqlalchemy import Connection, text

from fleet.adapters.db.database import Database
from fleet.errors import ErrorCode, Permanent

_FOLDER = Path(__file__).parent / "migrations"
_LOCK = 0x726B666C  # any number, so long as all versions of rkfleet take the same


def upgrade(database: Database) -> str:
    """Bring it to the newest tables; nothing is done where they are there. Returns the revision.

    Two processes that start at once do it one after the other. Raises Permanent where a newer rkfleet was here.
    """
    with database.write() as connection:
        if not database.is_sqlite:
            connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _LOCK})
        if revision(connection) != newest():
            _known(connection)
            command.upgrade(_config(connection), "head")
    return newest()


def check(database: Database) -> None:
    """Raises Permanent where the tables are not those of this version."""
    with database.read() as connection:
        found = revision(connection)
        if found == newest():
            return
        _known(connection)
    raise Permanent(
        ErrorCode.DATABASE_OUTDATED,
        f"the database is at {found or 'nothing'}, {newest()} is needed: run rkfleet db upgrade",
    )


def newest() -> str:
    head = ScriptDirectory(str(_FOLDER)).get_current_head()
    if head is None:
        raise Permanent(ErrorCode.INTERNAL, "this installation has no migrations")
    return head


def revision(connection: Connection) -> str | None:
    """None for an empty database."""
    return MigrationContext.configure(connection).get_current_revision()


def _known(connection: Connection) -> None:
    found = revision(connection)
    if found is None:
        return
    try:
        ScriptDirectory(str(_FOLDER)).get_revision(found)
    except CommandError:
        text = f"the database is at {found}, which this version does not know: it was made by a newer rkfleet"
        raise Permanent(ErrorCode.DATABASE_TOO_NEW, text) from None


def _config(connection: Connection) -> Config:
    config = Config()
    config.set_main_option("script_location", str(_FOLDER).replace("%", "%%"))
    config.attributes["connection"] = connection
    return config
