"""Which alarms are on: one for each code, held up by its sources (cameras, lanes, the spool)."""

from dataclasses import dataclass, replace
from datetime import datetime

from schemas.alarm import AlarmSeverity
from schemas.codes import FailureCode

TEXT_CHARS = 2000
"""What the wire takes (schemas.base.Text); longer text is cut."""

_RANK = {severity: rank for rank, severity in enumerate((AlarmSeverity.INFO, AlarmSeverity.WARNING,
                                                         AlarmSeverity.CRITICAL))}  # fmt: skip


@dataclass(frozen=True, slots=True)
class SourceState:
    """One source of an alarm; `since` is when it was set first."""

    source: str
    text: str
    severity: AlarmSeverity
    since: datetime


@dataclass(frozen=True, slots=True)
class AlarmState:
    """An alarm of one code with at least one source, in the order of their names."""

    code: FailureCode
    since: datetime
    sources: tuple[SourceState, ...]

    @property
    def severity(self) -> AlarmSeverity:
        """That of the worst source."""
        return max((source.severity for source in self.sources), key=_RANK.__getitem__)


@dataclass(frozen=True, slots=True)
class Raised:
    """The first source was set."""

    alarm: AlarmState
    source: SourceState


@dataclass(frozen=True, slots=True)
class Changed:
    """A source came or went while others hold the alarm up, or its severity changed; `source` is the one."""

    alarm: AlarmState
    source: SourceState


@dataclass(frozen=True, slots=True)
class Cleared:
    """The last source was cleared; `alarm` is as it was just before."""

    alarm: AlarmState
    source: SourceState


Change = Raised | Changed | Cleared


class Alarms:
    """Set and clear by (code, source). Owned by one thread.

    The same source set again is no change, even when its text differs: texts carry counters and times, and would make
    a retained message flap. The newer text is kept and goes out with the next change, or when `active` is published
    again. Another severity is a change.
    """

    def __init__(self) -> None:
        self._alarms: dict[FailureCode, AlarmState] = {}

    def set(self, code: FailureCode, source: str, text: str, severity: AlarmSeverity, at: datetime) -> Change | None:
        new = SourceState(source, text[:TEXT_CHARS], severity, at)
        alarm = self._alarms.get(code)
        if alarm is None:
            self._alarms[code] = AlarmState(code, at, (new,))
            return Raised(self._alarms[code], new)
        old = _find(alarm, source)
        if old is not None:
            new = replace(new, since=old.since)
        others = [one for one in alarm.sources if one is not old]
        self._alarms[code] = replace(alarm, sources=tuple(sorted([*others, new], key=lambda one: one.source)))
        if old is not None and old.severity is severity:
            return None
        return Changed(self._alarms[code], new)

    def clear(self, code: FailureCode, source: str) -> Changed | Cleared | None:
        """None when this source was not set."""
        alarm = self._alarms.get(code)
        gone = _find(alarm, source) if alarm else None
        if alarm is None or gone is None:
            return None
        left = tuple(one for one in alarm.sources if one is not gone)
        if not left:
            del self._alarms[code]
            return Cleared(alarm, gone)
        self._alarms[code] = replace(alarm, sources=left)
        return Changed(self._alarms[code], gone)

    def clear_source(self, source: str) -> tuple[Changed | Cleared, ...]:
        """Clear all that a source holds up: it was taken away, a camera for example."""
        changes = [self.clear(code, source) for code in list(self._alarms)]
        return tuple(change for change in changes if change is not None)

    def active(self) -> tuple[AlarmState, ...]:
        """All alarms that are on, in the order of their codes: what to publish after a reconnect."""
        return tuple(self._alarms[code] for code in sorted(self._alarms))


def _find(alarm: AlarmState, source: str) -> SourceState | None:
    return next((one for one in alarm.sources if one.source == source), None)
