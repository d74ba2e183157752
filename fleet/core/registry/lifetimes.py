"""How long signatures hold. Short where a server renews them, long where somebody must fetch a key for it."""

from dataclasses import dataclass
from datetime import datetime, timedelta


@dataclass(frozen=True, slots=True)
class Lifetimes:
    """`timestamp` is how long a board may be fed with old news, and how long a line can go on without the registry."""

    root: timedelta = timedelta(days=730)
    targets: timedelta = timedelta(days=365)
    snapshot: timedelta = timedelta(days=7)
    timestamp: timedelta = timedelta(days=2)

    def of(self, role: str) -> timedelta:
        lifetime: timedelta = getattr(self, role)
        return lifetime


def is_due(expires: datetime, lifetime: timedelta, now: datetime) -> bool:
    """Half of its life is over: one missed renewal hurts nobody."""
    return expires - now < lifetime / 2
