"""Rollouts, and what each node shall run."""

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any

from pydantic import TypeAdapter
from sqlalchemy import Connection, Row, func, insert, select, update

from fleet.adapters.db.database import Database, ms, utc
from fleet.adapters.db.lock import require
from fleet.adapters.db.roster import event_row
from fleet.adapters.db.tables import DesiredRow, EventRow, MemberRow, RolloutRow
from fleet.core.rollout import (
    GRAVE,
    Alert,
    Effect,
    Rollout,
    RolloutState,
    SetDesired,
    dump_head,
    dump_member,
    load_head,
    load_member,
)
from fleet.core.roster import NodeId
from fleet.errors import Conflict, NotFound
from fleet.ports import Desired, Lease, RolloutSummary, StoredEvent
from schemas.alarm import AlarmSeverity

_ORDER = TypeAdapter(SetDesired)
_OVER = [state.value for state in RolloutState if state.is_over]


class DbRollouts:
    def __init__(self, database: Database) -> None:
        self._database = database

    def create(self, rollout: Rollout) -> None:
        row = {
            "rollout_id": rollout.id,
            "name": rollout.spec.name,
            "state": rollout.state.value,
            "version": 1,
            "created_ms": ms(rollout.created_at),
            "created_by": rollout.created_by,
            "document": dump_head(rollout),
        }
        with self._database.write() as connection:
            connection.execute(insert(RolloutRow), row)
            self._save_members(connection, None, rollout)

    def commit(
        self, before: Rollout, after: Rollout, effects: Sequence[Effect], lease: Lease | None, at: datetime
    ) -> None:
        with self._database.write() as connection:
            if lease is not None:
                require(connection, lease)
            found = connection.execute(
                select(RolloutRow.document, RolloutRow.version)
                .where(RolloutRow.rollout_id == after.id)
                .with_for_update()
            ).one_or_none()
            if found is None:
                raise NotFound(f"there is no rollout {after.id!r}")
            if found.document != dump_head(before):
                raise Conflict(f"rollout {after.id} was changed by another since it was read")
            version = found.version + 1
            connection.execute(
                update(RolloutRow)
                .where(RolloutRow.rollout_id == after.id)
                .values(state=after.state.value, version=version, document=dump_head(after))
            )
            self._save_members(connection, before, after)
            orders = [effect for effect in effects if isinstance(effect, SetDesired)]
            self._set(connection, orders, after.id, at)
            self._alert(connection, after, effects, version, at)

    def load(self, rollout_id: str) -> Rollout:
        with self._database.read() as connection:
            document = connection.execute(
                select(RolloutRow.document).where(RolloutRow.rollout_id == rollout_id)
            ).scalar_one_or_none()
            if document is None:
                raise NotFound(f"there is no rollout {rollout_id!r}")
            return _with_members(connection, load_head(document))

    def unfinished(self) -> list[Rollout]:
        with self._database.read() as connection:
            documents = connection.execute(
                select(RolloutRow.document)
                .where(RolloutRow.state.not_in(_OVER))
                .order_by(RolloutRow.created_ms, RolloutRow.rollout_id)
            ).scalars()
            return [_with_members(connection, load_head(document)) for document in documents.all()]

    def summaries(self, limit: int = 100) -> list[RolloutSummary]:
        with self._database.read() as connection:
            rows = connection.execute(
                select(RolloutRow.document).order_by(RolloutRow.created_ms.desc(), RolloutRow.rollout_id).limit(limit)
            ).scalars()
            heads = [load_head(document) for document in rows.all()]
            counted = connection.execute(
                select(MemberRow.rollout_id, MemberRow.state, func.count().label("boards"))
                .where(MemberRow.rollout_id.in_([head.id for head in heads]))
                .group_by(MemberRow.rollout_id, MemberRow.state)
            )
            boards: dict[str, Counter[str]] = defaultdict(Counter)
            for row in counted:
                boards[row.rollout_id][row.state] = row.boards
        return [
            RolloutSummary(
                head.id,
                head.spec.name,
                head.state,
                head.spec.model,
                head.created_at,
                head.created_by,
                dict(boards[head.id]),
            )
            for head in heads
        ]

    def order(self, order: SetDesired, rollout_id: str, at: datetime) -> None:
        with self._database.write() as connection:
            self._set(connection, [order], rollout_id, at)

    def floors(self, nodes: Sequence[NodeId] | None = None) -> dict[NodeId, int]:
        wanted = None if nodes is None else set(nodes)
        with self._database.read() as connection:
            rows = connection.execute(select(DesiredRow.site, DesiredRow.node, DesiredRow.generation))
            found = {NodeId(row.site, row.node): row.generation for row in rows}
        return found if wanted is None else {node: at for node, at in found.items() if node in wanted}

    def desired(self, node: NodeId) -> Desired | None:
        with self._database.read() as connection:
            row = connection.execute(
                select(*DesiredRow.__table__.columns).where(DesiredRow.site == node.site, DesiredRow.node == node.node)
            ).one_or_none()
        return None if row is None else _desired(row)

    def unsent(self, limit: int = 500) -> list[Desired]:
        with self._database.read() as connection:
            rows = connection.execute(
                select(*DesiredRow.__table__.columns)
                .where(DesiredRow.sent_generation < DesiredRow.generation)
                .order_by(DesiredRow.set_ms, DesiredRow.site, DesiredRow.node)
                .limit(limit)
            )
            return [_desired(row) for row in rows]

    def sent(self, generations: Mapping[NodeId, int]) -> None:
        with self._database.write() as connection:
            for node, generation in sorted(generations.items()):
                connection.execute(
                    update(DesiredRow)
                    .where(
                        DesiredRow.site == node.site,
                        DesiredRow.node == node.node,
                        DesiredRow.sent_generation < generation,
                    )
                    .values(sent_generation=generation)
                )

    def resend_all(self) -> int:
        with self._database.write() as connection:
            return connection.execute(update(DesiredRow).values(sent_generation=0)).rowcount

    def _set(self, connection: Connection, orders: Sequence[SetDesired], rollout_id: str, at: datetime) -> None:
        """Refuses what is not newer: a generation is given once."""
        rows = [
            {
                "site": order.node.site,
                "node": order.node.node,
                "generation": order.generation,
                "sent_generation": 0,
                "rollout_id": rollout_id,
                "document": _ORDER.dump_json(order, by_alias=True).decode(),
                "set_ms": ms(at),
            }
            for order in sorted(orders, key=lambda order: order.node)
        ]
        new = self._database.upsert(connection, DesiredRow, rows, ("site", "node"))
        if new == len(rows):
            return
        for row in rows:
            node = (DesiredRow.site == row["site"], DesiredRow.node == row["node"])
            changes = {name: row[name] for name in ("generation", "rollout_id", "document", "set_ms")}
            is_newer = DesiredRow.generation < row["generation"]
            written = connection.execute(update(DesiredRow).where(*node, is_newer).values(**changes)).rowcount
            if not written:
                held = connection.execute(select(DesiredRow.generation, DesiredRow.document).where(*node)).one()
                if (held.generation, held.document) != (row["generation"], row["document"]):
                    text = f"generation {row['generation']} is not above {held.generation}"
                    raise Conflict(f"{row['site']}/{row['node']}: {text}")

    def _save_members(self, connection: Connection, before: Rollout | None, after: Rollout) -> None:
        known = before.members if before is not None else {}
        rows = [
            {
                "rollout_id": after.id,
                "site": member.id.site,
                "node": member.id.node,
                "state": member.state.value,
                "document": dump_member(member),
            }
            for member in sorted(after.members.values(), key=lambda member: member.id)
            if member is not known.get(member.id)
        ]
        self._database.upsert(connection, MemberRow, rows, ("rollout_id", "site", "node"), ("state", "document"))

    def _alert(
        self, connection: Connection, rollout: Rollout, effects: Sequence[Effect], version: int, at: datetime
    ) -> None:
        alerts = [effect for effect in effects if isinstance(effect, Alert)]
        rows = []
        for number, alert in enumerate(alerts):
            severity = AlarmSeverity.WARNING if alert.kind in GRAVE else AlarmSeverity.INFO
            event_id = f"rollout/{rollout.id}/{version}/{number}"
            text = f"{rollout.spec.name}: {alert.text}"
            event = StoredEvent(event_id, None, alert.kind.value, severity, "happened", rollout.id, text, at)
            rows.append(event_row(event))
        self._database.upsert(connection, EventRow, rows, ("event_id",))


def _with_members(connection: Connection, head: Rollout) -> Rollout:
    documents = connection.execute(
        select(MemberRow.document).where(MemberRow.rollout_id == head.id).order_by(MemberRow.site, MemberRow.node)
    ).scalars()
    members = [load_member(document) for document in documents]
    return replace(head, members={member.id: member for member in members})


def _desired(row: Row[*tuple[Any, ...]]) -> Desired:
    order = _ORDER.validate_json(row.document)
    return Desired(order, row.rollout_id, utc(row.set_ms), row.sent_generation >= row.generation)
