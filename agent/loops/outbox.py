"""Where lanes and control put what the broker must get."""

import threading
from collections.abc import Callable

from agent.core.outgoing import Kind, Outgoing, Place
from agent.ports import Spool


class Outbox:
    """Commits messages to the spool and wakes the uplink. Any thread may call; the spool's errors pass through.

    Results of one boot are numbered 1, 2, 3 and so on without a gap, in the order of their rows: a number is used up
    by a commit alone, so a result that could not be stored leaves no gap, and its number goes to the next one.
    """

    def __init__(self, spool: Spool, boot_id: str, wake: Callable[[], None]) -> None:
        self._spool = spool
        self._boot_id = boot_id
        self._wake = wake
        self._lock = threading.Lock()
        self._next = 1

    def result(self, build: Callable[[Place], Outgoing]) -> Place:
        """Commit what `build` makes of its place. `build` runs under a lock: let it do no more than serialise."""
        with self._lock:
            place = Place(self._boot_id, self._next)
            self._spool.append(Kind.RESULT, build(place), place)
            self._next += 1
        self._wake()
        return place

    @property
    def last_number(self) -> int:
        """The number of the last result that was committed, 0 before the first."""
        return self._next - 1

    def event(self, message: Outgoing) -> None:
        self._spool.append(Kind.EVENT, message)
        self._wake()

    def telemetry(self, message: Outgoing) -> None:
        self._spool.append(Kind.TELEMETRY, message)
        self._wake()
