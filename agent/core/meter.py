"""Latencies and counts over an interval, in little and constant memory."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType

LEAST_MS = 0.01
MOST_MS = 100_000.0
GROWTH = 1.04
"""Upper over lower edge of a bucket: a percentile is within 2 % (the root of this) of the true value."""

_LOG_GROWTH = math.log(GROWTH)
_BUCKETS = math.ceil(math.log(MOST_MS / LEAST_MS) / _LOG_GROWTH)
_BELOW, _ABOVE = 0, _BUCKETS + 1


def _no_counts() -> list[int]:
    return [0] * (_BUCKETS + 2)


@dataclass(slots=True)
class Histogram:
    """Latencies in ms, in log-spaced buckets from LEAST_MS to MOST_MS and one on either side. Owned by one thread.

    `count`, `mean_ms`, `min_ms` and `max_ms` are exact. While nothing was added, `min_ms` is infinite and the others
    and every percentile are 0. The fields are for reading.
    """

    count: int = 0
    sum_ms: float = 0.0
    min_ms: float = math.inf
    max_ms: float = 0.0
    buckets: list[int] = field(default_factory=_no_counts, repr=False)

    def add(self, latency_ms: float) -> None:
        """Raises ValueError for what is no duration: negative, infinite or NaN."""
        if not 0 <= latency_ms < math.inf:
            raise ValueError(f"{latency_ms} ms is no latency")
        self.buckets[_bucket(latency_ms)] += 1
        self.count += 1
        self.sum_ms += latency_ms
        self.min_ms = min(self.min_ms, latency_ms)
        self.max_ms = max(self.max_ms, latency_ms)

    def merge(self, other: "Histogram") -> None:
        """Add all that the other one has seen; the other one is not changed."""
        self.buckets = [mine + theirs for mine, theirs in zip(self.buckets, other.buckets, strict=True)]
        self.count += other.count
        self.sum_ms += other.sum_ms
        self.min_ms = min(self.min_ms, other.min_ms)
        self.max_ms = max(self.max_ms, other.max_ms)

    def take(self) -> "Histogram":
        """What was seen so far, as a histogram of its own; this one starts again from nothing."""
        taken = replace(self)
        self.count, self.sum_ms, self.min_ms, self.max_ms, self.buckets = 0, 0.0, math.inf, 0.0, _no_counts()
        return taken

    @property
    def mean_ms(self) -> float:
        return self.sum_ms / self.count if self.count else 0.0

    def percentile(self, percent: float) -> float:
        """The least latency (ms) that `percent` of all do not exceed (nearest rank); exact for 0 and 100.

        Within 2 % between LEAST_MS and MOST_MS; below, between the true minimum and LEAST_MS; above, the maximum.
        Raises ValueError outside 0 to 100.
        """
        if not 0 <= percent <= 100:
            raise ValueError(f"{percent} is no percentile")
        rank = max(1, math.ceil(self.count * percent / 100))
        if rank >= self.count:
            return self.max_ms
        if rank == 1:
            return self.min_ms
        seen = 0
        for bucket, held in enumerate(self.buckets):
            seen += held
            if seen >= rank:
                return min(self.max_ms, max(self.min_ms, _middle_ms(bucket)))
        raise AssertionError("the buckets hold as many as were counted")


@dataclass(frozen=True, slots=True)
class StageLatency:
    """One stage over one interval."""

    count: int
    p50_ms: float
    p95_ms: float
    p99_ms: float
    max_ms: float


@dataclass(frozen=True, slots=True)
class Snapshot:
    """One interval: stages that ran in it, and counts. Both are read-only."""

    interval_s: float
    stages: Mapping[str, StageLatency]
    counts: Mapping[str, int]

    def rate_hz(self, name: str) -> float:
        """Counts a second; 0 for a name that was not counted, or an interval without length."""
        return self.counts.get(name, 0) / self.interval_s if self.interval_s > 0 else 0.0


class Meter:
    """Named stages and counters. Owned by one thread; where two meet, the owner's lock belongs to the loop.

    Times are of the monotonic clock, in s. Several lanes keep a meter each, and `merge` brings them together.
    `stages` and `counts` are for reading.
    """

    def __init__(self, started_s: float) -> None:
        self._started_s = started_s
        self.stages: dict[str, Histogram] = {}
        self.counts: dict[str, int] = {}

    def observe(self, stage: str, latency_ms: float) -> None:
        """Raises ValueError for what is no duration."""
        self.stages.setdefault(stage, Histogram()).add(latency_ms)

    def count(self, name: str, more: int = 1) -> None:
        self.counts[name] = self.counts.get(name, 0) + more

    def merge(self, other: "Meter") -> None:
        """Add all that the other one holds; the interval is that of this one."""
        for stage, histogram in other.stages.items():
            self.stages.setdefault(stage, Histogram()).merge(histogram)
        for name, number in other.counts.items():
            self.count(name, number)

    def take(self, now_s: float) -> Snapshot:
        """The interval since the last take, or since the start; the next one begins now."""
        stages = {stage: _summary(histogram) for stage, histogram in self.stages.items()}
        taken = Snapshot(max(0.0, now_s - self._started_s), MappingProxyType(stages), MappingProxyType(self.counts))
        self._started_s, self.stages, self.counts = now_s, {}, {}
        return taken


def _bucket(latency_ms: float) -> int:
    if latency_ms < LEAST_MS:
        return _BELOW
    if latency_ms >= MOST_MS:
        return _ABOVE
    return min(_BUCKETS, 1 + int(math.log(latency_ms / LEAST_MS) / _LOG_GROWTH))


def _middle_ms(bucket: int) -> float:
    """Halfway by ratio. The caller holds it within what was really seen: that gives the outer buckets their value."""
    if bucket == _BELOW:
        return 0.0
    return math.inf if bucket == _ABOVE else LEAST_MS * GROWTH ** (bucket - 0.5)


def _summary(histogram: Histogram) -> StageLatency:
    p50_ms, p95_ms, p99_ms = (histogram.percentile(percent) for percent in (50, 95, 99))
    return StageLatency(histogram.count, p50_ms, p95_ms, p99_ms, histogram.max_ms)
