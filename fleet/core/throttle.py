"""How often something may be tried, by key: so many at once, then one in a while. Times are seconds of any one clock.

The generic cell rate algorithm (ATM Forum TM 4.0): one number a key, the moment at which all of its tries are paid for.
"""

import ipaddress
from dataclasses import dataclass

OTHERS = ""
"""Shared by all keys that there is no room for: to come under ever new names gets nobody round the limit."""


@dataclass(frozen=True, slots=True)
class Rate:
    """`burst` tries at once; each is paid off in `each_s` seconds."""

    burst: int
    each_s: float

    def __post_init__(self) -> None:
        if self.burst < 1 or not self.each_s > 0:
            raise ValueError("a rate allows at least one try, and takes some time for each")


class Throttle:
    """Not for several threads at once. At most `most_keys` are remembered."""

    def __init__(self, rate: Rate, most_keys: int = 10_000) -> None:
        self._rate = rate
        self._most_keys = most_keys
        self._paid_at: dict[str, float] = {}

    def take(self, key: str, now: float) -> float:
        """Counts a try and returns 0.0; or counts nothing, and returns the seconds until the next one is allowed."""
        key = self._known(key, now)
        ahead = self._ahead(key, now) + self._rate.each_s
        wait = ahead - self._rate.burst * self._rate.each_s
        if wait > 1e-9:
            return wait
        self._paid_at[key] = now + ahead
        return 0.0

    def give_back(self, key: str, now: float) -> None:
        """A try that is not to count, as it was right."""
        key = self._known(key, now)
        ahead = self._ahead(key, now) - self._rate.each_s
        if ahead > 0:
            self._paid_at[key] = now + ahead
        else:
            self._paid_at.pop(key, None)

    def _ahead(self, key: str, now: float) -> float:
        """Bounded: a clock that was set back makes nobody wait longer than a burst takes."""
        ahead, most = self._paid_at.get(key, now) - now, self._rate.burst * self._rate.each_s
        if ahead > most:
            self._paid_at[key] = now + most
        return min(max(0.0, ahead), most)

    def _known(self, key: str, now: float) -> str:
        if key in self._paid_at or len(self._paid_at) < self._most_keys:
            return key
        self._paid_at = {each: at for each, at in self._paid_at.items() if at > now}
        return key if len(self._paid_at) < self._most_keys else OTHERS


def network(address: str) -> str:
    """What stands for a caller: an IPv4 address, or the /64 of an IPv6 one, as that is what one customer has."""
    try:
        found = ipaddress.ip_address(address)
    except ValueError:
        return address[:64]
    if isinstance(found, ipaddress.IPv6Address):
        if found.ipv4_mapped is not None:
            return str(found.ipv4_mapped)
        return str(ipaddress.ip_network((int(found) >> 64 << 64, 64)))
    return str(found)
