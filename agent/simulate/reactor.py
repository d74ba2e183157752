"""One thread for all boards of a process: it waits for sockets, for times and for what other threads put down."""

import heapq
import itertools
import selectors
import socket
import threading
import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress

from agent.adapters.mqtt_paho.bell import Bell

Call = Callable[[], None]
Ready = Callable[[int], None]
"""Told which of EVENT_READ and EVENT_WRITE there is."""

_LONGEST_WAIT_S = 0.5
_CALLS_A_ROUND = 256
"""Then sockets are looked at again."""


class Reactor:
    """`call` may be used from any thread; all else belongs to the thread that runs `run`."""

    def __init__(self, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._monotonic = monotonic
        self.bell = Bell()
        self._selector = selectors.DefaultSelector()
        self._selector.register(self.bell, selectors.EVENT_READ)
        self._calls: deque[Call] = deque()
        self._timers: list[tuple[float, int, Call]] = []
        self._numbers = itertools.count()
        self._thread = 0

    def call(self, call: Call) -> None:
        """Soon, after what was put down before."""
        self._calls.append(call)
        if threading.get_ident() != self._thread:
            self.bell.ring()

    def later(self, delay_s: float, call: Call) -> None:
        heapq.heappush(self._timers, (self._monotonic() + delay_s, next(self._numbers), call))

    def watch(self, sock: socket.socket, ready: Ready) -> None:
        self._selector.register(sock, selectors.EVENT_READ, ready)

    def wants_write(self, sock: socket.socket, wants: bool) -> None:  # noqa: FBT001  the state of a socket
        key = self._selector.get_key(sock)
        events = selectors.EVENT_READ | (selectors.EVENT_WRITE if wants else 0)
        if key.events != events:
            self._selector.modify(sock, events, key.data)

    def forget(self, sock: socket.socket) -> None:
        """It may be closed already: the selector finds it by identity then. What is not watched changes nothing."""
        with suppress(KeyError, ValueError):
            self._selector.unregister(sock)

    def run(self, stop: threading.Event) -> None:
        """Until stopped; to be called again where a call has raised."""
        self._thread = threading.get_ident()
        while not stop.is_set():
            for key, events in self._selector.select(self._patience_s()):
                if key.fileobj is self.bell:
                    self.bell.answer()
                else:
                    key.data(events)
            self._on_time()
            for _ in range(min(len(self._calls), _CALLS_A_ROUND)):
                self._calls.popleft()()

    def close(self) -> None:
        self._selector.close()
        self.bell.close()

    def _patience_s(self) -> float:
        if self._calls:
            return 0.0
        if not self._timers:
            return _LONGEST_WAIT_S
        return min(_LONGEST_WAIT_S, max(0.0, self._timers[0][0] - self._monotonic()))

    def _on_time(self) -> None:
        now_s = self._monotonic()
        while self._timers and self._timers[0][0] <= now_s:
            heapq.heappop(self._timers)[2]()
