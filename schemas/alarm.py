"""`alarm/{code}`: a state that needs somebody, retained while it lasts; `event/{code}`: something that happened."""

from enum import StrEnum

from pydantic import Field

from schemas.base import Id, Text, UtcTime, Wire
from schemas.codes import FailureCode


class AlarmSeverity(StrEnum):
    INFO = "info"
    WARNING = "warning"
    CRITICAL = "critical"


class AlarmSource(Wire):
    """What the alarm is about: a camera's id, `agent`, `spool`, a lane such as `core-0`."""

    source: Id
    text: Text
    since: UtcTime


class Alarm(Wire):
    """Retained on `alarm/{code}`; an empty payload there clears it. Active while at least one source is."""

    schema_id: str = Field(default="rkfleet.alarm/1", alias="schema")
    code: FailureCode
    severity: AlarmSeverity
    since: UtcTime
    sources: list[AlarmSource] = Field(min_length=1)


class Event(Wire):
    """On `event/{code}`. Alarms also leave an event when they are raised and cleared, so that none is missed."""

    schema_id: str = Field(default="rkfleet.event/1", alias="schema")
    event_id: Id
    code: FailureCode
    severity: AlarmSeverity
    source: Id
    kind: str = Field(pattern=r"^(raised|cleared|happened)$")
    text: Text
    time: UtcTime
