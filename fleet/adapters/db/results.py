"""Results in the database: kept once each, found again, counted, and deleted when they are old."""

from collections.abc import Callable, Iterator, Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, Connection, Integer, case, cast, delete, func, select

from fleet.adapters.db import gaps
from fleet.adapters.db.database import Database, ms
from fleet.adapters.db.result_rows import COLUMNS, class_rows, narrowed, row
from fleet.adapters.db.tables import GapRow, ResultClassRow, ResultRow, StreamRow
from fleet.core.roster import Gap, NodeId, Stream
from fleet.ports import Arrival, Ingested, MissingResults, Query, Share, StoredResult
from schemas.recipe import Evaluation

_HOUR_MS = 3_600_000
_GROUPS: dict[str, ColumnElement[Any]] = {
    "site": ResultRow.site.expression,
    "node": ResultRow.site + "/" + ResultRow.node,
    "line": ResultRow.line.expression,
    "camera": ResultRow.site + "/" + ResultRow.node + "/" + ResultRow.camera,
    "part": ResultRow.part_id.expression,
    "lot": ResultRow.lot_id.expression,
    "class": ResultClassRow.class_name.expression,
    "model": ResultRow.model.expression,
    "hour": ResultRow.created_ms - ResultRow.created_ms % _HOUR_MS,
    "day": ResultRow.created_ms - ResultRow.created_ms % (24 * _HOUR_MS),
}
"""Hours and days begin in UTC; their keys are Unix milliseconds."""


class DbResults:
    def __init__(self, database: Database) -> None:
        self._database = database

    def ingest(self, arrivals: Sequence[Arrival]) -> Ingested:
        if not arrivals:
            return Ingested(0, 0)
        once = {arrival.result.result_id: arrival for arrival in reversed(arrivals)}
        # In one order in every process, or two with the same results would wait for each other.
        fresh = [once[result_id] for result_id in sorted(once)]
        rows = [row(arrival) for arrival in fresh]
        at = max(arrival.at for arrival in arrivals)
        with self._database.write() as connection:
            new = self._database.insert(connection, ResultRow, COLUMNS, rows, (COLUMNS[:1], ()))
            if new:
                classes = class_rows(fresh)
                self._database.upsert(connection, ResultClassRow, classes, ("result_id", "class_name"))
            gaps.arrived(self._database, connection, fresh, at)
        return Ingested(new, len(arrivals) - new)

    def boot_ended(self, node: NodeId, boot_id: str, last_sequence_number: int, at: datetime) -> None:
        self._move(node, boot_id, lambda stream: stream.ended(min(last_sequence_number, gaps.MOST_NUMBER)), at)

    def find(self, query: Query, *, limit: int, after_row: int = 0, newest_first: bool = False) -> list[StoredResult]:
        order = ResultRow.row.desc() if newest_first else ResultRow.row
        wanted = narrowed(select(ResultRow.row, ResultRow.document), query).where(ResultRow.row > after_row)
        with self._database.read() as connection:
            rows = connection.execute(wanted.order_by(order).limit(limit))
            return [StoredResult(each.row, each.document.encode()) for each in rows]

    def export(self, query: Query, batch: int = 1000) -> Iterator[StoredResult]:
        after = 0
        while found := self.find(query, limit=batch, after_row=after):
            yield from found
            after = found[-1].row

    def stats(self, query: Query, by: str, limit: int = 1000) -> list[Share]:
        if by not in _GROUPS:
            raise ValueError(f"results are counted by {', '.join(_GROUPS)}, not by {by!r}")
        key = _GROUPS[by]
        wanted = narrowed(select(key.label("key"), *_counts()), query)
        if by == "class":
            wanted = wanted.join(ResultClassRow, ResultClassRow.result_id == ResultRow.result_id)
        wanted = wanted.group_by(key).order_by(func.count().desc(), key).limit(limit)
        with self._database.read() as connection:
            return [
                Share("" if each.key is None else str(each.key), *(int(count or 0) for count in each[1:]))
                for each in connection.execute(wanted)
            ]

    def missing(self, limit: int, not_asked_since: datetime | None = None) -> list[MissingResults]:
        with self._database.read() as connection:
            return gaps.missing(connection, limit, not_asked_since)

    def asked(self, missing: Sequence[MissingResults], at: datetime) -> None:
        with self._database.write() as connection:
            gaps.asked(connection, missing, at)

    def given_up(self, node: NodeId, boot_id: str, gap: Gap, at: datetime) -> None:
        self._move(node, boot_id, lambda stream: stream.given_up(gap), at)

    def prune(self, before: datetime | None, keep_most: int | None, batch: int = 5000) -> int:
        with self._database.write() as connection:
            gone: list[tuple[int, str]] = []
            if before is not None:
                gone = _oldest(connection, batch, ResultRow.created_ms < ms(before))
            if not gone and keep_most is not None:
                count = connection.execute(select(func.count()).select_from(ResultRow)).scalar_one()
                gone = _oldest(connection, min(batch, max(0, count - keep_most)))
            for at in range(0, len(gone), 500):
                rows = [each[0] for each in gone[at : at + 500]]
                ids = [each[1] for each in gone[at : at + 500]]
                connection.execute(delete(ResultClassRow).where(ResultClassRow.result_id.in_(ids)))
                connection.execute(delete(ResultRow).where(ResultRow.row.in_(rows)))
            if before is not None and not gone:
                _forget_boots(connection, before, batch)
        return len(gone)

    def _move(self, node: NodeId, boot_id: str, move: Callable[[Stream], Stream], at: datetime) -> None:
        with self._database.write() as connection:
            gaps.move(self._database, connection, {gaps.Boot(node.site, node.node, boot_id): move}, at)


def _counts() -> list[ColumnElement[Any]]:
    def those(evaluation: Evaluation) -> ColumnElement[Any]:
        return func.sum(case((ResultRow.evaluation == int(evaluation), 1), else_=0))

    return [
        func.count(),
        those(Evaluation.OK),
        those(Evaluation.NOT_OK),
        those(Evaluation.NOT_DECIDABLE),
        those(Evaluation.UNDEFINED),
        func.sum(cast(ResultRow.defect_count, Integer)),
    ]


def _oldest(connection: Connection, limit: int, *conditions: ColumnElement[bool]) -> list[tuple[int, str]]:
    if limit <= 0:
        return []
    wanted = select(ResultRow.row, ResultRow.result_id).where(*conditions)
    rows = connection.execute(wanted.order_by(ResultRow.created_ms, ResultRow.row).limit(limit))
    return [(each.row, each.result_id) for each in rows]


def _forget_boots(connection: Connection, before: datetime, batch: int) -> None:
    """Boots that have sent nothing since, and what is missing of them."""
    key = (StreamRow.site, StreamRow.node, StreamRow.boot_id)
    old = connection.execute(select(*key).where(StreamRow.latest_ms < ms(before)).limit(batch)).all()
    for each in old:
        boot = gaps.Boot(*each)
        connection.execute(delete(GapRow).where(*gaps.of(GapRow, boot)))
        connection.execute(delete(StreamRow).where(*gaps.of(StreamRow, boot)))
