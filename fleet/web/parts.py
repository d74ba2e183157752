"""What the API is made of."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from prometheus_client import CollectorRegistry
from starlette.routing import BaseRoute

from fleet.core.throttle import Rate
from fleet.ports import Audit, Boards, Jobs, Passwords, Results, Rollouts, Roster, Users


@dataclass(frozen=True, slots=True)
class ModelEntry:
    """A published model. `targets` are those of its variants."""

    name: str
    version: str
    manifest_sha256: str
    targets: tuple[str, ...]
    published_at: datetime | None = None


_LOGIN_RATE = Rate(burst=10, each_s=30.0)
_ADDRESS_RATE = Rate(burst=50, each_s=5.0)


@dataclass(frozen=True, slots=True)
class ApiSettings:
    """`password_checks` run at once, 64 MB each; `waiting_logins` more may wait for their turn.

    Wrong logins: `login_rate` for one name, `address_rate` for one address.
    """

    metrics_need_token: bool = True
    most_body_bytes: int = 1 << 20
    most_target_bytes: int = 8192
    """Of path and query together."""
    body_timeout_s: float = 30.0
    login_hours: float = 12.0
    password_checks: int = 2
    waiting_logins: int = 32
    login_rate: Rate = _LOGIN_RATE
    address_rate: Rate = _ADDRESS_RATE
    board_calls: int = 200
    """Boards that are asked at once, over all requests; each call blocks a thread for as long as the board takes."""
    exports: int = 8
    live_listeners: int = 200
    live_interval_s: float = 1.0
    live_heartbeat_s: float = 15.0
    live_backlog: int = 2000
    """Events that a listener may be behind before it is cut off."""
    live_send_timeout_s: float = 20.0


@dataclass(frozen=True, slots=True)
class ApiParts:
    """`models`, `problems` and `now` may be called by any thread. `routes` are the registry's files, below /registry;
    `problems` is empty when all is well, else part to text.
    """

    roster: Roster
    rollouts: Rollouts
    results: Results
    audit: Audit
    users: Users
    passwords: Passwords
    boards: Boards
    jobs: Jobs
    models: Callable[[], Sequence[ModelEntry]]
    routes: Sequence[BaseRoute]
    problems: Callable[[], Mapping[str, str]]
    metrics: CollectorRegistry
    now: Callable[[], datetime]
    settings: ApiSettings
