"""The composition root: builds the adapters, wires the loops, starts and stops them."""

import logging
import platform
import random
import sys
import threading
import time
import uuid
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

from agent.adapters.fetcher_http import HttpFetcher
from agent.adapters.host_linux import LinuxHost
from agent.adapters.log_ring import LogRing
from agent.adapters.mqtt_paho import PahoLink
from agent.adapters.notify_systemd import Notify
from agent.adapters.segmenter_rknn import CORES
from agent.adapters.ticker_apscheduler import ApschedulerTicker
from agent.adapters.trust_pinned import PinnedTrust
from agent.adapters.uploader_http import HttpUploader
from agent.benchmark import benchmark
from agent.build import camera_of, link_options, plan_of, target_of
from agent.config import Settings
from agent.core import desired_config, desired_model
from agent.core.command import Refusal
from agent.core.frame import Frame
from agent.core.identity import Identity
from agent.core.job import read_request
from agent.core.outgoing import Incoming
from agent.errors import AgentError
from agent.library import Library
from agent.loops.cameras import Cameras, CamerasParts
from agent.loops.commands import CommandParts, Commands
from agent.loops.configurator import Configurator, ConfiguratorParts
from agent.loops.control import CameraGone, Control, Happened, Inspected, Item, Mail, Parts, Recorded, Updated
from agent.loops.desk import AlarmDesk
from agent.loops.exhibits import Exhibits
from agent.loops.inspect import Loaded
from agent.loops.jobs import JobParts, Jobs
from agent.loops.lane import Lane, LaneParts
from agent.loops.latest import Slots
from agent.loops.ledger import Ledger
from agent.loops.mailroom import Desks, Mailroom
from agent.loops.orders import LaneOrder, Replan, SpoolState
from agent.loops.outbox import Outbox
from agent.loops.runner import Runner
from agent.loops.stats import Stats
from agent.loops.updater import Updater, UpdaterParts
from agent.loops.uplink import Uplink, UplinkHooks, UplinkSettings
from agent.loops.workshop import Workshop, WorkshopParts
from agent.ports import Refused, Segmenter
from agent.stores import Stores
from schemas.codes import FailureCode
from schemas.command import CommandName
from schemas.job import JobType
from schemas.result import Result
from schemas.status import Location
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
    """One agent. `run` blocks until `stop` is set, a job asks for a restart or a loop has failed for good, and returns
    the exit code. `folder` is that of the settings file.
    """

    def __init__(self, settings: Settings, folder: Path, notify: Notify) -> None:
        self._started_s = time.monotonic()
        self._own = settings
        self._notify = notify
        self._restart = threading.Event()
        self._log_ring = LogRing()
        self._topics = Topics(settings.station.site, settings.station.node)
        self._host = LinuxHost(data_dir=settings.storage.data_dir, pids=self._child_pids)
        self._target = target_of(settings, self._host)
        self._disk = Stores(settings.storage, self._target, _now)
        self._identity = self._make_identity()
        self._stats = Stats(time.monotonic)
        self._slots: Slots[Frame] = Slots(())
        self._link, self._uplink = self._make_uplink()
        self._outbox = Outbox(self._disk.spool, self._identity.boot_id, self._uplink.wake)
        self._desk = AlarmDesk(self._topics, self._outbox, self._uplink.now, _now, _new_id)
        self._ledger = Ledger(lambda: self._tell(Recorded()))
        self._library = Library(settings, self._target, self._topics, self._disk.models, self._host)
        self._lanes = {f"core-{core}": self._make_lane(f"core-{core}") for core in settings.model.cores}
        self._workshop = self._make_workshop()
        self._updater = self._make_updater()
        self._runner = Runner(self._tell)
        self._ticker = ApschedulerTicker(settings.timezone)
        self._cameras = self._make_cameras()
        self._configurator = self._make_configurator(folder)
        self._jobs = self._make_jobs()
        self._control = self._make_control()

    def run(self, stop: threading.Event) -> int:
        """Errors: Permanent(CONFIG_INVALID) for a schedule that cannot be; then no result was made."""
        root = logging.getLogger()
        root.addHandler(self._log_ring)
        try:
            return self._run(stop)
        finally:
            root.removeHandler(self._log_ring)

    def _run(self, stop: threading.Event) -> int:
        for name, corrupt in self._disk.corrupt():
            text = f"the {name} could not be read and began anew; the old file is {corrupt}"
            self._tell(Happened(FailureCode.SPOOL_CORRUPT, name, text))
        is_clean = self._disk.stop_mark.take()
        settings = self._configurator.boot(is_clean=is_clean)
        self._updater.boot(is_clean=is_clean)
        self._library.use(settings, self._updater.current)
        self._start(settings)
        while not (stop.is_set() or self._restart.is_set() or self._runner.failed.is_set()):
            stop.wait(0.2)
        self._notify.stopping()
        self._stop()
        if self._runner.failed.is_set():
            return 1
        self._disk.stop_mark.leave()
        return 0

    def _start(self, settings: Settings) -> None:
        self._cameras.start(settings.camera, settings.timezone)
        self._runner.start(_CONTROL, self._control.run)
        self._runner.start(_UPLINK, self._uplink.run)
        self._link.start(self._uplink.report, self._accept)
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
        self._cameras.stop_asking()
        for name in (*(f"lane {name}" for name in self._lanes), _WORKSHOP):
            self._runner.ask_to_stop(name)
        self._workshop.wake()
        self._slots.stop()
        for name in self._lanes:
            self._runner.stop(f"lane {name}", left_s(2.0))
        self._cameras.join(left_s(0.5))
        self._runner.stop(_WORKSHOP, left_s(0.5))
        self._runner.stop(_CONTROL, left_s(0.5))
        self._jobs.close()
        self._control.last_words()
        self._runner.stop(_UPLINK, left_s(1.0))
        self._link.stop(self._control.goodbye(), left_s(1.0))
        self._disk.close()

    def _apply(self, settings: Settings) -> None:
        """Have other cameras, recipes and schedules run, without a restart. Errors: AgentError, and then nothing of the
        model's side has changed.
        """
        self._library.use(settings, self._updater.current)
        order = Replan(lambda loaded: self._library.plans(loaded.bundle))
        self._send(order)
        self._workshop.replan(order)
        self._cameras.apply(settings.camera, settings.timezone)
        logging.getLogger().setLevel(settings.log_level)

    def _tell(self, item: Item) -> None:
        """Control is made last and told by all the others."""
        self._control.put(item)

    def _announce(self) -> None:
        self._control.announce()

    def _send(self, order: LaneOrder) -> None:
        for lane in self._lanes.values():
            lane.send(order)

    def _accept(self, message: Incoming) -> None:
        self._disk.inbox.put(message)
        self._tell(Mail())

    def _oversized(self, topic: str, size_bytes: int) -> None:
        text = f"{size_bytes} bytes on {topic[:200]} were thrown away"
        self._tell(Happened(FailureCode.MESSAGE_TOO_LARGE, "broker", text))

    def _refused(self, topic: str, outcome: Refused) -> None:
        text = f"a message on {topic[:200]} was refused: {outcome.reason}"
        self._tell(Happened(FailureCode.PUBLISH_REJECTED, "broker", text))

    def _spool_failed(self, error: AgentError) -> None:
        self._tell(SpoolState(error.code, error.text))

    def _witness(self, frame: Frame, result: Result) -> None:
        self._jobs.saw(frame, result)
        if self._configurator.is_on_probation:
            self._tell(Inspected(frame.camera, frame.captured_mono_s))

    def _load_current(self, lane: str) -> Loaded:
        ref = self._updater.current
        return self._library.load(lane, ref, self._library.open(ref))

    def _benchmark(self, stop: threading.Event, seconds: float) -> Mapping[str, Any]:
        return benchmark(self._library, self._updater.current, next(iter(self._lanes)), stop, seconds)

    def _desired_model(self, message: Incoming) -> Refusal | None:
        desired = desired_model.read(message)
        if isinstance(desired, Refusal):
            return desired
        self._updater.wanted(desired)
        return None

    def _desired_config(self, message: Incoming) -> Refusal | None:
        desired = desired_config.read(message)
        self._configurator.wanted(desired)
        return desired if isinstance(desired, Refusal) else None

    def _job(self, message: Incoming) -> None:
        self._jobs.taken(read_request(message), message.topic)

    def _make_uplink(self) -> tuple[PahoLink, Uplink]:
        options = link_options(self._own, self._topics)
        link = PahoLink(options, self._disk.inbox.next_session, self._identity.will, self._oversized)
        hooks = UplinkHooks(changed=self._tell, refused=self._refused, spool_failed=self._spool_failed)
        return link, Uplink(link, self._disk.spool, UplinkSettings(window=options.window), hooks, clock=_now)

    def _make_lane(self, name: str) -> Lane:
        evidence = self._disk.evidence(name, len(self._own.model.cores))
        parts = LaneParts(
            outbox=self._outbox,
            stats=self._stats,
            ledger=self._ledger,
            report=self._tell,
            exhibits=Exhibits(evidence, self._own.storage.evidence_interval_s, time.monotonic),
            witness=self._witness,
            retire=_retire,
            now=_now,
            monotonic=time.monotonic,
            new_id=_new_id,
        )
        return Lane(name, self._slots, lambda: self._load_current(name), parts)

    def _make_workshop(self) -> Workshop:
        fetcher, store = HttpFetcher(), self._disk.models
        parts = WorkshopParts(
            trust=PinnedTrust(fetcher, store, self._target),
            store=store,
            fetcher=fetcher,
            models=self._library,
            lanes={name: lane.send for name, lane in self._lanes.items()},
            retire=_retire,
            tell=lambda event: self._tell(Updated(event)),
        )
        return Workshop(parts)

    def _make_updater(self) -> Updater:
        parts = UpdaterParts(
            journal=self._disk.update_journal,
            workshop=self._workshop,
            ledger=self._ledger,
            desk=self._desk,
            send=self._send,
            publish=self._uplink.now,
            topics=self._topics,
            installed=self._library.installed,
            has=self._library.has,
            lot_is_open=lambda: self._disk.lots.is_open,
            now=_now,
            monotonic=time.monotonic,
            chance=random.random,
            settle_s=self._own.model.settle_s,
        )
        return Updater(parts)

    def _make_cameras(self) -> Cameras:
        parts = CamerasParts(
            slots=self._slots,
            runner=self._runner,
            schedules=self._ticker,
            report=self._tell,
            forget=lambda camera: self._tell(CameraGone(camera)),
            camera_of=camera_of,
            plan_of=plan_of,
        )
        return Cameras(parts)

    def _make_configurator(self, folder: Path) -> Configurator:
        parts = ConfiguratorParts(
            journal=self._disk.config_journal,
            own=self._own,
            folder=folder,
            apply=self._apply,
            desk=self._desk,
            publish=self._uplink.now,
            topics=self._topics,
            now=_now,
            monotonic=time.monotonic,
            probation_s=self._own.config.probation_s,
            settle_s=self._own.model.settle_s,
        )
        return Configurator(parts)

    def _make_jobs(self) -> Jobs:
        parts = JobParts(
            book=self._disk.jobs,
            collection=self._disk.collection,
            uploader=HttpUploader(),
            topics=self._topics,
            boot_id=self._identity.boot_id,
            trigger=self._cameras.trigger,
            withdraw=lambda _camera, job_id: self._cameras.withdraw(job_id),
            cameras=lambda: {camera.id for camera in self._configurator.settings.camera},
            recipes=lambda: {"default", *self._configurator.settings.recipe},
            benchmark=self._benchmark,
            log_lines=self._log_ring.lines,
            restart=self._restart.set,
            publish=self._uplink.now,
            happened=self._desk.happened,
            put=self._tell,
            now=_now,
            monotonic=time.monotonic,
        )
        return Jobs(parts)

    def _make_mailroom(self) -> Mailroom:
        commands = Commands(
            CommandParts(
                inbox=self._disk.inbox,
                spool=self._disk.spool,
                desk=self._desk,
                publish=self._uplink.now,
                announce=self._announce,
                replayed=self._uplink.reread,
                cancel=self._updater.cancel,
                lot=self._disk.lots.take,
                now=_now,
                uptime_s=lambda: time.monotonic() - self._started_s,
                boot_id=self._identity.boot_id,
            )
        )
        desks = Desks(
            command=commands.take,
            model=self._desired_model,
            config=self._desired_config,
            job=self._job,
            happened=self._desk.happened,
        )
        return Mailroom(self._disk.inbox, desks)

    def _make_control(self) -> Control:
        parts = Parts(
            outbox=self._outbox,
            spool=self._disk.spool,
            host=self._host,
            stats=self._stats,
            desk=self._desk,
            mailroom=self._make_mailroom(),
            updater=self._updater,
            configurator=self._configurator,
            jobs=self._jobs,
            cameras=self._cameras,
            publish=self._uplink.now,
            published=lambda: self._uplink.published,
            restarts=self._restarts,
            now=_now,
            monotonic=time.monotonic,
            beat=self._beat(),
            started_s=self._started_s,
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
        return Identity(
            topics=self._topics,
            station=Location(**self._own.station.model_dump()),
            boot_id=_new_id(),
            started_at=_now(),
            agent_version=version("rkfleet"),
            python_version=platform.python_version(),
            platform=f"{sys.platform}-{platform.machine()}",
            soc=self._host.soc(),
            target=self._target,
            npu_cores=CORES.get(self._target, 0),
            capabilities=(
                "desired/model",
                "desired/config",
                *(f"cmd/{name}" for name in CommandName),
                *(f"job/{name}" for name in JobType),
            ),
        )
