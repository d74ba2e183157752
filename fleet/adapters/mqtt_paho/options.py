"""How to reach the broker."""

from dataclasses import dataclass, field
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Tls:
    """PEM files, read anew for each connection. `ca` None trusts the system's authorities."""

    ca: Path | None = None
    certificate: Path | None = None
    key: Path | None = None


@dataclass(frozen=True, slots=True)
class LinkOptions:
    """`session_expiry_s`: how long the broker keeps messages for us while we are away. `window`: most messages that it
    sends before we acknowledge one. A larger packet than `max_packet_bytes` is not sent to us at all.
    """

    host: str
    client_id: str
    port: int = 1883
    username: str | None = None
    password: str | None = field(default=None, repr=False)
    tls: Tls | None = None
    keepalive_s: int = 15
    session_expiry_s: int = 300
    window: int = 2000
    max_packet_bytes: int = 4 * 1_048_576
    connect_timeout_s: float = 5.0
    reconnect_min_s: float = 0.5
    reconnect_max_s: float = 30.0


@dataclass(frozen=True, slots=True)
class BatchOptions:
    """A batch is whole at `most` messages, `flush_s` after its first one, or when none came for `idle_s`: what comes
    one by one is not kept waiting.
    """

    most: int = 1000
    flush_s: float = 0.2
    idle_s: float = 0.02
    most_waiting: int = 20_000
