"""What the uplink is told, and whom it tells."""

from collections.abc import Callable
from dataclasses import dataclass

from agent.errors import AgentError
from agent.ports import Connected, Disconnected, Refused, Reset


@dataclass(frozen=True, slots=True)
class UplinkSettings:
    """`window` messages are in flight at most, or the broker's Receive Maximum if that is less.

    Acknowledged rows are marked `mark_rows` at a time or after `mark_after_s`, and at once when a drain has come to its
    end; with `unmarked_rows` that cannot be marked, publishing stops. What has no outcome after `stall_s` is read
    again. `replies` wait at most.
    """

    window: int = 100
    chunk_rows: int = 128
    mark_rows: int = 128
    mark_after_s: float = 0.2
    unmarked_rows: int = 10_000
    replies: int = 64
    stall_s: float = 60.0
    drain_s: float = 2.0
    poll_s: float = 0.25


@dataclass(frozen=True, slots=True)
class UplinkHooks:
    """Called on the uplink's thread; they only put something on a queue. `refused` gets the topic too."""

    changed: Callable[[Connected | Disconnected | Reset], None]
    refused: Callable[[str, Refused], None]
    spool_failed: Callable[[AgentError], None]
