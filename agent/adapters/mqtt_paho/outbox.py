"""Messages that the link has taken and that have no outcome yet.

Kept here and not in paho's queue, which is without bound and ignores the broker's Receive Maximum after a reconnect
(paho-mqtt issues 223 and 492). paho is handed a message only when a slot is free, and what was in flight when a
connection ended goes first, in its order, on the next.
"""

import threading
import time
from collections import deque
from dataclasses import dataclass, replace

from agent.core.outgoing import Outgoing


@dataclass(frozen=True, slots=True)
class Taken:
    """`token` is None for the goodbye. `at_s` is on the monotonic clock; `blamed` counts connections it has ended."""

    message: Outgoing
    token: int | None
    at_s: float
    blamed: int = 0


class Outbox:
    """`take` is for any thread; everything else is for the link's thread alone, so that the lock guards little more
    than a count. It is never held while paho runs: paho calls back with a mutex of its own held (paho-mqtt issue 346).
    """

    def __init__(self, window: int) -> None:
        self._window = window
        self._limit = 0
        self._held = 0
        self._is_leaving = False
        self._waiting: deque[Taken] = deque()
        self._in_flight: dict[int, Taken] = {}
        self._lock = threading.Lock()

    def open(self, receive_maximum: int) -> None:
        with self._lock:
            self._limit = min(self._window, receive_maximum)

    def close(self) -> None:
        """The connection is gone: nothing is taken until `open`, and what was in flight waits again."""
        with self._lock:
            self._limit = 0
            self._waiting.extendleft(reversed(self._in_flight.values()))
        self._in_flight.clear()

    def take(self, message: Outgoing, token: int) -> bool:
        with self._lock:
            if self._is_leaving or self._held >= self._limit:
                return False
            self._held += 1
            self._waiting.append(Taken(message, token, time.monotonic()))
            return True

    def put_last(self, goodbye: Outgoing) -> None:
        """After everything that was taken, so that no reader sees a result of a board that is offline."""
        with self._lock:
            self._is_leaving = True
            self._held += 1
            self._waiting.append(Taken(goodbye, None, time.monotonic()))

    def next(self) -> Taken | None:
        """The message to send now, if a slot is free; to be followed by `sent`, `give_back` or `drop`."""
        if not self._waiting or len(self._in_flight) >= self._limit:
            return None
        return self._waiting.popleft()

    def sent(self, mid: int, taken: Taken) -> None:
        self._in_flight[mid] = taken

    def give_back(self, taken: Taken) -> None:
        self._waiting.appendleft(taken)

    def drop(self) -> None:
        """What `next` gave will not be sent."""
        with self._lock:
            self._held -= 1

    def settle(self, mid: int) -> Taken | None:
        """The outcome is known; None when it was known before."""
        taken = self._in_flight.pop(mid, None)
        if taken is not None:
            self.drop()
        return taken

    def blame(self, most: int) -> Taken | None:
        """The connection ended over the oldest in flight, for brokers answer in order. At the `most`-th time it is
        taken out and returned: it would end every connection and nothing would ever pass it.
        """
        if not self._in_flight:
            return None
        mid, oldest = next(iter(self._in_flight.items()))
        self._in_flight[mid] = replace(oldest, blamed=oldest.blamed + 1)
        return self.settle(mid) if oldest.blamed + 1 >= most else None

    def clear(self) -> None:
        with self._lock:
            self._waiting.clear()
            self._in_flight.clear()
            self._held = 0
