"""The capture loops, their slots and their schedules, and how they follow the settings without a restart."""

import logging
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from agent.config import CameraSettings, EveryInterval, OnCron
from agent.core.frame import Frame, Order
from agent.core.rate import Cron, Interval
from agent.errors import Permanent
from agent.loops.capture import CameraReport, CaptureLoop, Plan
from agent.loops.latest import Counts, Latest, Slots
from agent.loops.runner import Runner
from agent.ports import Camera, Ticker
from schemas.codes import FailureCode
from schemas.status import CameraInfo

log = logging.getLogger(__name__)

_LOOKED_AT_LATER = ("recipe", "roi", "pixel_size_mm", "priority")
"""What only the lanes and their slots read: a change of these does not concern the capture loop."""


@dataclass(frozen=True, slots=True)
class CamerasParts:
    """`camera_of` opens nothing. `forget` is told of each camera that was stopped, after its last `report` and before
    the first of what takes its place: alarms, counters and orders of that name are over. It must take the way that
    reports take, a queue for example, so as not to overtake one.
    """

    slots: Slots[Frame]
    runner: Runner
    schedules: Ticker
    report: Callable[[CameraReport], None]
    forget: Callable[[str], None]
    camera_of: Callable[[CameraSettings], Camera]
    plan_of: Callable[[CameraSettings], Plan]
    stop_within_s: float = 2.0


class _Voice:
    """What a capture loop reports, until it is stopped: one that hangs must not speak for what took its place."""

    def __init__(self, report: Callable[[CameraReport], None]) -> None:
        self._report = report
        self._lock = threading.Lock()
        self._is_over = False

    def say(self, report: CameraReport) -> None:
        with self._lock:
            if not self._is_over:
                self._report(report)

    def end(self) -> None:
        with self._lock:
            self._is_over = True


@dataclass(frozen=True, slots=True)
class _Prepared:
    settings: CameraSettings
    camera: Camera
    plan: Plan


@dataclass(frozen=True, slots=True)
class _Running:
    settings: CameraSettings
    loop: CaptureLoop
    voice: _Voice


