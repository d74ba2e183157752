"""The control loop: owns all state of the agent and reads one queue of what happened."""

import contextlib
import logging
import queue
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime

from agent.core.identity import Identity
from agent.core.outgoing import Outgoing
from agent.core.update import Event as UpdateEvent
from agent.core.watch import Phase
from agent.errors import AgentError
from agent.loops.cameras import Cameras
from agent.loops.capture import CameraReport
from agent.loops.configurator import Configurator
from agent.loops.desk import AlarmDesk
from agent.loops.jobs import JobDone, JobItem, JobProgress, Jobs, JobSaw
from agent.loops.mailroom import Mailroom
from agent.loops.orders import FellBack, LaneReport, ShadowSaw, SpoolState
from agent.loops.outbox import Outbox
from agent.loops.runner import Crash
from agent.loops.start import Milestone, Start
from agent.loops.stats import Stats
from agent.loops.telemetry import CameraFacts, Measured, messages
from agent.loops.updater import Updater
from agent.ports import Connected, Disconnected, Host, HostFacts, Reset, Spool
from schemas.codes import FailureCode
from schemas.result import Clock
from schemas.status import ModelInfo

log = logging.getLogger(__name__)

_LOOK_AT_STOP_S = 0.5
_NPU_CODES = frozenset(code for code in FailureCode if code.startswith(("npu-", "model-", "runtime-", "shape-")))

_CAMERA_CODES = frozenset(code for code in FailureCode if code.startswith("camera-"))


@dataclass(frozen=True, slots=True)
class Mail:
    """Something is in the inbox."""


@dataclass(frozen=True, slots=True)
class Happened:
    """Something to tell that is no lasting state."""

    code: FailureCode
    source: str
    text: str


@dataclass(frozen=True, slots=True)
class Updated:
    """A step of the update of the model has ended."""

    event: UpdateEvent


@dataclass(frozen=True, slots=True)
class Recorded:
    """A result was committed while somebody waits for results."""


@dataclass(frozen=True, slots=True)
class CameraGone:
    """The settings no longer have it, or have it otherwise: its alarms and counters are over."""

    camera: str


@dataclass(frozen=True, slots=True)
class Inspected:
    """A result was committed while a configuration is on probation; `captured_s` is by the monotonic clock."""

    camera: str
    captured_s: float


