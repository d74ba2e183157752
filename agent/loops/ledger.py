"""What each model has done lately, for the comparison of a new one with the one before."""

import threading
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field

from agent.core.health import Seen
from schemas.recipe import Evaluation

RECENT = 500
"""Results that stand for the model before, and the most of which a p95 is taken."""


@dataclass(slots=True)
class _Account:
    recent: deque[tuple[Evaluation, float]] = field(default_factory=lambda: deque(maxlen=RECENT))
    counts: dict[Evaluation, int] = field(default_factory=dict)


class Ledger:
    """Lanes add, control reads. `watched` is called after each entry while somebody watches."""

    def __init__(self, watched: Callable[[], None]) -> None:
        self._lock = threading.Lock()
        self._watched = watched
        self._accounts: dict[str, _Account] = {}
        self.is_watched = False

    def recorded(self, manifest_sha256: str, evaluation: Evaluation, processing_ms: float) -> None:
        """One committed result; an undefined evaluation is a fault."""
        with self._lock:
            account = self._accounts.setdefault(manifest_sha256, _Account())
            account.recent.append((evaluation, processing_ms))
            account.counts[evaluation] = account.counts.get(evaluation, 0) + 1
        if self.is_watched:
            self._watched()

    def begin(self, manifest_sha256: str) -> None:
        """Count anew."""
        with self._lock:
            self._accounts[manifest_sha256] = _Account()

    def keep(self, manifest_sha256s: frozenset[str]) -> None:
        """Forget all others."""
        with self._lock:
            self._accounts = {sha256: each for sha256, each in self._accounts.items() if sha256 in manifest_sha256s}

    def recent(self, manifest_sha256: str) -> Seen:
        """The last RECENT results."""
        with self._lock:
            rows = list(self._account(manifest_sha256).recent)
        counts: dict[Evaluation, int] = {}
        for evaluation, _ in rows:
            counts[evaluation] = counts.get(evaluation, 0) + 1
        return _seen(counts, rows)

    def whole(self, manifest_sha256: str) -> Seen:
        """All since `begin`; the p95 is of the last RECENT."""
        with self._lock:
            account = self._account(manifest_sha256)
            counts, rows = dict(account.counts), list(account.recent)
        return _seen(counts, rows)

    def _account(self, manifest_sha256: str) -> _Account:
        return self._accounts.get(manifest_sha256) or _Account()


def _seen(counts: dict[Evaluation, int], rows: list[tuple[Evaluation, float]]) -> Seen:
    faults = counts.get(Evaluation.UNDEFINED, 0)
    times_ms = [ms for evaluation, ms in rows if evaluation is not Evaluation.UNDEFINED]
    return Seen(
        results=sum(counts.values()) - faults,
        not_ok=counts.get(Evaluation.NOT_OK, 0),
        undecidable=counts.get(Evaluation.NOT_DECIDABLE, 0),
        faults=faults,
        p95_ms=_p95(times_ms),
    )


def _p95(values: list[float]) -> float:
    """Between the two nearest, as numpy does; asked for with each result of a probation, where numpy takes ten times as
    long.
    """
    if not values:
        return 0.0
    in_order, place = sorted(values), 0.95 * (len(values) - 1)
    below = int(place)
    above = in_order[min(below + 1, len(values) - 1)]
    return in_order[below] + (place - below) * (above - in_order[below])
