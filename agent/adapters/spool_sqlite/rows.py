"""What the spool's two tables hold, and the statements on them.

`waiting` has no index that a new result would touch: a commit writes one or two pages, which is what an append costs
and what wears flash. What is sent or refused moves to `settled` in batches. `rank` says how soon a row may be dropped:
a result gets the rank HISTORY when the broker has it and keeps it when it is replayed, so that a replay never pushes
out a result that was not sent yet.
"""

from dataclasses import dataclass, field, replace
from enum import IntEnum

from agent.core.outgoing import Kind

ROW_BYTES = 256
"""What a row takes in table and indexes besides its own bytes."""


class Rank(IntEnum):
    """The order of dropping; KEEP is never dropped."""

    HISTORY = 0
    TELEMETRY = 1
    EVENT = 2
    KEEP = 3


RANK = {Kind.RESULT: Rank.KEEP, Kind.EVENT: Rank.EVENT, Kind.TELEMETRY: Rank.TELEMETRY}
KIND = {
    int(Rank.KEEP): Kind.RESULT,
    int(Rank.HISTORY): Kind.RESULT,
    int(Rank.EVENT): Kind.EVENT,
    int(Rank.TELEMETRY): Kind.TELEMETRY,
}

# The payload stands last, so that a scan of the other columns does not read its overflow pages.
_COLUMNS = """
  row INTEGER PRIMARY KEY, rank INTEGER NOT NULL, bytes INTEGER NOT NULL, created_us INTEGER NOT NULL,
  expires_us INTEGER, boot_id TEXT, sequence INTEGER, topic TEXT NOT NULL, qos INTEGER NOT NULL,
  retain INTEGER NOT NULL, expiry_s INTEGER, content_type TEXT, correlation BLOB, reason TEXT, payload BLOB NOT NULL
"""
SCHEMA = f"""
CREATE TABLE IF NOT EXISTS waiting ({_COLUMNS});
CREATE TABLE IF NOT EXISTS settled ({_COLUMNS});
CREATE INDEX IF NOT EXISTS waiting_spare ON waiting(rank, row, bytes) WHERE rank < 3;
CREATE INDEX IF NOT EXISTS waiting_aging ON waiting(created_us) WHERE rank < 3;
CREATE INDEX IF NOT EXISTS settled_spare ON settled(rank, row, bytes);
CREATE INDEX IF NOT EXISTS settled_aging ON settled(created_us) WHERE rank < 3;
CREATE INDEX IF NOT EXISTS settled_place ON settled(boot_id, sequence);
"""
# A settled row is a dead letter unless it is history.
TOTALS = """
SELECT rank, 1, COUNT(*), SUM(bytes) FROM waiting GROUP BY rank UNION ALL
SELECT rank, 0, COUNT(*), SUM(bytes) FROM settled INDEXED BY settled_spare GROUP BY rank
"""
LAST_ROW = "SELECT MAX(COALESCE((SELECT MAX(row) FROM waiting), 0), COALESCE((SELECT MAX(row) FROM settled), 0))"
INSERT = "INSERT INTO waiting VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, NULL, ?)"
PENDING = """
SELECT row, rank, created_us, topic, payload, qos, retain, expiry_s, content_type, correlation
FROM waiting WHERE row > ? AND (expires_us IS NULL OR expires_us > ?) ORDER BY row LIMIT ?
"""
OLDEST = "SELECT created_us FROM waiting ORDER BY row LIMIT 1"

_ROWS = "row IN (SELECT value FROM json_each(?))"
_MOVED = "row, {rank}, bytes, created_us, expires_us, boot_id, sequence, topic, qos, retain, expiry_s, content_type"
WAITING_OF = f"SELECT row, rank, 1, bytes FROM waiting WHERE {_ROWS}"  # noqa: S608 -- constants only
SETTLED_OF = f"SELECT row, rank, 0, bytes FROM settled WHERE {_ROWS}"  # noqa: S608
DELETE_WAITING = f"DELETE FROM waiting WHERE {_ROWS}"  # noqa: S608
DELETE_SETTLED = f"DELETE FROM settled WHERE {_ROWS}"  # noqa: S608
SETTLE_SENT = f"""
INSERT INTO settled SELECT {_MOVED.format(rank=0)}, correlation, NULL, payload FROM waiting WHERE {_ROWS}
"""  # noqa: S608
SETTLE_DEAD = f"""
INSERT INTO settled SELECT {_MOVED.format(rank="rank")}, correlation, ?, payload FROM waiting WHERE {_ROWS}
"""  # noqa: S608
UNSETTLE = f"""
INSERT INTO waiting SELECT {_MOVED.format(rank="rank")}, correlation, NULL, payload FROM settled WHERE {_ROWS}
"""  # noqa: S608
SETTLED_RANGE = "SELECT row, sequence FROM settled WHERE boot_id = ? AND sequence BETWEEN ? AND ?"
RENUMBER = "UPDATE waiting SET row = ? WHERE row = ?"
WAITING_PLACES = "SELECT row, boot_id, sequence FROM waiting WHERE row > ? ORDER BY row LIMIT ?"

SPARE = """
SELECT row, rank, 0, bytes FROM settled INDEXED BY settled_spare WHERE rank = ?1 UNION ALL
SELECT row, rank, 1, bytes FROM waiting INDEXED BY waiting_spare WHERE rank < 3 AND rank = ?1 ORDER BY row LIMIT ?2
"""
AGED = """
SELECT row, rank, 0, bytes FROM settled INDEXED BY settled_aging WHERE rank < 3 AND created_us < ?1 UNION ALL
SELECT row, rank, 1, bytes FROM waiting INDEXED BY waiting_aging WHERE rank < 3 AND created_us < ?1 LIMIT ?2
"""
EXPIRED = """
SELECT row, rank, 1, bytes FROM waiting INDEXED BY waiting_spare
WHERE rank < 3 AND rank = 1 AND expires_us <= ?1 LIMIT ?2
"""

Sized = tuple[int, int, int, int]
"""row, rank, whether it waits, bytes"""


@dataclass(frozen=True, slots=True)
class SpoolLimits:
    """The file takes at most twice `max_bytes`, its write-ahead log some MiB more.

    `telemetry_share` is the part of `max_bytes` that telemetry may take. `max_age_s` holds for what was sent, for
    events and for telemetry; results that were not sent have no age.
    """

    max_bytes: int = 256 * 2**20
    max_age_s: float = 7 * 86400.0
    telemetry_share: float = 0.1


@dataclass(slots=True)
class Totals:
    """Kept beside the file, so that no append has to scan it. A copy is changed, and taken over after the commit."""

    bytes_by_rank: dict[int, int] = field(default_factory=lambda: dict.fromkeys(map(int, Rank), 0))
    pending: int = 0
    pending_results: int = 0
    dead: int = 0
    dropped_telemetry: int = 0

    @property
    def used_bytes(self) -> int:
        return sum(self.bytes_by_rank.values())

    def count(self, rank: int, waits: int, size_bytes: int, rows: int = 1) -> None:
        """Take rows in; with negative figures, out. What neither waits nor is history is a dead letter."""
        self.bytes_by_rank[rank] += size_bytes
        if waits:
            self.pending += rows
            self.pending_results += rows * (KIND[rank] is Kind.RESULT)
        elif rank != Rank.HISTORY:
            self.dead += rows

    def copy(self) -> "Totals":
        return replace(self, bytes_by_rank=dict(self.bytes_by_rank))
