"""Nodes in the database."""

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, Connection, Select, delete, select, tuple_, update

from fleet.adapters.db.database import Database, ms, utc
from fleet.adapters.db.node_rows import Extras, from_row, text, to_row
from fleet.adapters.db.tables import AlarmRow, EventRow, LabelRow, NodeRow, TelemetryRow
from fleet.core.roster import Heard, Node, NodeId, step
from fleet.errors import NotFound
from fleet.ports import StoredEvent
from schemas.alarm import AlarmSeverity, Event

_KEY = ("site", "node")
_CHANGES = (
    "last_seen_ms", "changed_ms", "births", "past_boots", "status", "info", "model", "config",
)  # fmt: skip
"""Not the group: it is the operator's."""
_CHUNK = 400


class DbRoster:
    def __init__(self, database: Database) -> None:
        self._database = database

    def heard(self, messages: Sequence[Heard]) -> list[Node]:
        if not messages:
            return []
        at = max(message.at for message in messages)
        with self._database.write() as connection:
            ids = sorted({message.node for message in messages})
            before = self._held(connection, ids, at)
            after = dict(before)
            for message in messages:
                after[message.node] = step(after.get(message.node), message)
            changed = [node for key, node in sorted(after.items()) if node is not before.get(key)]
            self._save(connection, before, changed, at)
            self._keep_events(connection, messages)
        return changed

    def nodes(self) -> list[Node]:
        with self._database.read() as connection:
            return self._load(connection, None)

    def changed_since(self, at: datetime) -> list[Node]:
        with self._database.read() as connection:
            rows = connection.execute(select(NodeRow.site, NodeRow.node).where(NodeRow.changed_ms >= ms(at)))
            return self._load(connection, sorted(NodeId(row.site, row.node) for row in rows))

    def node(self, node: NodeId) -> Node:
        with self._database.read() as connection:
            return _only(self._load(connection, [node]), node)

    def label(self, node: NodeId, labels: Mapping[str, str | None], group: str | None, at: datetime) -> Node:
        with self._database.write() as connection:
            _only(self._load(connection, [node], lock=True), node)
            new = [
                {"site": node.site, "node": node.node, "name": name, "value": value}
                for name, value in sorted(labels.items())
                if value is not None
            ]
            self._database.upsert(connection, LabelRow, new, (*_KEY, "name"), ("value",))
            gone = [name for name, value in labels.items() if value is None]
            connection.execute(
                delete(LabelRow).where(LabelRow.site == node.site, LabelRow.node == node.node, LabelRow.name.in_(gone))
            )
            changes: dict[str, Any] = {"changed_ms": ms(at)} | ({} if group is None else {"group_name": group})
            here = (NodeRow.site == node.site, NodeRow.node == node.node)
            connection.execute(update(NodeRow).where(*here).values(**changes))
            return _only(self._load(connection, [node]), node)

    def remove(self, node: NodeId) -> None:
        with self._database.write() as connection:
            gone = connection.execute(delete(NodeRow).where(NodeRow.site == node.site, NodeRow.node == node.node))
            if not gone.rowcount:
                raise NotFound(f"there is no node {node}")

    def events(self, limit: int, before: datetime | None = None) -> list[StoredEvent]:
        wanted = select(*EventRow.__table__.columns).order_by(EventRow.at_ms.desc(), EventRow.event_id).limit(limit)
        if before is not None:
            wanted = wanted.where(EventRow.at_ms < ms(before))
        with self._database.read() as connection:
            return [_event(row) for row in connection.execute(wanted)]

    def _held(self, connection: Connection, ids: Sequence[NodeId], at: datetime) -> dict[NodeId, Node]:
        """Locked. A board that is not known yet gets its row first: there would be nothing to lock, and two processes
        that hear of it at once would each write what the other has not heard.
        """
        before = {node.id: node for node in self._load(connection, ids, lock=True)}
        if unknown := [node for node in ids if node not in before]:
            blank = [to_row(Node(node), at) for node in unknown]
            self._database.upsert(connection, NodeRow, blank, _KEY)
            before |= {node.id: node for node in self._load(connection, unknown, lock=True)}
        return before

    def _load(self, connection: Connection, ids: Sequence[NodeId] | None, *, lock: bool = False) -> list[Node]:
        """`ids` in order; None for all. Locked in that order, so that no two batches wait for each other."""
        found: list[Node] = []
        for chunk in [None] if ids is None else _chunks(ids):
            wanted = select(*NodeRow.__table__.columns).order_by(NodeRow.site, NodeRow.node)
            if lock:
                wanted = wanted.with_for_update()
            rows = connection.execute(_of(wanted, NodeRow, chunk)).all()
            extras = Extras(
                *(
                    connection.execute(_of(select(*table.__table__.columns), table, chunk))
                    for table in (LabelRow, TelemetryRow, AlarmRow)
                )
            )
            found += [from_row(row, extras) for row in rows]
        return found

    def _save(
        self, connection: Connection, before: Mapping[NodeId, Node], changed: Sequence[Node], at: datetime
    ) -> None:
        rows = [to_row(node, at) for node in changed]
        self._database.upsert(connection, NodeRow, rows, _KEY, _CHANGES)
        telemetry, alarms = [], []
        for node in changed:
            old = before.get(node.id) or Node(node.id)
            key = {"site": node.id.site, "node": node.id.node}
            telemetry += [
                {**key, "topic_group": group, "document": text(message)}
                for group, message in sorted(node.telemetry.items())
                if message is not old.telemetry.get(group)
            ]
            alarms += [
                {**key, "code": code, "document": text(alarm)}
                for code, alarm in sorted(node.alarms.items())
                if alarm is not old.alarms.get(code)
            ]
            for code in sorted(set(old.alarms) - set(node.alarms)):
                connection.execute(
                    delete(AlarmRow).where(
                        AlarmRow.site == node.id.site, AlarmRow.node == node.id.node, AlarmRow.code == code
                    )
                )
        self._database.upsert(connection, TelemetryRow, telemetry, (*_KEY, "topic_group"), ("document",))
        self._database.upsert(connection, AlarmRow, alarms, (*_KEY, "code"), ("document",))

    def _keep_events(self, connection: Connection, messages: Sequence[Heard]) -> None:
        rows = {}
        for heard in messages:
            if isinstance(heard.message, Event):
                row = event_row(StoredEvent.of(heard.node, heard.message))
                rows[row["event_id"]] = row
        self._database.upsert(connection, EventRow, [rows[key] for key in sorted(rows)], ("event_id",))


