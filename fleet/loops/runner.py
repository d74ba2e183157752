"""Loops with a name on threads of their own, started again when they crash."""

import logging
import random
import threading
import time
from collections.abc import Callable

log = logging.getLogger(__name__)
STRIKES = 3
FORGIVEN_AFTER_S = 60.0
Body = Callable[[threading.Event], None]


class Runner:
    """A loop is a function of a stop event, and returns when that is set.

    What it raises is logged and answered with a restart after a growing, jittered pause; after three crashes in a row,
    each within a minute of the start, `failed` is set, so that the process ends and its supervisor starts it anew.
    """

    def __init__(self, pause_s: float = 0.5) -> None:
        self._pause_s = pause_s
        self._stop = threading.Event()
        self._threads: list[threading.Thread] = []
        self._troubles: dict[str, str] = {}
        self.failed = threading.Event()

    def start(self, name: str, body: Body) -> None:
        thread = threading.Thread(target=self._watch, args=(name, body), name=name, daemon=True)
        self._threads.append(thread)
        thread.start()

    def ask_to_stop(self) -> None:
        self._stop.set()

    def stop(self, timeout_s: float) -> list[str]:
        """Ask all to end, and wait. Returns the names of those that did not end in time."""
        self._stop.set()
        until_s = time.monotonic() + timeout_s
        for thread in self._threads:
            thread.join(max(0.0, until_s - time.monotonic()))
        return [thread.name for thread in self._threads if thread.is_alive()]

    def troubles(self) -> dict[str, str]:
        """Loops that have crashed and not worked for long since."""
        return dict(self._troubles)

    def _watch(self, name: str, body: Body) -> None:
        strikes = 0
        while not self._stop.is_set():
            began_s = time.monotonic()
            try:
                body(self._stop)
            except Exception as error:
                strikes = strikes + 1 if time.monotonic() - began_s < FORGIVEN_AFTER_S else 1
                log.exception("loop %s crashed, strike %d of %d", name, strikes, STRIKES)
                self._troubles[name] = f"crashed: {type(error).__name__}: {error}"[:300]
            else:
                return
            if strikes >= STRIKES:
                self.failed.set()
                return
            self._stop.wait(self._pause_s * 2 ** (strikes - 1) * random.uniform(0.5, 1.5))  # noqa: S311  jitter
