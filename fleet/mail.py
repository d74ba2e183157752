"""What passes between the broker and the server's loops: ports of the link, and its messages."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

ROOT = "rkfleet-fleet/v1"
"""Topics of the fleet's own. Outside `rkfleet/v1`, for boards answer nobody there."""


@dataclass(frozen=True, slots=True)
class Letter:
    """A message that has come. `settle` acknowledges it: call it when what it says is kept. Any thread may."""

    topic: str
    payload: bytes
    at: datetime
    is_retained: bool
    settle: Callable[[], None]


@dataclass(frozen=True, slots=True)
class Sending:
    """A message to publish at QoS 1. `expiry_s`: how long the broker may keep it for who is away; None is for ever."""

    topic: str
    payload: bytes
    retain: bool = False
    expiry_s: int | None = None


class Postbox(Protocol):
    """What boards say, in order of arrival. For one reader."""

    @property
    def depth(self) -> int:
        """Messages that wait."""
        ...

    @property
    def dropped(self) -> int:
        """Telemetry (QoS 0) that came while too much waited."""
        ...

    def take(self, wait_s: float) -> list[Letter]:
        """A batch; empty where none came in time."""
        ...


class Post(Protocol):
    """The way to the boards. Any thread may call."""

    @property
    def is_connected(self) -> bool: ...

    @property
    def connections(self) -> int:
        """How often it has connected: what a broker kept may be gone after each."""
        ...

    def publish(self, sendings: Sequence[Sending], timeout_s: float) -> list[bool]:
        """Which of them the broker has acknowledged in time. All False while it is away."""
        ...

    def request(self, sending: Sending, timeout_s: float) -> bytes | None:
        """Publish with a response topic; the first answer, or None. Errors: Retryable(UNAVAILABLE)."""
        ...

    def retained(self, topic: str, timeout_s: float) -> bytes | None:
        """What the broker keeps on a topic; None for nothing within the time. Errors: Retryable(UNAVAILABLE)."""
        ...
