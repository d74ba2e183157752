"""What goes past the spool."""

import threading
from collections import deque

from agent.core.outgoing import Outgoing


class Urgent:
    """Retained state by topic, and replies in order; any thread may call.

    State is taken while connected only, and forgotten at each change: its owner sends all of it again after Connected.
    Of more than `replies` replies the oldest are dropped.
    """

    def __init__(self, replies: int) -> None:
        self._lock = threading.Lock()
        self._connected = False
        self._state: dict[str, Outgoing] = {}
        self._replies: deque[Outgoing] = deque(maxlen=replies)

    def __bool__(self) -> bool:
        return bool(self._state or self._replies)

    def changed(self, *, connected: bool) -> None:
        with self._lock:
            self._connected = connected
            self._state.clear()

    def put(self, message: Outgoing) -> None:
        with self._lock:
            if not message.retain:
                self._replies.append(message)
            elif self._connected:
                self._state.pop(message.topic, None)
                self._state[message.topic] = message

    def put_back(self, message: Outgoing) -> None:
        """To the front, unless something newer has come."""
        with self._lock:
            if message.retain:
                if self._connected and message.topic not in self._state:
                    self._state = {message.topic: message, **self._state}
            elif len(self._replies) != self._replies.maxlen:
                self._replies.appendleft(message)

    def take(self) -> Outgoing | None:
        """State first: the birth precedes what follows from it."""
        with self._lock:
            if self._state:
                return self._state.pop(next(iter(self._state)))
            return self._replies.popleft() if self._replies else None
