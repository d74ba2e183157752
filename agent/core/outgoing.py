"""Messages on their way in and out, as plain values."""

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum


class Kind(StrEnum):
    """What a spooled message is; decides what goes first when space runs out."""

    RESULT = "result"
    EVENT = "event"
    TELEMETRY = "telemetry"


@dataclass(frozen=True, slots=True)
class Outgoing:
    """One message to publish. An empty payload with `retain` clears the topic.

    Units: expiry_s in seconds from the moment of publishing, None for never.
    """

    topic: str
    payload: bytes
    qos: int = 1
    retain: bool = False
    expiry_s: int | None = None
    content_type: str | None = "application/json"
    correlation: bytes | None = None


@dataclass(frozen=True, slots=True)
class Place:
    """Where a result stands in the sequence of one boot; readers see gaps by it."""

    boot_id: str
    sequence_number: int


@dataclass(frozen=True, slots=True)
class Spooled:
    """A committed message. `row` grows with the order of commits."""

    row: int
    kind: Kind
    message: Outgoing
    created_at: datetime


@dataclass(frozen=True, slots=True)
class Incoming:
    """One message as it came from the broker: nothing in it is trusted."""

    topic: str
    payload: bytes
    received_at: datetime
    retain: bool = False
    response_topic: str | None = None
    correlation: bytes | None = None


@dataclass(frozen=True, slots=True)
class Accepted:
    """An incoming message in the inbox, not yet worked off."""

    row: int
    message: Incoming
