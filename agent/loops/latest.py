"""The latest frame wins, but for what was asked for: slots between capture threads and the lanes that inspect."""

import threading
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Generic, NamedTuple, TypeVar

from agent.loops.turns import Turn, Turns

T = TypeVar("T")

MOST_KEPT = 16
"""Items of one slot that wait and are not replaced."""
MOST_PASSED = 4
"""Turns in a row that go to a higher priority while a lower one waits."""


@dataclass(frozen=True, slots=True)
class Counts:
    """Since start: put into the slot, and put but replaced before a lane took it."""

    captured: int
    dropped: int


class Latest(Generic[T]):
    """A slot for one item. A new item replaces one that nobody took; the replaced are counted. For any threads.

    Beside it waits a short queue of items that none replaces. All are served in the order in which they came.
    """

    def __init__(self, changed: threading.Condition | None = None) -> None:
        self._changed = changed or threading.Condition()
        self._item: tuple[int, T] | None = None
        self._kept: deque[tuple[int, T]] = deque()
        self._captured = 0
        self._dropped = 0
        self._closed = False

    def put(self, item: T) -> None:
        with self._changed:
            self._captured += 1
            if self._closed:
                self._dropped += 1
                return
            self._dropped += self._item is not None
            self._item = self._captured, item
            self._changed.notify()

    def keep(self, item: T) -> bool:
        """An item that no later one replaces; False, and it is not kept, where MOST_KEPT wait or the slot is closed."""
        with self._changed:
            if self._closed or len(self._kept) >= MOST_KEPT:
                return False
            self._captured += 1
            self._kept.append((self._captured, item))
            self._changed.notify()
            return True

    def withdraw(self, is_meant: Callable[[T], bool]) -> None:
        """Drop those of the kept items that are meant, and count them."""
        with self._changed:
            left = deque(kept for kept in self._kept if not is_meant(kept[1]))
            self._dropped += len(self._kept) - len(left)
            self._kept = left

    def poll(self) -> T | None:
        """Return the next item and take it out, or None at once."""
        with self._changed:
            if self._kept and (self._item is None or self._kept[0][0] < self._item[0]):
                return self._kept.popleft()[1]
            latest, self._item = self._item, None
            return None if latest is None else latest[1]

    def close(self) -> None:
        """What waits is dropped, and all that comes."""
        with self._changed:
            self._dropped += len(self._kept) + (self._item is not None)
            self._kept.clear()
            self._item = None
            self._closed = True

    @property
    def filled(self) -> bool:
        return self._item is not None or bool(self._kept)

    @property
    def kept(self) -> int:
        return len(self._kept)

    def counts(self) -> Counts:
        with self._changed:
            return Counts(self._captured, self._dropped)


class _Seen(threading.local):
    """The number of the last nudge that this thread has answered."""

    nudge = 0


class Taken(NamedTuple, Generic[T]):
    """`turn` is the item's place among those of its camera: hand in there what comes of it, or give it back."""

    camera: str
    item: T
    turn: Turn


class Slots(Generic[T]):
    """One slot for each camera, waited on together. The highest priority that waits is served, of equal ones the one
    that was served longest ago; after MOST_PASSED turns in a row that passed a lower priority over, one turn goes to
    whoever was served longest ago, whatever its priority. So each of `n` cameras is served within (MOST_PASSED + 1) * n
    turns.

    Any number of lanes may take; each item goes to one of them. Cameras may come and go meanwhile.
    """

    def __init__(self, names: Sequence[str], turns: Turns | None = None) -> None:
        self.turns = turns or Turns()
        self._changed = threading.Condition()
        self._slots: dict[str, Latest[T]] = {name: Latest(self._changed) for name in names}
        self._priorities = dict.fromkeys(names, 0)
        self._passed = 0
        self._order = list(self._slots)
        self._stopped = False
        self._idle = 0
        self._nudge = 0
        self._seen = _Seen()

    def __getitem__(self, name: str) -> Latest[T]:
        with self._changed:
            return self._slots[name]

    def add(self, name: str, priority: int = 0) -> None:
        """An empty slot, counted as served longest ago; one that is there keeps all but its priority."""
        with self._changed:
            self._priorities[name] = priority
            if name not in self._slots:
                self._slots[name] = Latest(self._changed)
                self._order.insert(0, name)

    def remove(self, name: str) -> None:
        """What waits in the slot is dropped, and so is all that is still put there. An unknown name changes nothing."""
        with self._changed:
            slot = self._slots.pop(name, None)
            if slot is not None:
                del self._priorities[name]
                self._order.remove(name)
                slot.close()

    def take(self, timeout_s: float) -> Taken[T] | None:
        """The next item; None after `timeout_s`, for a nudge, or once stopped."""
        with self._changed:
            self._idle += 1
            try:
                self._changed.wait_for(self._ready, timeout_s)
            finally:
                self._idle -= 1
            if self._seen.nudge != self._nudge:
                self._seen.nudge = self._nudge
                return None
            return None if self._stopped else self._next()

    def take_more(self, most: int) -> list[Taken[T]]:
        """At most so many of the items that wait, at once, in the same order. One is left for each thread that waits
        in `take`, so that no lane stands idle while another has its hands full.
        """
        more: list[Taken[T]] = []
        with self._changed:
            waiting = sum(slot.filled for slot in self._slots.values())
            while not self._stopped and len(more) < min(most, waiting - self._idle):
                taken = self._next()
                if taken is None:
                    break
                more.append(taken)
        return more

    def nudge(self) -> None:
        """Make `take` return None once on every thread: at once where it waits, else the next time it is called.

        Nothing is lost: items stay where they are, and each thread answers all nudges since its last `take` as one.
        """
        with self._changed:
            self._nudge += 1
            self._changed.notify_all()

    def _ready(self) -> bool:
        is_nudged = self._seen.nudge != self._nudge
        return self._stopped or is_nudged or any(slot.filled for slot in self._slots.values())

    def _next(self) -> Taken[T] | None:
        waiting = [name for name in self._order if self._slots[name].filled]
        if not waiting:
            return None
        name = self._chosen(waiting)
        item = self._slots[name].poll()
        if item is None:
            return None
        self._order.remove(name)
        self._order.append(name)
        return Taken(name, item, self.turns.give(name))

    def _chosen(self, waiting: Sequence[str]) -> str:
        """`waiting` begins with the one that was served longest ago."""
        highest = max(self._priorities[name] for name in waiting)
        passes_lower = any(self._priorities[name] < highest for name in waiting)
        if passes_lower and self._passed >= MOST_PASSED:
            self._passed = 0
            return waiting[0]
        self._passed = self._passed + 1 if passes_lower else 0
        return next(name for name in waiting if self._priorities[name] == highest)

    def counts(self) -> dict[str, Counts]:
        with self._changed:
            return {name: slot.counts() for name, slot in self._slots.items()}

    def stop(self) -> None:
        """Wake every waiting lane; `take` returns None from now on."""
        with self._changed:
            self._stopped = True
            self._changed.notify_all()
