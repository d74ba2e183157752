"""Threads with a name, one owner each, restarted when they crash."""

import logging
import random
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

log = logging.getLogger(__name__)

STRIKES = 3
FORGIVEN_AFTER_S = 60.0
Body = Callable[[threading.Event], None]


@dataclass(frozen=True, slots=True)
class Crash:
    """A loop has raised what nobody foresaw; `strikes` of them within a minute end the agent."""

    loop: str
    text: str
    strikes: int


class Runner:
    """Starts loops and watches them. A loop is a function of a stop event that returns when the event is set.

    What a loop raises is logged, counted and answered with a restart after a growing, jittered pause; after three
    crashes within a minute `failed` is set, so that the process ends non-zero and systemd starts it anew.
    """

    def __init__(self, report: Callable[[Crash], None], pause_s: float = 0.5) -> None:
        self._report = report
        self._pause_s = pause_s
        self._threads: dict[str, tuple[threading.Thread, threading.Event]] = {}
        self.failed = threading.Event()

    def start(self, name: str, body: Body) -> None:
        stop = threading.Event()
        thread = threading.Thread(target=self._watch, args=(name, body, stop), name=name, daemon=True)
        self._threads[name] = (thread, stop)
        thread.start()

    def stop(self, name: str, timeout_s: float) -> bool:
        """Ask one loop to end and wait; False when it did not end in time."""
        thread, stop = self._threads[name]
        stop.set()
        thread.join(timeout_s)
        if thread.is_alive():
            log.warning("loop %s did not end within %.1f s", name, timeout_s)
        return not thread.is_alive()

    def ask_to_stop(self, name: str) -> None:
        self._threads[name][1].set()

    def forget(self, name: str) -> None:
        """The name is free for another loop. One that was asked to stop and hangs is left behind: it is not started
        again, and what it raises no longer ends the agent. An unknown name does nothing.
        """
        found = self._threads.pop(name, None)
        if found is not None:
            found[1].set()

    def alive(self) -> list[str]:
        return [name for name, (thread, _) in list(self._threads.items()) if thread.is_alive()]

    def _watch(self, name: str, body: Body, stop: threading.Event) -> None:
        strikes = 0
        while not stop.is_set():
            began = time.monotonic()
            try:
                body(stop)
            except Exception as error:
                strikes = strikes + 1 if time.monotonic() - began < FORGIVEN_AFTER_S else 1
                log.exception("loop %s crashed, strike %d of %d", name, strikes, STRIKES)
                self._report(Crash(name, f"{type(error).__name__}: {error}", strikes))
            else:
                return
            if strikes >= STRIKES and not stop.is_set():
                self.failed.set()
                return
            stop.wait(self._pause_s * 2 ** (strikes - 1) * random.uniform(0.5, 1.5))  # noqa: S311  jitter, no secret
