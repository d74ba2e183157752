"""A node in its rows, and back. What one writes, a later version must read: a document that it does not understand is
left out, and the board's next message fills the place.
"""

import json
from collections import defaultdict
from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any, TypeVar

from pydantic import ValidationError
from sqlalchemy import Row

from fleet.adapters.db.database import ms, utc, utc_or_none
from fleet.core.roster import Node, NodeId
from fleet.core.roster.node import Telemetry
from schemas.alarm import Alarm
from schemas.base import Wire
from schemas.state import ReportedConfig, ReportedModel
from schemas.status import Info, Status
from schemas.telemetry import HostTelemetry, InspectionTelemetry, SpoolTelemetry

_Message = TypeVar("_Message", bound=Wire)
_TELEMETRY: dict[str, type[Telemetry]] = {
    "inspection": InspectionTelemetry,
    "host": HostTelemetry,
    "spool": SpoolTelemetry,
}


def to_row(node: Node, at: datetime) -> dict[str, Any]:
    """Of the table `nodes`."""
    return {
        "site": node.id.site,
        "node": node.id.node,
        "group_name": node.group,
        "last_seen_ms": None if node.last_seen is None else ms(node.last_seen),
        "changed_ms": ms(at),
        "births": json.dumps([ms(birth) for birth in node.births]),
        "past_boots": json.dumps(node.past_boots),
        "status": text(node.status),
        "info": text(node.info),
        "model": text(node.model),
        "config": text(node.config),
    }


def text(message: Wire | None) -> str | None:
    return None if message is None else message.to_json().decode()


def _read(kind: type[_Message], document: str | None) -> _Message | None:
    if document is None:
        return None
    try:
        return kind.model_validate_json(document)
    except ValidationError:
        return None


class Extras:
    """Rows of the tables that hang on nodes, by node."""

    def __init__(
        self,
        labels: Iterable[Row[*tuple[Any, ...]]],
        telemetry: Iterable[Row[*tuple[Any, ...]]],
        alarms: Iterable[Row[*tuple[Any, ...]]],
    ) -> None:
        self.labels: Mapping[NodeId, dict[str, str]] = _by_node((row, row.name, row.value) for row in labels)
        measured = ((row, row.topic_group, _telemetry(row.topic_group, row.document)) for row in telemetry)
        self.telemetry: Mapping[NodeId, dict[str, Telemetry]] = _by_node(measured)
        active = ((row, row.code, _read(Alarm, row.document)) for row in alarms)
        self.alarms: Mapping[NodeId, dict[str, Alarm]] = _by_node(active)


_Value = TypeVar("_Value")


def _by_node(rows: Iterable[tuple[Row[*tuple[Any, ...]], str, _Value | None]]) -> dict[NodeId, dict[str, _Value]]:
    out: dict[NodeId, dict[str, _Value]] = defaultdict(dict)
    for row, key, value in rows:
        if value is not None:
            out[NodeId(row.site, row.node)][key] = value
    return out


def _telemetry(group: str, document: str) -> Telemetry | None:
    kind = _TELEMETRY.get(group)
    return None if kind is None else _read(kind, document)


def from_row(row: Row[*tuple[Any, ...]], extras: Extras) -> Node:
    node = NodeId(row.site, row.node)
    return Node(
        id=node,
        group=row.group_name,
        labels=extras.labels.get(node, {}),
        last_seen=utc_or_none(row.last_seen_ms),
        births=tuple(utc(birth) for birth in json.loads(row.births)),
        past_boots=tuple(json.loads(row.past_boots)),
        status=_read(Status, row.status),
        info=_read(Info, row.info),
        model=_read(ReportedModel, row.model),
        config=_read(ReportedConfig, row.config),
        telemetry=extras.telemetry.get(node, {}),
        alarms=extras.alarms.get(node, {}),
    )
