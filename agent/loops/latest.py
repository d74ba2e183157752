"""The latest frame wins: single slots between capture threads and the lanes that inspect."""

import threading
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Counts:
    """Since start: put into the slot, and put but replaced before a lane took it."""

    captured: int
    dropped: int


class Latest(Generic[T]):
    """A slot for one item. A new item replaces one that nobody took; the replaced are counted. For any threads."""

    def __init__(self, changed: threading.Condition | None = None) -> None:
        self._changed = changed or threading.Condition()
        self._item: T | None = None
        self._captured = 0
        self._dropped = 0

    def put(self, item: T) -> None:
        with self._changed:
            self._captured += 1
            self._dropped += self._item is not None
            self._item = item
            self._changed.notify()

    def poll(self) -> T | None:
        """Return the item and empty the slot, or None at once."""
        with self._changed:
            item, self._item = self._item, None
            return item

    @property
    def filled(self) -> bool:
        return self._item is not None

    def counts(self) -> Counts:
        with self._changed:
            return Counts(self._captured, self._dropped)


class Slots(Generic[T]):
    """One slot for each camera, waited on together and served in turn, so that a quick camera starves no other.

    Any number of lanes may take; each item goes to one of them.
    """

    def __init__(self, names: Sequence[str]) -> None:
        self._changed = threading.Condition()
        self._slots: dict[str, Latest[T]] = {name: Latest(self._changed) for name in names}
        self._order = list(self._slots)
        self._stopped = False

    def __getitem__(self, name: str) -> Latest[T]:
        return self._slots[name]

    def take(self, timeout_s: float) -> tuple[str, T] | None:
        """Return (name, item) of the slot that was served longest ago; None after `timeout_s`, or once stopped."""
        with self._changed:
            self._changed.wait_for(self._ready, timeout_s)
            return None if self._stopped else self._next()

    def _ready(self) -> bool:
        return self._stopped or any(slot.filled for slot in self._slots.values())

    def _next(self) -> tuple[str, T] | None:
        for name in self._order:
            item = self._slots[name].poll()
            if item is not None:
                self._order.remove(name)
                self._order.append(name)
                return name, item
        return None

    def counts(self) -> dict[str, Counts]:
        return {name: slot.counts() for name, slot in self._slots.items()}

    def stop(self) -> None:
        """Wake every waiting lane; `take` returns None from now on."""
        with self._changed:
            self._stopped = True
            self._changed.notify_all()
