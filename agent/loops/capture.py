"""One thread a camera: open, read, stamp, hand over the latest; alarms and reconnects as the watch decides."""

import random
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import overload

from agent.core.backoff import Backoff
from agent.core.frame import Frame, Order
from agent.core.rate import Continuous, OnDemand, Rate
from agent.core.watch import (
    Event,
    Failed,
    Got,
    Opened,
    Phase,
    Raise,
    Reaction,
    Rules,
    Watch,
    digest,
    redacted,
    step,
)
from agent.errors import AgentError, Permanent, Retryable
from agent.loops.latest import MOST_KEPT, Latest
from agent.ports import Camera
from schemas.codes import FailureCode

_LOOK_AT_STOP_S = 0.5
_OVER = frozenset({Phase.ENDED, Phase.FAILED})


@dataclass(frozen=True, slots=True)
class CameraReport:
    """Sent at each change: of phase, or of alarms. `text` tells why, for people, without credentials."""

    camera: str
    at: datetime
    phase: Phase
    raised: tuple[Raise, ...]
    cleared: tuple[FailureCode, ...]
    text: str


@dataclass(frozen=True, slots=True)
class Plan:
    """When pictures are wanted, what is an alarm, how to come back."""

    trigger: Continuous | OnDemand = field(default_factory=Continuous)
    rules: Rules = field(default_factory=Rules)
    backoff: Backoff = field(default_factory=Backoff)


@dataclass(frozen=True, slots=True)
class Ambience:
    """Time and chance: `now` is UTC, `monotonic` in seconds, `chance` uniform in [0, 1)."""

    now: Callable[[], datetime] = lambda: datetime.now(UTC)
    monotonic: Callable[[], float] = time.monotonic
    chance: Callable[[], float] = random.random


