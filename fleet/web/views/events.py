"""Alarms and events, of boards and of the fleet itself."""

from typing import Self

from fleet.core.roster import NodeId
from fleet.ports import StoredEvent
from schemas.alarm import Alarm, AlarmSeverity, AlarmSource
from schemas.base import UtcTime, Wire


class NodeAlarm(Wire):
    node: str
    code: str
    severity: AlarmSeverity
    since: UtcTime
    sources: list[AlarmSource]

    @classmethod
    def of(cls, node: NodeId, alarm: Alarm) -> Self:
        return cls.model_construct(
            node=str(node), code=alarm.code.value, severity=alarm.severity, since=alarm.since, sources=alarm.sources
        )


class Alarms(Wire):
    alarms: list[NodeAlarm]


class EventView(Wire):
    """`node` is null for the fleet's own events. `at` is by the clock of whoever tells it."""

    event_id: str
    node: str | None
    code: str
    severity: AlarmSeverity
    kind: str
    source: str
    text: str
    at: UtcTime

    @classmethod
    def of(cls, event: StoredEvent) -> Self:
        return cls(
            event_id=event.event_id,
            node=None if event.node is None else str(event.node),
            code=event.code,
            severity=event.severity,
            kind=event.kind,
            source=event.source,
            text=event.text,
            at=event.at,
        )


class EventPage(Wire):
    """Newest first. `next` is `before` of the next page; events of its millisecond may come twice, `eventId` tells."""

    events: list[EventView]
    next: UtcTime | None
