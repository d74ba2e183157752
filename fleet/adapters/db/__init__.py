"""The fleet's memory: SQLAlchemy on SQLite or PostgreSQL, with its migrations."""

from fleet.adapters.db.audit import DbAudit
from fleet.adapters.db.database import Database
from fleet.adapters.db.jobs import DbJobs
from fleet.adapters.db.lock import DbLock
from fleet.adapters.db.results import DbResults
from fleet.adapters.db.rollouts import DbRollouts
from fleet.adapters.db.roster import DbRoster
from fleet.adapters.db.schema import check, newest, upgrade
from fleet.adapters.db.users import DbUsers

__all__ = [
    "Database",
    "DbAudit",
    "DbJobs",
    "DbLock",
    "DbResults",
    "DbRollouts",
    "DbRoster",
    "DbUsers",
    "check",
    "newest",
    "upgrade",
]
