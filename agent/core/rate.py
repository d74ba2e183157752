"""When a picture is wanted: rates on the monotonic clock, and the words of a schedule."""

from dataclasses import dataclass, replace

# Early admissions don't raise the mean rate, for due times stay one period apart.
_SLACK_PERIODS, _SLACK_S = 0.5, 0.05


@dataclass(frozen=True, slots=True)
class Rate:
    """A pace that neither drifts nor catches up: after a pause it goes on from now, without a burst.

    Units: period_s between two admissions, 0 for no limit; due_s on the monotonic clock, None before the first.
    """

    period_s: float = 0.0
    due_s: float | None = None

    def __post_init__(self) -> None:
        if not self.period_s >= 0.0:
            raise ValueError(f"a period of {self.period_s} s")

    @classmethod
    def of_hz(cls, rate_hz: float | None) -> "Rate":
        """Return the pace of `rate_hz` admissions a second; None is no limit."""
        if rate_hz is None:
            return cls()
        if not 0.0 < rate_hz < float("inf"):
            raise ValueError(f"a rate of {rate_hz} Hz")
        return cls(1.0 / rate_hz)

    def wait_s(self, now_s: float) -> float:
        """Return how long to wait, 0 when one is due."""
        return 0.0 if self.due_s is None else max(0.0, self.due_s - now_s)

    def admits(self, now_s: float) -> bool:
        """True when one is due, or nearly: a camera of the same rate as this jitters to either side of the due time."""
        return self.wait_s(now_s) <= min(_SLACK_PERIODS * self.period_s, _SLACK_S)

    def taken(self, now_s: float) -> "Rate":
        """Return the pace after an admission at `now_s`: one period after the last due time, or after now if late."""
        if self.due_s is None or now_s - self.due_s >= self.period_s:
            return replace(self, due_s=now_s + self.period_s)
        return replace(self, due_s=self.due_s + self.period_s)


@dataclass(frozen=True, slots=True)
class Continuous:
    """Pictures at a rate, or all that the camera gives."""

    rate_hz: float | None = None


@dataclass(frozen=True, slots=True)
class OnDemand:
    """One picture for each trigger.

    live: the source goes on by itself (RTSP, V4L2), so it is read all the time to stay fresh, and what was not asked
    for is thrown away; False (folder, file) reads only when asked.
    delay_s: how much later than the scene a live source gives its picture; pictures younger than that after the
    trigger show what was there before it.
    within_s: a trigger with no picture by then is missed: a later picture would show another part.
    """

    live: bool = True
    delay_s: float = 0.0
    within_s: float = 2.0


@dataclass(frozen=True, slots=True)
class Interval:
    """Every `seconds`."""

    seconds: float


@dataclass(frozen=True, slots=True)
class Cron:
    """The five fields of crontab(5), with its meaning: minute, hour, day of month, month, day of week."""

    expression: str