class CaptureLoop:
    """Owns one camera. `run` is the thread's target; all else may be called from any thread.

    To stop: set the event given to `run`, then call `wake`; a blocked open or read ends at once.
    Frames are numbered as they are handed over, so a gap in `seq` is a frame that `Latest` dropped.
    """

    def __init__(
        self,
        camera: tuple[str, Camera],
        latest: Latest[Frame],
        report: Callable[[CameraReport], None],
        plan: Plan | None = None,
        ambience: Ambience | None = None,
    ) -> None:
        self._name, self._camera = camera
        self._latest = latest
        self._report = report
        self._plan = plan or Plan()
        self._ambience = ambience or Ambience()
        self._watch = Watch(rules=self._plan.rules, backoff=self._plan.backoff)
        trigger = self._plan.trigger
        self._rate = Rate.of_hz(trigger.rate_hz if isinstance(trigger, Continuous) else None)
        self._asked = threading.Condition()
        self._asked_s: float | None = None
        self._orders: deque[tuple[Order, float]] = deque()
        self._missed = 0
        self._seq = 0

    @property
    def missed(self) -> int:
        """Triggers that got no picture of their own: none came in time, or another trigger came first."""
        return self._missed

    @overload
    def trigger(self) -> None: ...

    @overload
    def trigger(self, order: Order) -> bool: ...

    def trigger(self, order: Order | None = None) -> bool | None:
        """Ask for one picture, captured from now on. It takes the place of a trigger still unanswered.

        An order takes the place of none: it gets a picture of its own, whatever the rate is, and keeps it until a lane
        takes it. False where too many wait already, or the camera has ended for good.
        """
        with self._asked:
            if order is None:
                self._missed += self._asked_s is not None
                self._asked_s = self._ambience.monotonic()
            elif self._watch.phase in _OVER or len(self._orders) + self._latest.kept >= MOST_KEPT:
                return False
            else:
                self._orders.append((order, self._ambience.monotonic()))
            self._asked.notify_all()
        return None if order is None else True

    def withdraw(self, job_id: str) -> None:
        """Nobody waits for this job's picture any more."""
        with self._asked:
            self._orders = deque(entry for entry in self._orders if entry[0].job_id != job_id)
            self._latest.withdraw(lambda frame: frame.order is not None and frame.order.job_id == job_id)

    def wake(self) -> None:
        """End whatever blocks the thread; call it after the stop event is set."""
        with self._asked:
            self._asked.notify_all()
        self._camera.close()

    def run(self, stop: threading.Event) -> None:
        """Return when stopped, at the end of a file, or after a permanent failure; the reports tell which.

        It may be called again, after a fault of ours too: alarms and numbers go on.
        """
        self._watch = replace(self._watch, phase=Phase.CONNECTING)
        delay_s: float | None = 0.0
        try:
            while delay_s is not None and not stop.wait(delay_s):
                delay_s = self._session(stop)
        finally:
            self._camera.close()

    def _session(self, stop: threading.Event) -> float | None:
        """Serve one connection; return after how many seconds to open the next, None for never."""
        try:
            self._camera.open()
            self._step(Opened(self._ambience.monotonic()))
            reaction = Reaction()
            while reaction.reconnect_s is None:
                if self._is_stopped(stop):
                    return None
                reaction = self._read()
        except (Retryable, Permanent) as error:
            # A stop closes the camera under a blocked read: that is no loss.
            return None if stop.is_set() else self._step(_failure(error), error.text).reconnect_s
        self._camera.close()
        return reaction.reconnect_s

    def _is_stopped(self, stop: threading.Event) -> bool:
        """Wait for the next trigger where the source is read on demand only."""
        trigger = self._plan.trigger
        if isinstance(trigger, OnDemand) and not trigger.live:
            with self._asked:
                while self._asked_s is None and not self._orders and not stop.is_set():
                    self._asked.wait(_LOOK_AT_STOP_S)
        return stop.is_set()

    def _read(self) -> Reaction:
        began_s = self._ambience.monotonic()
        picture = self._camera.read()
        at_s, at = self._ambience.monotonic(), self._ambience.now()
        reaction = self._step(Got(at_s, (picture.width_px, picture.height_px), digest(picture)))
        frame = Frame(picture, self._name, self._seq, at, at_s, (at_s - began_s) * 1e3)
        if reaction.deliver and self._answers_order(frame, began_s):
            self._seq += 1
        elif self._is_wanted(began_s, at_s, fit=reaction.deliver):
            self._latest.put(frame)
            self._seq += 1
        return reaction

    def _answers_order(self, frame: Frame, began_s: float) -> bool:
        """Hand the picture to the oldest order, where its read began after it."""
        with self._asked:
            if not self._orders or not self._is_after(began_s, self._orders[0][1]):
                return False
            # Kept before it is forgotten here: `trigger` counts both.
            is_kept = self._latest.keep(replace(frame, order=self._orders[0][0]))
            self._orders.popleft()
            return is_kept

    def _is_after(self, began_s: float, asked_s: float) -> bool:
        trigger = self._plan.trigger
        if isinstance(trigger, Continuous):
            return began_s > asked_s
        return began_s > asked_s + trigger.delay_s if trigger.live else began_s >= asked_s

    def _is_wanted(self, began_s: float, at_s: float, *, fit: bool) -> bool:
        trigger = self._plan.trigger
        if isinstance(trigger, Continuous):
            if not fit or not self._rate.admits(at_s):
                return False
            self._rate = self._rate.taken(at_s)
            return True
        with self._asked:
            if self._asked_s is None:
                return False
            late = at_s - self._asked_s > trigger.within_s
            # A read that began before the trigger may give a picture from before it.
            fresh = fit and (not trigger.live or began_s > self._asked_s + trigger.delay_s)
            if late or fresh:
                self._asked_s = None
                self._missed += late
            return fresh and not late

    def _step(self, event: Event, text: str = "") -> Reaction:
        before = self._watch
        self._watch, reaction = step(before, event, self._ambience.chance())
        if reaction.raised or reaction.cleared or self._watch.phase is not before.phase:
            why = redacted(text) or "; ".join(alarm.text for alarm in reaction.raised)
            at = self._ambience.now()
            self._report(CameraReport(self._name, at, self._watch.phase, reaction.raised, reaction.cleared, why))
        return reaction


def _failure(error: AgentError) -> Failed:
    delay_s = error.delay_s if isinstance(error, Retryable) else 0.0
    return Failed(error.code, error.text, permanent=isinstance(error, Permanent), delay_s=delay_s)