def event_row(event: StoredEvent) -> dict[str, Any]:
    """Ids are the boards' own: in the table the node stands before them."""
    node = event.node
    return {
        "event_id": f"{node}/{event.event_id}" if node else event.event_id,
        "site": node.site if node else "",
        "node": node.node if node else "",
        "code": event.code,
        "severity": event.severity.value,
        "kind": event.kind,
        "source": event.source,
        "text": event.text.replace("\0", "?"),
        "at_ms": ms(event.at),
    }


def _event(row: Any) -> StoredEvent:
    node = NodeId(row.site, row.node) if row.node else None
    event_id = row.event_id.removeprefix(f"{node}/") if node else row.event_id
    severity = AlarmSeverity(row.severity)
    return StoredEvent(event_id, node, row.code, severity, row.kind, row.source, row.text, utc(row.at_ms))


def _chunks(ids: Sequence[NodeId]) -> Iterable[Sequence[NodeId]]:
    return [ids[at : at + _CHUNK] for at in range(0, len(ids), _CHUNK)]


def _of(wanted: Select[*tuple[Any, ...]], table: Any, ids: Sequence[NodeId] | None) -> Select[*tuple[Any, ...]]:
    if ids is None:
        return wanted
    key: ColumnElement[bool] = tuple_(table.site, table.node).in_([(each.site, each.node) for each in ids])
    return wanted.where(key)


def _only(found: Sequence[Node], node: NodeId) -> Node:
    if not found:
        raise NotFound(f"there is no node {node}")
    return found[0]
