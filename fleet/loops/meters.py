"""What the server tells Prometheus of itself."""

from collections.abc import Callable

from prometheus_client import CollectorRegistry, Counter, Gauge, ProcessCollector


class Meters:
    """One for each process. Gauges that are read off somewhere are given by `watch`."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        self.messages = self._counter("messages", "Messages worked off, by family.", "family")
        self.results = self._counter("results", "Results kept, and duplicates.", "kind")
        self.refused = self._counter("messages_refused", "Messages that were no messages of boards, by why.", "why")
        self.retries = self._counter("retries", "Attempts that failed and were made again, by loop.", "loop")
        self.published = self._counter("desired_published", "Desired states that the broker has taken.")
        self.replays = self._counter("replays", "Gaps asked for, by outcome.", "outcome")
        self.pruned = self._counter("results_pruned", "Results deleted by retention.")
        self.decisions = self._counter("decisions", "Commits of rollouts, by outcome.", "outcome")
        self.rollouts = Gauge("rkfleet_rollouts", "Unfinished rollouts, by state.", ["state"], registry=self.registry)
        self.gaps = Gauge("rkfleet_gaps", "Gaps in results that wait to be filled.", registry=self.registry)
        self.publish_lag = Gauge(
            "rkfleet_publish_lag_seconds", "Age of the oldest desired state not sent.", registry=self.registry
        )

    def watch(self, name: str, text: str, read: Callable[[], float]) -> None:
        Gauge(f"rkfleet_{name}", text, registry=self.registry).set_function(read)

    def _counter(self, name: str, text: str, *labels: str) -> Counter:
        return Counter(f"rkfleet_{name}", text, labels, registry=self.registry)