class Cameras:
    """`start` and `apply` belong to one thread at a time; all else may be called from any.

    Errors: Permanent(CONFIG_INVALID) that names the camera, for a schedule, a time zone or a camera that cannot be, and
    nothing was changed then.
    """

    def __init__(self, parts: CamerasParts) -> None:
        self._parts = parts
        self._running: dict[str, _Running] = {}
        self._lock = threading.Lock()
        self._is_over = False

    def start(self, cameras: Sequence[CameraSettings], timezone: str) -> None:
        self.apply(cameras, timezone)

    def apply(self, cameras: Sequence[CameraSettings], timezone: str) -> None:
        """Stop what is gone or changed, start what is new or changed; the others go on untouched.

        Blocks for at most `stop_within_s`, and as long as closing the cameras takes; a loop that hangs is left behind.
        """
        wanted = {camera.id: camera for camera in cameras}
        self._check(cameras, timezone)
        before = self._running
        kept = {name for name, one in before.items() if name in wanted and _is_same(one.settings, wanted[name])}
        prepared = [self._prepare(camera) for camera in cameras if camera.id not in kept]
        with self._lock:
            if self._is_over:
                return
            self._running = {name: replace(one, settings=wanted[name]) for name, one in before.items() if name in kept}
        for name in kept:
            self._parts.slots.add(name, wanted[name].priority)
        self._parts.schedules.set_zone(timezone)
        self._stop({name: one for name, one in before.items() if name not in kept})
        for one in prepared:
            self._start(one)
        with self._lock:
            self._running = {name: self._running[name] for name in wanted if name in self._running}

    def trigger(self, camera: str, order: Order | None) -> bool:
        """Ask for one picture; False where there is no such camera, or it takes no more orders."""
        running = self._running.get(camera)
        return running is not None and _triggered(running.loop, order)

    def withdraw(self, job_id: str) -> None:
        """Nobody waits for this job's pictures any more."""
        for running in self._running.values():
            running.loop.withdraw(job_id)

    def missed(self, camera: str) -> int:
        running = self._running.get(camera)
        return 0 if running is None else running.loop.missed

    def counts(self) -> Mapping[str, Counts]:
        return self._parts.slots.counts()

    def infos(self) -> tuple[CameraInfo, ...]:
        settings = [running.settings for running in self._running.values()]
        return tuple(CameraInfo(id=one.id, kind=one.kind, trigger=one.trigger.kind) for one in settings)

    def stop_asking(self) -> None:
        """The beginning of the end: every loop is asked to stop, and none is started any more."""
        with self._lock:
            self._is_over = True
            running = self._running
        for name, one in running.items():
            self._ask_to_stop(name, one)

    def join(self, timeout_s: float) -> None:
        """After `stop_asking`: wait for all; what hangs is left behind."""
        deadline_s = time.monotonic() + timeout_s
        for name in self._running:
            self._parts.runner.stop(_loop(name), max(0.0, deadline_s - time.monotonic()))

    def _check(self, cameras: Sequence[CameraSettings], timezone: str) -> None:
        check = self._parts.schedules.check
        check(Interval(1.0), timezone)
        for camera in cameras:
            schedule = _schedule(camera)
            try:
                if schedule is not None:
                    check(schedule, timezone)
            except Permanent as error:
                raise Permanent(error.code, f"camera {camera.id}: trigger: {error.text}") from error

    def _prepare(self, camera: CameraSettings) -> _Prepared:
        try:
            return _Prepared(camera, self._parts.camera_of(camera), self._parts.plan_of(camera))
        except Permanent as error:
            raise Permanent(error.code, f"camera {camera.id}: {error.text}") from error
        except ValueError as error:  # an adapter's options that cannot be
            raise Permanent(FailureCode.CONFIG_INVALID, f"camera {camera.id}: {error}") from error

    def _stop(self, leaving: Mapping[str, _Running]) -> None:
        """All at once, so that the slowest decides how long it takes."""
        parts = self._parts
        for name, one in leaving.items():
            parts.schedules.remove(name)
            self._ask_to_stop(name, one)
        deadline_s = time.monotonic() + parts.stop_within_s
        for name, one in leaving.items():
            if not parts.runner.stop(_loop(name), max(0.0, deadline_s - time.monotonic())):
                log.warning("camera %s hangs and is left behind", name)
            one.voice.end()
            parts.runner.forget(_loop(name))
            parts.slots.remove(name)
            parts.forget(name)

    def _start(self, prepared: _Prepared) -> None:
        parts, settings = self._parts, prepared.settings
        name = settings.id
        parts.slots.add(name, settings.priority)
        loop, voice = self._loop(prepared, parts.slots[name])
        with self._lock:
            if self._is_over:
                return
            self._running = {**self._running, name: _Running(settings, loop, voice)}
            parts.runner.start(_loop(name), loop.run)
        schedule = _schedule(settings)
        if schedule is not None:
            parts.schedules.add(name, schedule, loop.trigger)

    def _loop(self, prepared: _Prepared, slot: Latest[Frame]) -> tuple[CaptureLoop, _Voice]:
        voice = _Voice(self._parts.report)
        return CaptureLoop((prepared.settings.id, prepared.camera), slot, voice.say, prepared.plan), voice

    def _ask_to_stop(self, name: str, one: _Running) -> None:
        self._parts.runner.ask_to_stop(_loop(name))
        one.loop.wake()


def _triggered(loop: CaptureLoop, order: Order | None) -> bool:
    if order is not None:
        return loop.trigger(order)
    loop.trigger()
    return True


def _loop(name: str) -> str:
    return f"capture {name}"


def _schedule(camera: CameraSettings) -> Interval | Cron | None:
    match camera.trigger:
        case EveryInterval(every_s=every_s):
            return Interval(every_s)
        case OnCron(expression=expression):
            return Cron(expression)
    return None


def _is_same(before: CameraSettings, after: CameraSettings) -> bool:
    same = {name: getattr(before, name) for name in _LOOKED_AT_LATER}
    return after.model_copy(update=same) == before
