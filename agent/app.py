"""The composition root: builds the adapters, wires the loops, starts and stops them."""

import logging
import platform
import random
import sys
import threading
import time
import uuid
from collections.abc import Callable
from datetime import UTC, datetime
from importlib.metadata import version

from agent.adapters.evidence_fs import FolderEvidence
from agent.adapters.fetcher_http import HttpFetcher
from agent.adapters.host_linux import LinuxHost
from agent.adapters.inbox_sqlite import InboxLimits, SqliteInbox
from agent.adapters.journal_fs import FileJournal, StopMark
from agent.adapters.mqtt_paho import PahoLink
from agent.adapters.notify_systemd import Notify
from agent.adapters.segmenter_rknn import CORES
from agent.adapters.spool_sqlite import SpoolLimits, SqliteSpool
from agent.adapters.store_fs import FolderStore, StoreLimits
from agent.adapters.ticker_apscheduler import ApschedulerTicker
from agent.adapters.trust_pinned import PinnedTrust
from agent.build import camera_of, link_options, plan_of, target_of
from agent.config import CameraSettings, EveryInterval, OnCron, Settings
from agent.core import desired_model
from agent.core.command import Refusal
from agent.core.frame import Frame
from agent.core.identity import Identity
from agent.core.outgoing import Incoming
from agent.core.rate import Cron, Interval
from agent.errors import AgentError
from agent.library import Library
from agent.loops.capture import CaptureLoop
from agent.loops.commands import CommandParts, Commands
from agent.loops.control import Control, Happened, Item, Mail, Parts, Recorded, Updated
from agent.loops.desk import AlarmDesk
from agent.loops.exhibits import Exhibits
from agent.loops.inspect import Loaded
from agent.loops.lane import Lane, LaneParts
from agent.loops.latest import Slots
from agent.loops.ledger import Ledger
from agent.loops.lots import Lots
from agent.loops.mailroom import Desks, Mailroom
from agent.loops.orders import LaneOrder, SpoolState
from agent.loops.outbox import Outbox
from agent.loops.runner import Runner
from agent.loops.stats import Stats
from agent.loops.updater import Updater, UpdaterParts
from agent.loops.uplink import Uplink, UplinkHooks, UplinkSettings
from agent.loops.workshop import Workshop, WorkshopParts
from agent.ports import Refused, Segmenter
from schemas.codes import FailureCode
from schemas.command import CommandName
from schemas.status import CameraInfo, Location
from schemas.topics import Topics

log = logging.getLogger(__name__)

STOP_WITHIN_S = 5.0
_CONTROL, _UPLINK, _WORKSHOP = "control", "uplink", "workshop"


def _now() -> datetime:
    return datetime.now(UTC)


def _new_id() -> str:
    return uuid.uuid4().hex


def _retire(segmenter: Segmenter) -> None:
    """Away from the lane: ending a child that hangs takes its time."""
    threading.Thread(target=segmenter.close, name="retire", daemon=True).start()


