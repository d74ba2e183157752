"""What was received and is not worked off yet. The broker's window bounds what is acknowledged; the rest is dropped."""

import queue
import time

from fleet.adapters.mqtt_paho.options import BatchOptions
from fleet.mail import Letter


class Inbox:
    """Fits the port Postbox. The link's thread puts, one reader takes."""

    def __init__(self, options: BatchOptions) -> None:
        self._options = options
        self._queue: queue.SimpleQueue[Letter] = queue.SimpleQueue()
        self._dropped = 0

    @property
    def depth(self) -> int:
        return self._queue.qsize()

    @property
    def dropped(self) -> int:
        return self._dropped

    def put(self, letter: Letter, *, may_drop: bool) -> None:
        """`may_drop`: nothing bounds how much of it comes."""
        if may_drop and self._queue.qsize() >= self._options.most_waiting:
            self._dropped += 1
            return
        self._queue.put(letter)

    def take(self, wait_s: float) -> list[Letter]:
        try:
            letters = [self._queue.get(timeout=wait_s)]
        except queue.Empty:
            return []
        until_s = time.monotonic() + self._options.flush_s
        while len(letters) < self._options.most:
            try:
                left_s = until_s - time.monotonic()
                letters.append(self._queue.get(timeout=max(0.0, min(self._options.idle_s, left_s))))
            except queue.Empty:
                break
        return letters
