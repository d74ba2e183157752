"""Who leads: one process of all decides, publishes, asks for what is missing, and tidies up."""

import logging
import threading
from collections.abc import Callable
from datetime import datetime

from fleet.errors import FleetError, Retryable
from fleet.ports import Lease, Lock

log = logging.getLogger(__name__)
NAME = "controller"


class Lead:
    """Holds the lease, or waits for it. Other loops ask `lease`."""

    def __init__(self, lock: Lock, owner: str, now: Callable[[], datetime], lease_s: float = 30.0) -> None:
        self._lock = lock
        self._owner = owner
        self._now = now
        self._lease_s = lease_s
        self._lease: Lease | None = None

    @property
    def lease(self) -> Lease | None:
        """None while another leads, and when ours has run out since nobody could renew it."""
        lease = self._lease
        return lease if lease is not None and self._now() < lease.until else None

    def run(self, stop: threading.Event) -> None:
        while not stop.is_set():
            self.renew()
            stop.wait(self._lease_s / 3)
        self.release()

    def renew(self) -> None:
        try:
            lease = self._lock.acquire(NAME, self._owner, self._lease_s, self._now())
        except Retryable as error:
            log.warning("the lease cannot be renewed: %s", error.text)
            return
        if (lease is None) != (self._lease is None):
            log.info("this process %s", "leads" if lease else "leads no longer")
        self._lease = lease

    def lost(self) -> None:
        """Somebody has told that another leads."""
        self._lease = None

    def release(self) -> None:
        """So that the next need not wait."""
        lease, self._lease = self._lease, None
        if lease is None:
            return
        try:
            self._lock.release(lease)
        except FleetError as error:
            log.warning("the lease is not given back: %s", error.text)
