"""What the reader of the demonstration knows, from messages alone."""

from dataclasses import dataclass, field

from pydantic import ValidationError

from fleet.adapters.subscriber_paho import Received
from fleet.core.swap import Mark
from fleet.core.tally import Tally
from schemas.alarm import Alarm, Event
from schemas.codes import FailureCode
from schemas.result import Result
from schemas.state import ReportedModel
from schemas.status import Info, Presence, Status
from schemas.telemetry import HostTelemetry, InspectionTelemetry
from schemas.topics import BadTopic, parse


@dataclass(slots=True)
class Seen:
    """Owned by one thread."""

    tally: Tally = field(default_factory=Tally)
    latest: Result | None = None
    exhibits: list[Result] = field(default_factory=list)
    info: Info | None = None
    goodbye: Status | None = None
    inspection: InspectionTelemetry | None = None
    measured: InspectionTelemetry | None = None
    """The interval with the most results."""
    host: HostTelemetry | None = None
    memory_bytes: int = 0
    children_memory_bytes: int = 0
    alarms: dict[str, Alarm] = field(default_factory=dict)
    reported: ReportedModel | None = None
    ends: dict[int, ReportedModel] = field(default_factory=dict)
    """The last report of each generation."""
    marks: list[Mark] = field(default_factory=list)
    refused: str = ""
    """What the board said of a message that it does not obey."""
    malformed: int = 0

    def take(self, message: Received) -> None:
        try:
            self._sort(message)
        except (ValidationError, BadTopic):
            self.malformed += 1

    def _sort(self, message: Received) -> None:
        topic = parse(message.topic)
        match topic.family, topic.name:
            case "result", _:
                self._result(Result.model_validate_json(message.payload))
            case "status", _:
                status = Status.model_validate_json(message.payload)
                self.goodbye = status if status.presence is Presence.OFFLINE else None
            case "info", _:
                self.info = Info.model_validate_json(message.payload)
            case "telemetry", group:
                self._telemetry(group, message.payload)
            case "reported", "model":
                self.reported = ReportedModel.model_validate_json(message.payload)
                self.ends[self.reported.observed_generation] = self.reported
            case "event", FailureCode.SIGNATURE_INVALID:
                self.refused = Event.model_validate_json(message.payload).text
            case "alarm", code if message.payload:
                self.alarms[code] = Alarm.model_validate_json(message.payload)
            case "alarm", code:
                self.alarms.pop(code, None)

    def _telemetry(self, group: str, payload: bytes) -> None:
        if group == "inspection":
            self.inspection = InspectionTelemetry.model_validate_json(payload)
            if self.measured is None or _results(self.inspection) >= _results(self.measured):
                self.measured = self.inspection
        elif group == "host":
            self.host = HostTelemetry.model_validate_json(payload)
            self.memory_bytes = max(self.memory_bytes, self.host.memory_bytes)
            self.children_memory_bytes = max(self.children_memory_bytes, self.host.children_memory_bytes)

    def _result(self, result: Result) -> None:
        if self.tally.add(result):
            self.latest = result
            self.marks.append(Mark.of(result))
            if result.evidence and result.defects:
                self.exhibits.append(result)


def _results(telemetry: InspectionTelemetry) -> int:
    return sum(telemetry.results_by_evaluation.values())
