"""The spool in one SQLite file."""

from agent.adapters.spool_sqlite.rows import SpoolLimits
from agent.adapters.spool_sqlite.spool import SqliteSpool

__all__ = ["SpoolLimits", "SqliteSpool"]