Item = (
    Mail | Happened | SpoolState | CameraReport | LaneReport | FellBack | ShadowSaw | Updated | Recorded
    | JobItem | CameraGone | Inspected | Crash | Connected | Disconnected | Reset
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Limits:
    temperature_c: float = 90.0
    disk_free_bytes: int = 100_000_000


@dataclass(slots=True)
class State:
    """What control knows and nobody else writes."""

    session_seq: int = 0
    connected: bool = False
    was_connected: bool = False
    model: ModelInfo | None = None
    cameras: dict[str, Phase] = field(default_factory=dict)
    reconnects: dict[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Parts:
    """What control works with."""

    outbox: Outbox
    spool: Spool
    host: Host
    stats: Stats
    desk: AlarmDesk
    mailroom: Mailroom
    updater: Updater
    configurator: Configurator
    jobs: Jobs
    cameras: Cameras
    publish: Callable[[Outgoing], None]
    published: Callable[[], int]
    restarts: Callable[[], int]
    now: Callable[[], datetime]
    monotonic: Callable[[], float]
    beat: Callable[[], None]
    start: Start
    limits: Limits = Limits()


class Control:
    """`put` may be called from any thread; everything else belongs to the control thread."""

    def __init__(self, identity: Identity, parts: Parts) -> None:
        self._queue: queue.SimpleQueue[Item] = queue.SimpleQueue()
        self._identity = identity
        self._parts = parts
        self._state = State()
        self._due_s = 0.0
        self._handlers: dict[type[Item], Callable[..., None]] = {
            Mail: self._mail,
            Happened: self._happened,
            SpoolState: self._spool_state,
            CameraReport: self._camera,
            LaneReport: self._lane,
            FellBack: self._parts.updater.fell_back,
            ShadowSaw: self._parts.updater.shadow_saw,
            Updated: lambda item: self._parts.updater.happened(item.event),
            Recorded: lambda _item: self._parts.updater.recorded(),
            JobSaw: self._parts.jobs.handle,
            JobProgress: self._parts.jobs.handle,
            JobDone: self._parts.jobs.handle,
            CameraGone: self._camera_gone,
            Inspected: lambda item: self._parts.configurator.inspected(item.camera, item.captured_s),
            Crash: self._crash,
            Connected: self._connected,
            Disconnected: self._disconnected,
            Reset: self._reset,
        }

    def put(self, item: Item) -> None:
        self._queue.put(item)

    @property
    def state(self) -> State:
        return self._state

    @property
    def is_idle(self) -> bool:
        """Nothing has come."""
        return self._queue.empty()

    def run(self, stop: threading.Event) -> None:
        """Work off the queue until stopped, then whatever is still on it."""
        self.begin()
        while not stop.is_set():
            self.turn(_LOOK_AT_STOP_S)
        while not self._queue.empty():
            self._handle(self._queue.get_nowait())

    def begin(self) -> None:
        """Before the first turn, on the thread that takes them: what an earlier process left."""
        parts = self._parts
        parts.updater.begin()
        parts.jobs.begin()
        self._mail(Mail())
        self._due_s = parts.monotonic()

    def turn(self, wait_s: float) -> None:
        """Wait for one item and work it off, then what time brings.

        Telemetry is due by the monotonic clock, so that no jump of the wall clock holds it up.
        """
        parts = self._parts
        with contextlib.suppress(queue.Empty):
            self._handle(self._queue.get(timeout=wait_s) if wait_s > 0 else self._queue.get_nowait())
        parts.updater.tick()
        parts.configurator.tick()
        parts.jobs.tick()
        if parts.monotonic() >= self._due_s:
            self._measure()
            self._due_s = parts.monotonic() + parts.configurator.settings.telemetry.interval_s
        parts.beat()

    def last_words(self) -> None:
        """After `run` has returned: the last telemetry into the spool."""
        self._measure()

    def goodbye(self) -> Outgoing:
        """When the uplink has done what it could: the status to leave behind."""
        parts = self._parts
        pending = parts.spool.depth().pending_results
        return self._identity.goodbye(self._state.session_seq, parts.now(), parts.outbox.last_number, pending)

    def announce(self) -> None:
        """Status, info, what is reported, and all alarms."""
        parts, state = self._parts, self._state
        parts.publish(self._identity.birth(state.session_seq, parts.now()))
        self._tell_info()
        parts.updater.report()
        for message in (parts.configurator.report(), *parts.jobs.statuses()):
            parts.publish(message)
        parts.desk.republish(clear_others=not state.was_connected)

    def _tell_info(self) -> None:
        parts = self._parts
        parts.publish(self._identity.info(parts.now(), self._state.model, parts.cameras.infos()))

    def _handle(self, item: Item) -> None:
        self._handlers[type(item)](item)

    def _connected(self, event: Connected) -> None:
        state = self._state
        state.connected, state.session_seq = True, event.session_seq
        log.info("connected to the broker, session %d", event.session_seq)
        self._parts.desk.clear(FailureCode.BROKER_UNREACHABLE, "broker")
        self._parts.desk.clear(FailureCode.NOT_AUTHORIZED, "broker")
        self.announce()
        state.was_connected = True
        self._mail(Mail())

    def _disconnected(self, event: Disconnected) -> None:
        self._state.connected = False
        self._parts.desk.set(event.code, "broker", event.reason)

    def _reset(self, _event: Reset) -> None:
        log.warning("the broker's client was made anew")

    def _camera(self, report: CameraReport) -> None:
        state, desk = self._state, self._parts.desk
        before = state.cameras.get(report.camera)
        state.cameras[report.camera] = report.phase
        if before is Phase.STREAMING and report.phase is Phase.CONNECTING:
            state.reconnects[report.camera] = state.reconnects.get(report.camera, 0) + 1
        for code in report.cleared:
            desk.clear(code, report.camera)
        for alarm in report.raised:
            desk.set(alarm.code, report.camera, alarm.text)
            self._parts.configurator.alarmed(alarm.code, report.camera, alarm.text)
        if report.phase is Phase.ENDED:
            desk.happened(FailureCode.CAMERA_ENDED, report.camera, report.text or "the source is at its end")

    def _camera_gone(self, event: CameraGone) -> None:
        self._state.cameras.pop(event.camera, None)
        self._state.reconnects.pop(event.camera, None)
        self._parts.desk.clear_source(event.camera, _CAMERA_CODES)
        self._parts.jobs.camera_gone(event.camera)
        self._tell_info()

    def _lane(self, report: LaneReport) -> None:
        desk, state = self._parts.desk, self._state
        self._parts.updater.lane_reported(report)
        if report.code is not None:
            desk.set(report.code, report.lane, report.text)
            self._parts.configurator.alarmed(report.code, report.lane, report.text)
            return
        desk.clear_source(report.lane, _NPU_CODES)
        if report.model is not None and report.model != state.model:
            state.model = report.model
            self._tell_info()

    def _crash(self, crash: Crash) -> None:
        self._parts.desk.happened(FailureCode.INTERNAL, crash.loop.replace(" ", "."), crash.text)
        text = f"{crash.loop}: {crash.text}"
        if crash.loop.startswith("lane "):
            self._parts.updater.lane_crashed(text)
        if crash.loop.startswith(("lane ", "capture ")):
            self._parts.configurator.loop_crashed(text)

    def _happened(self, event: Happened) -> None:
        self._parts.desk.happened(event.code, event.source, event.text)

    def _spool_state(self, event: SpoolState) -> None:
        desk = self._parts.desk
        if event.code is not None:
            desk.set(event.code, "spool", event.text)
            return
        for code in (FailureCode.SPOOL_FULL, FailureCode.DISK_FULL):
            desk.clear(code, "spool")

    def _mail(self, _event: Mail) -> None:
        self._parts.mailroom.work_off()

    def _measure(self) -> None:
        parts, state = self._parts, self._state
        facts = parts.host.sample()
        parts.stats.clock = Clock(synced=facts.clock_synced, offset_ms=facts.clock_offset_ms)
        self._check(facts)
        if parts.stats.first_result_s is not None:
            parts.start.reach(Milestone.FIRST_RESULT, parts.stats.first_result_s)
        try:
            measured = Measured(
                at=parts.now(),
                snapshot=parts.stats.take(),
                cameras=self._camera_facts(),
                model=state.model,
                segmenter_restarts=parts.restarts(),
                depth=parts.spool.depth(),
                published=parts.published(),
                host=facts,
                start_ms=parts.start.reached_ms,
            )
            identity = self._identity
            for message in messages(measured, identity.topics, identity.boot_id, identity.agent_version):
                parts.outbox.telemetry(message)
            parts.spool.prune()
            self._spool_state(SpoolState(None))
        except AgentError as error:
            log.error("telemetry is not kept: %s", error.text)
        self._mail(Mail())

    def _camera_facts(self) -> dict[str, CameraFacts]:
        totals, counts = self._parts.stats.totals(), self._parts.cameras.counts()
        return {
            name: CameraFacts(
                state=self._state.cameras.get(name, Phase.CONNECTING).value,
                captured=count.captured,
                inspected=totals.inspected.get(name, 0),
                dropped=count.dropped,
                failed=totals.failed.get(name, 0),
                reconnects=self._state.reconnects.get(name, 0),
                missed=self._parts.cameras.missed(name),
            )
            for name, count in counts.items()
        }

    def _check(self, facts: HostFacts) -> None:
        limits = self._parts.limits
        hottest = max(facts.temperature_c.items(), key=lambda item: item[1], default=("", 0.0))
        free = facts.disk_free_bytes
        self._hold(
            FailureCode.TEMPERATURE_HIGH, hottest[1] >= limits.temperature_c, f"{hottest[0]} at {hottest[1]:.0f} °C"
        )
        self._hold(FailureCode.CLOCK_UNSYNCED, facts.clock_synced is False, "the clock is not synchronised")
        self._hold(
            FailureCode.DISK_FULL, free is not None and free < limits.disk_free_bytes, f"{free} bytes of disk are free"
        )

    def _hold(self, code: FailureCode, is_on: bool, text: str) -> None:  # noqa: FBT001  the state of an alarm
        if is_on:
            self._parts.desk.set(code, "host", text)
        else:
            self._parts.desk.clear(code, "host")
