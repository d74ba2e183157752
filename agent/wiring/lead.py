"""Control and what it leads: cameras, configuration, jobs, and who answers which message."""

import logging
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from agent.adapters.log_ring import LogRing
from agent.adapters.uploader_http import HttpUploader
from agent.benchmark import benchmark
from agent.build import camera_of, plan_of
from agent.config import Settings
from agent.core import desired_config, desired_model
from agent.core.command import Refusal
from agent.core.frame import Frame
from agent.core.job import read_request
from agent.core.outgoing import Incoming
from agent.loops.cameras import Cameras, CamerasParts
from agent.loops.commands import CommandParts, Commands
from agent.loops.configurator import Configurator, ConfiguratorParts
from agent.loops.control import CameraGone, Control, Inspected, Parts
from agent.loops.jobs import JobParts, Jobs
from agent.loops.mailroom import Desks, Mailroom
from agent.loops.orders import Replan
from agent.wiring.ground import Ground, now
from agent.wiring.models import Models
from agent.wiring.trust import verifier_of
from schemas.result import Result


class Lead:
    """`folder` is that of the settings file; a job sets `restart`."""

    def __init__(self, ground: Ground, folder: Path, restart: threading.Event) -> None:
        self._ground = ground
        self.log_ring = LogRing()
        self.models = Models(ground, self._witness)
        self.cameras = self._make_cameras()
        self.configurator = self._make_configurator(folder)
        self.jobs = self._make_jobs(restart)
        self.control = ground.control = self._make_control()

    def _witness(self, frame: Frame, result: Result) -> None:
        self.jobs.saw(frame, result)
        if self.configurator.is_on_probation:
            self._ground.tell(Inspected(frame.camera, frame.captured_mono_s))

    def _apply(self, settings: Settings) -> None:
        """Have other cameras, recipes and schedules run, without a restart. Errors: AgentError, and then nothing of the
        model's side has changed.
        """
        models = self.models
        models.library.use(settings, models.updater.current)
        order = Replan(lambda loaded: models.library.plans(loaded.bundle))
        models.send(order)
        models.workshop.replan(order)
        self.cameras.apply(settings.camera, settings.timezone)
        logging.getLogger().setLevel(settings.log_level)

    def _benchmark(self, stop: threading.Event, seconds: float) -> Mapping[str, Any]:
        models = self.models
        return benchmark(models.library, models.updater.current, next(iter(models.lanes)), stop, seconds)

    def _desired_model(self, message: Incoming) -> Refusal | None:
        desired = desired_model.read(message)
        if isinstance(desired, Refusal):
            return desired
        self.models.updater.wanted(desired)
        return None

    def _desired_config(self, message: Incoming) -> Refusal | None:
        desired = desired_config.read(message)
        self.configurator.wanted(desired)
        return desired if isinstance(desired, Refusal) else None

    def _job(self, message: Incoming) -> None:
        self.jobs.taken(read_request(message), message.topic)

    def _announce(self) -> None:
        self.control.announce()

    def _make_cameras(self) -> Cameras:
        ground = self._ground
        parts = CamerasParts(
            slots=ground.slots,
            runner=ground.runner,
            schedules=ground.ticker,
            report=ground.tell,
            forget=lambda camera: ground.tell(CameraGone(camera)),
            camera_of=camera_of,
            plan_of=plan_of,
        )
        return Cameras(parts)

    def _make_configurator(self, folder: Path) -> Configurator:
        ground = self._ground
        parts = ConfiguratorParts(
            journal=ground.disk.config_journal,
            own=ground.settings,
            folder=folder,
            apply=self._apply,
            desk=ground.desk,
            publish=ground.uplink.now,
            topics=ground.topics,
            now=now,
            monotonic=time.monotonic,
            probation_s=ground.settings.config.probation_s,
            settle_s=ground.settings.model.settle_s,
        )
        return Configurator(parts)

    def _make_jobs(self, restart: threading.Event) -> Jobs:
        ground = self._ground
        parts = JobParts(
            book=ground.disk.jobs,
            collection=ground.disk.collection,
            uploader=HttpUploader(),
            topics=ground.topics,
            boot_id=ground.identity.boot_id,
            trigger=self.cameras.trigger,
            withdraw=lambda _camera, job_id: self.cameras.withdraw(job_id),
            cameras=lambda: {camera.id for camera in self.configurator.settings.camera},
            recipes=lambda: {"default", *self.configurator.settings.recipe},
            benchmark=self._benchmark,
            log_lines=self.log_ring.lines,
            restart=restart.set,
            publish=ground.uplink.now,
            happened=ground.desk.happened,
            put=ground.tell,
            now=now,
            monotonic=time.monotonic,
        )
        return Jobs(parts)

    def _make_mailroom(self) -> Mailroom:
        ground = self._ground
        commands = Commands(
            CommandParts(
                inbox=ground.disk.inbox,
                spool=ground.disk.spool,
                desk=ground.desk,
                publish=ground.uplink.now,
                announce=self._announce,
                replayed=ground.uplink.reread,
                cancel=self.models.updater.cancel,
                lot=ground.disk.lots.take,
                now=now,
                uptime_s=ground.uptime_s,
                boot_id=ground.identity.boot_id,
            )
        )
        desks = Desks(
            command=commands.take,
            model=self._desired_model,
            config=self._desired_config,
            job=self._job,
            happened=ground.desk.happened,
        )
        return Mailroom(ground.disk.inbox, desks, verifier_of(ground))

    def _make_control(self) -> Control:
        ground = self._ground
        parts = Parts(
            outbox=ground.outbox,
            spool=ground.disk.spool,
            host=ground.host,
            stats=ground.stats,
            desk=ground.desk,
            mailroom=self._make_mailroom(),
            updater=self.models.updater,
            configurator=self.configurator,
            jobs=self.jobs,
            cameras=self.cameras,
            publish=ground.uplink.now,
            published=lambda: ground.uplink.published,
            restarts=ground.restarts,
            now=now,
            monotonic=time.monotonic,
            beat=ground.beat(),
            start=ground.start,
        )
        return Control(ground.identity, parts)
