"""Sequence numbers of each boot: what has come, and what is missing."""

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from functools import partial
from typing import Any, NamedTuple

from sqlalchemy import ColumnElement, Connection, bindparam, delete, or_, select, tuple_, update

from fleet.adapters.db.database import Database, ms, utc, utc_or_none
from fleet.adapters.db.tables import GapRow, StreamRow
from fleet.core.roster import Gap, NodeId, Stream
from fleet.ports import Arrival, MissingResults

_KEY = ("site", "node", "boot_id")
_STREAMS = (
    select(StreamRow.site, StreamRow.node, StreamRow.boot_id, StreamRow.highest, StreamRow.has_gaps)
    .where(tuple_(StreamRow.site, StreamRow.node, StreamRow.boot_id).in_(bindparam("boots", expanding=True)))
    .order_by(StreamRow.site, StreamRow.node, StreamRow.boot_id)
    .with_for_update()
)
"""Made once: to make it takes longer than to run it."""


MOST_NUMBER = 2**62
"""What fits in a column with room to count on; no board gets there."""


class Boot(NamedTuple):
    site: str
    node: str
    boot_id: str


def arrived(database: Database, connection: Connection, arrivals: Sequence[Arrival], at: datetime) -> None:
    """Inside the transaction that keeps the results."""
    numbers: dict[tuple[str, str, str], list[int]] = {}
    for arrival in arrivals:
        result = arrival.result
        station = result.station
        numbers.setdefault((station.site, station.node, result.boot_id), []).append(result.sequence_number)
    move(database, connection, {Boot(*boot): partial(_with, came) for boot, came in numbers.items()}, at)


def _with(numbers: Sequence[int], stream: Stream) -> Stream:
    return stream.arrived(min(number, MOST_NUMBER) for number in numbers)


def move(
    database: Database, connection: Connection, moves: Mapping[Boot, Callable[[Stream], Stream]], at: datetime
) -> None:
    """Reads the streams, locked in their order, and writes them as the moves leave them."""
    boots = sorted(moves)
    before = _streams(connection, boots)
    if len(before) < len(boots):
        fresh = [{**boot._asdict(), "highest": 0, "has_gaps": 0, "latest_ms": ms(at)} for boot in boots]
        database.upsert(connection, StreamRow, fresh, _KEY)
        before = _streams(connection, boots)
    changed = []
    for boot, old in sorted(before.items()):
        new = moves[boot](old)
        if new.gaps != old.gaps:
            database.upsert(connection, GapRow, _torn(connection, boot, (old, new), at), (*_KEY, "first"), ("last",))
        if new != old:
            flag = int(bool(new.gaps))
            changed.append({**boot._asdict(), "highest": new.highest, "has_gaps": flag, "latest_ms": ms(at)})
    database.upsert(connection, StreamRow, changed, _KEY, ("highest", "has_gaps", "latest_ms"))


def _streams(connection: Connection, boots: Sequence[Boot]) -> dict[Boot, Stream]:
    rows = connection.execute(_STREAMS, {"boots": boots}).all()
    torn = [Boot(*row[:3]) for row in rows if row.has_gaps]
    gaps: dict[Boot, list[Gap]] = defaultdict(list)
    if torn:
        key = tuple_(GapRow.site, GapRow.node, GapRow.boot_id).in_(torn)
        for row in connection.execute(
            select(GapRow.site, GapRow.node, GapRow.boot_id, GapRow.first, GapRow.last).where(key)
        ):
            gaps[Boot(row.site, row.node, row.boot_id)].append(Gap(row.first, row.last))
    return {Boot(*row[:3]): Stream(row.highest, tuple(sorted(gaps.get(Boot(*row[:3]), ())))) for row in rows}


def _torn(connection: Connection, boot: Boot, change: tuple[Stream, Stream], at: datetime) -> list[dict[str, Any]]:
    """Takes the gaps away that are no longer, and returns the rows of those that are new."""
    old, new = change
    here = of(GapRow, boot)
    gone = [gap.first for gap in old.gaps if gap not in new.gaps]
    asked = {}
    if gone:
        wanted = select(GapRow.last, GapRow.found_ms, GapRow.asked_ms, GapRow.times_asked)
        rows = connection.execute(wanted.where(*here, GapRow.first.in_(gone))).all()
        asked = {row.last: row for row in rows}
        connection.execute(delete(GapRow).where(*here, GapRow.first.in_(gone)))
    made = []
    for gap in sorted(set(new.gaps) - set(old.gaps)):
        # What is left of a gap keeps its history: it was asked for with the whole.
        parent = min((row for last, row in asked.items() if last >= gap.last), key=lambda row: row.last, default=None)
        made.append(
            {
                **boot._asdict(),
                "first": gap.first,
                "last": gap.last,
                "found_ms": parent.found_ms if parent else ms(at),
                "asked_ms": parent.asked_ms if parent else None,
                "times_asked": parent.times_asked if parent else 0,
            }
        )
    return made


def of(table: type[GapRow] | type[StreamRow], boot: Boot) -> tuple[ColumnElement[bool], ...]:
    """The rows of this boot."""
    return (table.site == boot.site, table.node == boot.node, table.boot_id == boot.boot_id)


def missing(connection: Connection, limit: int, not_asked_since: datetime | None) -> list[MissingResults]:
    wanted = select(*GapRow.__table__.columns).order_by(GapRow.found_ms, *(getattr(GapRow, name) for name in _KEY))
    if not_asked_since is not None:
        wanted = wanted.where(or_(GapRow.asked_ms.is_(None), GapRow.asked_ms < ms(not_asked_since)))
    return [
        MissingResults(
            NodeId(row.site, row.node),
            row.boot_id,
            Gap(row.first, row.last),
            utc(row.found_ms),
            utc_or_none(row.asked_ms),
            row.times_asked,
        )
        for row in connection.execute(wanted.limit(limit))
    ]


def asked(connection: Connection, gaps: Sequence[MissingResults], at: datetime) -> None:
    for each in gaps:
        connection.execute(
            update(GapRow)
            .where(
                GapRow.site == each.node.site,
                GapRow.node == each.node.node,
                GapRow.boot_id == each.boot_id,
                GapRow.first == each.gap.first,
            )
            .values(asked_ms=ms(at), times_asked=GapRow.times_asked + 1)
        )
