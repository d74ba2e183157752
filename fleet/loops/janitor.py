"""Retention: results that are too old or too many are deleted, a few at a time."""

import logging
import threading
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta

from fleet.errors import Retryable
from fleet.loops.lead import Lead
from fleet.loops.meters import Meters
from fleet.ports import Results

log = logging.getLogger(__name__)
_BETWEEN_S = 0.2


@dataclass(frozen=True, slots=True)
class Retention:
    """None keeps all."""

    keep: timedelta | None = None
    keep_most: int | None = None
    every_s: float = 600.0
    batch: int = 2000


class Janitor:
    """Tidies up while this process leads."""

    def __init__(self, results: Results, lead: Lead, retention: Retention, meters: Meters) -> None:
        self._results = results
        self._lead = lead
        self._retention = retention
        self._meters = meters

    def run(self, stop: threading.Event, now: Callable[[], datetime]) -> None:
        while not stop.is_set():
            if self._lead.lease is not None:
                try:
                    self.turn(now(), stop)
                except Retryable as error:
                    self._meters.retries.labels("janitor").inc()
                    log.warning("old results wait: %s", error.text)
            stop.wait(self._retention.every_s)

    def turn(self, now: datetime, stop: threading.Event) -> int:
        """Returns how many were deleted. Between batches others may write. Errors: Retryable."""
        keep, most = self._retention.keep, self._retention.keep_most
        if keep is None and most is None:
            return 0
        deleted = 0
        while count := self._results.prune(None if keep is None else now - keep, most, self._retention.batch):
            deleted += count
            self._meters.pruned.inc(count)
            if stop.wait(_BETWEEN_S) or self._lead.lease is None:
                break
        return deleted
