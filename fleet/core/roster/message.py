"""Reading a board's message: hostile bytes in, a typed message or BadMessage out."""

from dataclasses import dataclass
from datetime import datetime

from pydantic import ValidationError

from fleet.core.roster.node import NodeId
from schemas.alarm import Alarm, Event
from schemas.base import Wire
from schemas.job import JobExecution
from schemas.result import Result
from schemas.state import ReportedConfig, ReportedModel
from schemas.status import Info, Status
from schemas.telemetry import HostTelemetry, InspectionTelemetry, SpoolTelemetry
from schemas.topics import BadTopic, Parsed, parse

MAX_BYTES = 1_048_576
_KINDS: dict[tuple[str, str], type[Wire]] = {
    ("status", ""): Status,
    ("info", ""): Info,
    ("reported", "model"): ReportedModel,
    ("reported", "config"): ReportedConfig,
    ("telemetry", "inspection"): InspectionTelemetry,
    ("telemetry", "spool"): SpoolTelemetry,
    ("telemetry", "host"): HostTelemetry,
}
_FAMILIES: dict[str, type[Wire]] = {"result": Result, "event": Event, "alarm": Alarm}


class BadMessage(ValueError):
    """Not a message that a board of ours sends; it changes nothing."""


@dataclass(frozen=True, slots=True)
class Heard:
    """A message of `node`, received at `at` by the fleet's clock. `message` is None for an alarm that is cleared.

    `name` is the camera, the telemetry group, the code or the job. `is_retained`: it comes from the broker's store and
    says nothing about when it was sent.
    """

    node: NodeId
    family: str
    name: str
    message: Wire | None
    at: datetime
    is_retained: bool = False


def read(topic: str, payload: bytes, at: datetime, *, is_retained: bool = False) -> Heard:
    """Raises BadMessage, also for a board that speaks in another's name."""
    try:
        parts = parse(topic)
    except BadTopic as error:
        raise BadMessage(str(error)) from None
    kind = _kind(parts)
    if kind is None:
        raise BadMessage(f"{topic[:200]!r} is nothing that the roster reads")
    if len(payload) > MAX_BYTES:
        raise BadMessage(f"{topic}: {len(payload)} bytes, at most {MAX_BYTES} are read")
    node = NodeId(parts.site, parts.node)
    if parts.family == "alarm" and not payload:
        return Heard(node, parts.family, parts.name, None, at, is_retained)
    try:
        message = kind.model_validate_json(payload)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        where = ".".join(str(part) for part in first["loc"])
        raise BadMessage(f"{topic}: {where or 'the message'}: {first['msg']}"[:500]) from None
    _is_consistent(node, parts.name, message)
    return Heard(node, parts.family, parts.name, message, at, is_retained)


def _kind(parts: Parsed) -> type[Wire] | None:
    if parts.family == "job":
        return JobExecution if parts.tail == "status" else None
    return _KINDS.get((parts.family, parts.name)) or _FAMILIES.get(parts.family)


def _is_consistent(node: NodeId, name: str, message: Wire) -> None:
    """The broker's access list holds the topic; the payload must say the same."""
    if isinstance(message, Info | Result):
        said = NodeId(message.station.site, message.station.node)
        if said != node:
            raise BadMessage(f"{node} speaks as {said}")
    if isinstance(message, Result) and message.station.camera != name:
        raise BadMessage(f"{node}: a result of camera {message.station.camera} on the topic of {name}")
    if isinstance(message, Alarm | Event) and message.code != name:
        raise BadMessage(f"{node}: {message.code} on the topic of {name}")
    if isinstance(message, JobExecution) and message.job_id != name:
        raise BadMessage(f"{node}: job {message.job_id} on the topic of {name}")
