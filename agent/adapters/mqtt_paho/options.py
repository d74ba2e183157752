"""How to reach the broker."""

from dataclasses import dataclass, field
from pathlib import Path

from agent.errors import Permanent
from schemas.codes import FailureCode

_MOST_IN_FLIGHT = 65_535  # packet identifiers have 16 bits
_LONGEST_KEEPALIVE_S = 65_535


@dataclass(frozen=True, slots=True)
class Tls:
    """PEM files, read anew for each connection so that a renewed certificate is used without a restart.

    `ca` None trusts the system's authorities. `key` None: the certificate's file holds the key too.
    """

    ca: Path | None = None
    certificate: Path | None = None
    key: Path | None = None


@dataclass(frozen=True, slots=True)
class LinkOptions:
    """Units in names.

    `window`: most messages in flight; the broker's Receive Maximum can make it smaller.
    `max_payload_bytes`: a larger incoming message is acknowledged and reported, never accepted.
    `max_packet_bytes`: the broker is told to send nothing larger at all, so that a hostile publisher cannot fill the
    memory of the board; such a message never arrives and is not reported.
    `session_expiry_s`: how long the broker keeps commands for us while we are away.
    `subscriptions`: topic filter and QoS (0 or 1).
    Errors: Permanent(CONFIG_INVALID).
    """

    host: str
    client_id: str
    port: int = 1883
    username: str | None = None
    password: str | None = field(default=None, repr=False)
    tls: Tls | None = None
    subscriptions: tuple[tuple[str, int], ...] = ()
    keepalive_s: int = 30
    session_expiry_s: int = 7 * 86_400
    window: int = 100
    max_payload_bytes: int = 262_144
    max_packet_bytes: int = 4 * 1_048_576
    connect_timeout_s: float = 5.0
    reconnect_min_s: float = 1.0
    reconnect_max_s: float = 60.0

    def __post_init__(self) -> None:
        checks = (
            (bool(self.host), "the broker's host is empty"),
            (0 < self.port < 65_536, f"the broker's port is {self.port}"),
            (bool(self.client_id), "the client id is empty: the session would not be ours after a reconnect"),
            (0 < self.window <= _MOST_IN_FLIGHT, f"the window is {self.window}, not 1 to {_MOST_IN_FLIGHT}"),
            (0 < self.keepalive_s <= _LONGEST_KEEPALIVE_S, f"keepalive is {self.keepalive_s} s"),
            (0 <= self.session_expiry_s < 2**32, f"session expiry is {self.session_expiry_s} s"),
            (0 < self.max_payload_bytes <= self.max_packet_bytes, "max_payload_bytes is not within max_packet_bytes"),
            (self.max_packet_bytes < 2**28, "max_packet_bytes is above MQTT's 256 MB"),
            (self.connect_timeout_s > 0, f"the connect timeout is {self.connect_timeout_s} s"),
            (0 < self.reconnect_min_s <= self.reconnect_max_s, "the reconnect delays are not in order"),
            (self.tls is None or self.tls.key is None or self.tls.certificate is not None, "a key without certificate"),
        )
        faults = [text for holds, text in checks if not holds]
        faults += [f"{name!r} at QoS {qos}" for name, qos in self.subscriptions if not name or qos not in {0, 1}]
        if faults:
            raise Permanent(FailureCode.CONFIG_INVALID, "MQTT: " + "; ".join(faults))