class App:
    """One agent. `run` blocks until `stop` is set or a loop has failed for good, and returns the exit code."""

    def __init__(self, settings: Settings, notify: Notify) -> None:
        self._started_s = time.monotonic()
        self._settings = settings
        self._notify = notify
        self._topics = Topics(settings.station.site, settings.station.node)
        data_dir = settings.storage.data_dir
        data_dir.mkdir(parents=True, exist_ok=True)
        self._host = LinuxHost(data_dir=data_dir, pids=self._child_pids)
        self._target = target_of(settings, self._host)
        storage = settings.storage
        limits = SpoolLimits(max_bytes=storage.spool_max_bytes, max_age_s=storage.spool_max_age_s)
        self._spool = SqliteSpool(data_dir / "spool.db", limits, _now)
        self._inbox = SqliteInbox(data_dir / "inbox.db", InboxLimits(), _now)
        self._identity = self._make_identity()
        self._stats = Stats(time.monotonic)
        self._slots: Slots[Frame] = Slots([camera.id for camera in settings.camera])
        options = link_options(settings, self._topics)
        self._link = PahoLink(options, self._inbox.next_session, self._identity.will, self._oversized)
        hooks = UplinkHooks(changed=self._tell, refused=self._refused, spool_failed=self._spool_failed)
        self._uplink = Uplink(self._link, self._spool, UplinkSettings(window=options.window), hooks, clock=_now)
        self._outbox = Outbox(self._spool, self._identity.boot_id, self._uplink.wake)
        self._captures = {camera.id: self._make_capture(camera) for camera in settings.camera}
        self._ledger = Ledger(lambda: self._tell(Recorded()))
        store_limits = StoreLimits(storage.store_max_bytes, storage.store_reserve_bytes)
        self._store = FolderStore(data_dir / "models", self._target, store_limits)
        self._library = Library(settings, self._target, self._topics, self._store, self._host)
        self._lanes = {f"core-{core}": self._make_lane(core) for core in settings.model.cores}
        self._workshop = self._make_workshop()
        self._desk = AlarmDesk(self._topics, self._outbox, self._uplink.now, _now, _new_id)
        self._lots = Lots(FileJournal(data_dir / "lots.journal"))
        self._updater = self._make_updater()
        self._stop_mark = StopMark(data_dir / "stopped-cleanly")
        self._control = self._make_control()
        self._runner = Runner(self._tell)
        self._ticker = ApschedulerTicker(settings.timezone)

    def run(self, stop: threading.Event) -> int:
        """Errors: Permanent(CONFIG_INVALID) for a schedule that cannot be; then nothing was started."""
        for camera in self._settings.camera:
            self._schedule(camera)
        for name, corrupt in (("spool", self._spool.corrupt_file), ("inbox", self._inbox.corrupt_file)):
            if corrupt is not None:
                text = f"the {name} could not be read and began anew; the old file is {corrupt}"
                self._control.put(Happened(FailureCode.SPOOL_CORRUPT, name, text))
        self._updater.boot(is_clean=self._stop_mark.take())
        self._start()
        while not stop.is_set() and not self._runner.failed.is_set():
            stop.wait(0.2)
        self._notify.stopping()
        self._stop()
        if self._runner.failed.is_set():
            return 1
        self._stop_mark.leave()
        return 0

    def _start(self) -> None:
        self._runner.start(_CONTROL, self._control.run)
        self._runner.start(_UPLINK, self._uplink.run)
        self._link.start(self._uplink.report, self._accept)
        for name, capture in self._captures.items():
            self._runner.start(f"capture {name}", capture.run)
        for name, lane in self._lanes.items():
            self._runner.start(f"lane {name}", lane.run)
        self._runner.start(_WORKSHOP, self._workshop.run)
        self._ticker.start()
        self._notify.ready()
        log.info("node %s, target %s, boot %s", self._topics.node, self._target.value, self._identity.boot_id)

    def _stop(self) -> None:
        """Sources first, the way to the broker last; whatever hangs is left behind when its time is over."""
        deadline_s = time.monotonic() + STOP_WITHIN_S - 0.5

        def left_s(most_s: float) -> float:
            return max(0.05, min(most_s, deadline_s - time.monotonic()))

        self._ticker.stop()
        for name, capture in self._captures.items():
            self._runner.ask_to_stop(f"capture {name}")
            capture.wake()
        for name in (*(f"lane {name}" for name in self._lanes), _WORKSHOP):
            self._runner.ask_to_stop(name)
        self._workshop.wake()
        self._slots.stop()
        for name in self._lanes:
            self._runner.stop(f"lane {name}", left_s(2.0))
        for name in self._captures:
            self._runner.stop(f"capture {name}", left_s(0.5))
        self._runner.stop(_WORKSHOP, left_s(0.5))
        self._runner.stop(_CONTROL, left_s(0.5))
        self._control.last_words()
        self._runner.stop(_UPLINK, left_s(1.0))
        self._link.stop(self._control.goodbye(), left_s(1.0))
        self._spool.close()
        self._inbox.close()

    def _tell(self, item: Item) -> None:
        """Control is made last and told by all the others."""
        self._control.put(item)

    def _announce(self) -> None:
        self._control.announce()

    def _accept(self, message: Incoming) -> None:
        self._inbox.put(message)
        self._control.put(Mail())

    def _oversized(self, topic: str, size_bytes: int) -> None:
        text = f"{size_bytes} bytes on {topic[:200]} were thrown away"
        self._control.put(Happened(FailureCode.MESSAGE_TOO_LARGE, "broker", text))

    def _refused(self, topic: str, outcome: Refused) -> None:
        text = f"a message on {topic[:200]} was refused: {outcome.reason}"
        self._control.put(Happened(FailureCode.PUBLISH_REJECTED, "broker", text))

    def _spool_failed(self, error: AgentError) -> None:
        self._control.put(SpoolState(error.code, error.text))

    def _schedule(self, camera: CameraSettings) -> None:
        trigger, capture = camera.trigger, self._captures[camera.id]
        match trigger:
            case EveryInterval():
                self._ticker.add(camera.id, Interval(trigger.every_s), capture.trigger)
            case OnCron():
                self._ticker.add(camera.id, Cron(trigger.expression), capture.trigger)

    def _make_capture(self, camera: CameraSettings) -> CaptureLoop:
        return CaptureLoop(
            (camera.id, camera_of(camera)),
            self._slots[camera.id],
            self._tell,
            plan_of(camera),
        )

    def _make_lane(self, core: int) -> Lane:
        name = f"core-{core}"
        storage = self._settings.storage
        store = None
        if storage.evidence_max_bytes:
            share = storage.evidence_max_bytes // len(self._settings.model.cores)
            store = FolderEvidence(storage.data_dir / "evidence" / name, share)
        parts = LaneParts(
            outbox=self._outbox,
            stats=self._stats,
            ledger=self._ledger,
            report=self._tell,
            exhibits=Exhibits(store, storage.evidence_interval_s, time.monotonic),
            witness=lambda _frame, _result: None,
            retire=_retire,
            now=_now,
            monotonic=time.monotonic,
            new_id=_new_id,
        )
        return Lane(name, self._slots, lambda: self._load_current(name), parts)

    def _load_current(self, lane: str) -> Loaded:
        ref = self._updater.current
        return self._library.load(lane, ref, self._library.open(ref))

    def _send(self, order: LaneOrder) -> None:
        for lane in self._lanes.values():
            lane.send(order)

    def _make_workshop(self) -> Workshop:
        fetcher = HttpFetcher()
        parts = WorkshopParts(
            trust=PinnedTrust(fetcher, self._store, self._target),
            store=self._store,
            fetcher=fetcher,
            models=self._library,
            lanes={name: lane.send for name, lane in self._lanes.items()},
            retire=_retire,
            tell=lambda event: self._tell(Updated(event)),
        )
        return Workshop(parts)

    def _make_updater(self) -> Updater:
        parts = UpdaterParts(
            journal=FileJournal(self._settings.storage.data_dir / "update.journal"),
            workshop=self._workshop,
            ledger=self._ledger,
            desk=self._desk,
            send=self._send,
            publish=self._uplink.now,
            topics=self._topics,
            installed=self._library.installed,
            has=self._library.has,
            lot_is_open=lambda: self._lots.is_open,
            now=_now,
            monotonic=time.monotonic,
            chance=random.random,
            settle_s=self._settings.model.settle_s,
        )
        return Updater(parts)

    def _make_mailroom(self) -> Mailroom:
        commands = Commands(
            CommandParts(
                inbox=self._inbox,
                spool=self._spool,
                desk=self._desk,
                publish=self._uplink.now,
                announce=self._announce,
                replayed=self._uplink.reread,
                cancel=self._updater.cancel,
                lot=self._lots.take,
                now=_now,
                uptime_s=lambda: time.monotonic() - self._started_s,
                boot_id=self._identity.boot_id,
            )
        )
        desks = Desks(
            command=commands.take,
            model=self._desired_model,
            config=lambda _message: None,
            job=lambda _message: None,
            happened=self._desk.happened,
        )
        return Mailroom(self._inbox, desks)

    def _desired_model(self, message: Incoming) -> Refusal | None:
        desired = desired_model.read(message)
        if isinstance(desired, Refusal):
            return desired
        self._updater.wanted(desired)
        return None

    def _make_control(self) -> Control:
        parts = Parts(
            outbox=self._outbox,
            spool=self._spool,
            host=self._host,
            stats=self._stats,
            desk=self._desk,
            mailroom=self._make_mailroom(),
            updater=self._updater,
            captures=self._slots,
            publish=self._uplink.now,
            published=lambda: self._uplink.published,
            restarts=self._restarts,
            missed=lambda camera: self._captures[camera].missed,
            now=_now,
            monotonic=time.monotonic,
            beat=self._beat(),
            started_s=self._started_s,
            interval_s=self._settings.telemetry.interval_s,
        )
        return Control(self._identity, parts)

    def _beat(self) -> Callable[[], None]:
        """Tell systemd's watchdog that the agent lives: control turns and no loop has ended by itself."""
        interval_s = self._notify.watchdog_interval_s
        told_s = 0.0

        def beat() -> None:
            nonlocal told_s
            if interval_s is None or time.monotonic() - told_s < interval_s / 2 or not self._link.is_alive:
                return
            told_s = time.monotonic()
            self._notify.watchdog()

        return beat

    def _segmenters(self) -> list[Segmenter]:
        return [segmenter for lane in self._lanes.values() for segmenter in lane.segmenters()]

    def _child_pids(self) -> list[int]:
        pids = [getattr(segmenter, "pid", None) for segmenter in self._segmenters()]
        return [pid for pid in pids if isinstance(pid, int)]

    def _restarts(self) -> int:
        return sum(getattr(segmenter, "restarts", 0) for segmenter in self._segmenters())

    def _make_identity(self) -> Identity:
        settings = self._settings
        return Identity(
            topics=self._topics,
            station=Location(**settings.station.model_dump()),
            boot_id=_new_id(),
            started_at=_now(),
            agent_version=version("rkfleet"),
            python_version=platform.python_version(),
            platform=f"{sys.platform}-{platform.machine()}",
            soc=self._host.soc(),
            target=self._target,
            npu_cores=CORES.get(self._target, 0),
            is_simulated=any(camera.kind == "synthetic" for camera in settings.camera),
            cameras=tuple(
                CameraInfo(id=camera.id, kind=camera.kind, trigger=camera.trigger.kind) for camera in settings.camera
            ),
            capabilities=("desired/model", *(f"cmd/{name}" for name in CommandName)),
        )
