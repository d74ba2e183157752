"""How long to wait before the next attempt: exponential with full jitter.

Full jitter spreads the boards of a line that lost the same switch; source: M. Brooker, "Exponential Backoff And
Jitter", AWS Architecture Blog.
"""

from dataclasses import dataclass, replace

_MOST_DOUBLINGS = 62  # 2.0 ** failures must stay a float however long an outage lasts


@dataclass(frozen=True, slots=True)
class Backoff:
    """Retry state. Units: seconds; `failures` counts attempts in a row that failed."""

    first_s: float = 0.5
    most_s: float = 30.0
    failures: int = 0

    def __post_init__(self) -> None:
        if not 0.0 < self.first_s <= self.most_s:
            raise ValueError(f"a backoff from {self.first_s} s to {self.most_s} s")

    @property
    def ceiling_s(self) -> float:
        """The longest wait that may follow now."""
        return min(self.most_s, self.first_s * 2.0 ** min(self.failures, _MOST_DOUBLINGS))

    def failed(self, random: float) -> tuple["Backoff", float]:
        """Return the next state and the wait in seconds, uniform in [0, ceiling_s); `random` is uniform in [0, 1)."""
        if not 0.0 <= random < 1.0:
            raise ValueError(f"random is {random}, not in [0, 1)")
        return replace(self, failures=self.failures + 1), random * self.ceiling_s

    def succeeded(self) -> "Backoff":
        return replace(self, failures=0)
