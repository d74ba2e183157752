"""Alarms and events on their way out: the alarm as retained state, each change also as an event in the spool."""

import logging
from collections.abc import Callable
from datetime import datetime
from typing import Protocol

from agent.core.alarms import Alarms, AlarmState, Change, Cleared, Raised, SourceState
from agent.core.outgoing import Outgoing
from agent.errors import AgentError
from agent.loops.outbox import Outbox
from schemas.alarm import Alarm, AlarmSeverity, AlarmSource, Event
from schemas.codes import FailureCode
from schemas.topics import Topics

log = logging.getLogger(__name__)

EVENT_EXPIRY_S = 7 * 86_400
SEVERITY: dict[FailureCode, AlarmSeverity] = {
    FailureCode.BROKER_UNREACHABLE: AlarmSeverity.WARNING,
    FailureCode.NPU_CORE_OUT: AlarmSeverity.WARNING,
    FailureCode.CLOCK_UNSYNCED: AlarmSeverity.WARNING,
    FailureCode.TEMPERATURE_HIGH: AlarmSeverity.WARNING,
    FailureCode.CAMERA_SIZE_CHANGED: AlarmSeverity.WARNING,
    FailureCode.CAMERA_ENDED: AlarmSeverity.INFO,
    FailureCode.PUBLISH_REJECTED: AlarmSeverity.WARNING,
    FailureCode.MESSAGE_MALFORMED: AlarmSeverity.WARNING,
    FailureCode.MESSAGE_TOO_LARGE: AlarmSeverity.WARNING,
    FailureCode.COMMAND_UNKNOWN: AlarmSeverity.INFO,
    FailureCode.COMMAND_INVALID: AlarmSeverity.INFO,
    FailureCode.COMMAND_EXPIRED: AlarmSeverity.INFO,
}
"""Whatever is not named here is critical."""

ALARM_CODES = tuple(
    code for code in FailureCode if not code.startswith(("message-", "command-")) and code is not FailureCode.CANCELED
)
"""What may stand as an alarm; the rest only happens."""


class Desk(Protocol):
    """Where alarms and events are told."""

    def set(self, code: FailureCode, source: str, text: str) -> None: ...

    def clear(self, code: FailureCode, source: str) -> None: ...

    def happened(self, code: FailureCode, source: str, text: str) -> None: ...

    def active(self) -> tuple[AlarmState, ...]: ...


class AlarmDesk:
    """Owned by control. `publish` sends retained state, the outbox keeps events until the broker has them."""

    def __init__(
        self,
        topics: Topics,
        outbox: Outbox,
        publish: Callable[[Outgoing], None],
        now: Callable[[], datetime],
        new_id: Callable[[], str],
    ) -> None:
        self._topics = topics
        self._outbox = outbox
        self._publish = publish
        self._now = now
        self._new_id = new_id
        self._alarms = Alarms()

    def set(self, code: FailureCode, source: str, text: str) -> None:
        """Setting what is set already changes nothing."""
        change = self._alarms.set(code, source, text, severity(code), self._now())
        if change is not None:
            log.warning("alarm %s (%s): %s", code.value, source, text)
        self._tell(change)

    def clear(self, code: FailureCode, source: str) -> None:
        """Clearing what is not set changes nothing."""
        change = self._alarms.clear(code, source)
        if change is not None:
            log.info("alarm %s (%s) is over", code.value, source)
        self._tell(change)

    def clear_source(self, source: str, codes: frozenset[FailureCode]) -> None:
        for code in codes:
            self.clear(code, source)

    def happened(self, code: FailureCode, source: str, text: str) -> None:
        """An event without an alarm."""
        log.warning("%s (%s): %s", code.value, source, text)
        self._event(code, SourceState(source, text[:2000], severity(code), self._now()), "happened")

    def republish(self, *, clear_others: bool) -> None:
        """All active alarms again; `clear_others` also empties what an earlier process may have left retained."""
        active = self._alarms.active()
        for alarm in active:
            self._publish(self._retained(alarm))
        if clear_others:
            codes = {alarm.code for alarm in active}
            for code in ALARM_CODES:
                if code not in codes:
                    self._publish(Outgoing(self._topics.alarm(code), b"", retain=True))

    def active(self) -> tuple[AlarmState, ...]:
        return self._alarms.active()

    def _tell(self, change: Change | None) -> None:
        if change is None:
            return
        alarm = change.alarm
        if isinstance(change, Cleared):
            self._publish(Outgoing(self._topics.alarm(alarm.code), b"", retain=True))
        else:
            self._publish(self._retained(alarm))
        is_set = isinstance(change, Raised) or change.source in alarm.sources
        self._event(alarm.code, change.source, "raised" if is_set and not isinstance(change, Cleared) else "cleared")

    def _retained(self, alarm: AlarmState) -> Outgoing:
        message = Alarm(
            code=alarm.code,
            severity=alarm.severity,
            since=alarm.since,
            sources=[AlarmSource(source=one.source, text=one.text, since=one.since) for one in alarm.sources],
        )
        return Outgoing(self._topics.alarm(alarm.code), message.to_json(), retain=True)

    def _event(self, code: FailureCode, source: SourceState, kind: str) -> None:
        event = Event(
            event_id=self._new_id(),
            code=code,
            severity=source.severity,
            source=source.source,
            kind=kind,
            text=source.text,
            time=self._now(),
        )
        try:
            self._outbox.event(Outgoing(self._topics.event(code), event.to_json(), expiry_s=EVENT_EXPIRY_S))
        except AgentError as error:
            # The alarm itself stands as retained state; only its trace in the event log is lost.
            log.error("event %s is not kept: %s", code.value, error.text)


def severity(code: FailureCode) -> AlarmSeverity:
    return SEVERITY.get(code, AlarmSeverity.CRITICAL)
