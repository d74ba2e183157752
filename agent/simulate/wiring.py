"""What a simulated board is built from: the agent's own control and what it leads, as in `agent.wiring`."""

import random
import time
from collections.abc import Callable, Mapping
from typing import Any

from agent.adapters.uploader_http import HttpUploader
from agent.core import desired_config, desired_model
from agent.core.command import Refusal
from agent.core.frame import Frame
from agent.core.health import LEAST_RESULTS
from agent.core.job import read_request
from agent.core.outgoing import Incoming
from agent.errors import AgentError, Permanent
from agent.loops.commands import CommandParts, Commands
from agent.loops.configurator import Configurator, ConfiguratorParts
from agent.loops.control import Control, Happened, Item, Parts, Updated
from agent.loops.desk import AlarmDesk
from agent.loops.inspect import Loaded
from agent.loops.jobs import JobParts, Jobs
from agent.loops.ledger import Ledger
from agent.loops.mailroom import Desks, Mailroom
from agent.loops.orders import SpoolState
from agent.loops.outbox import Outbox
from agent.loops.start import Start
from agent.loops.stats import Stats
from agent.loops.updater import Updater, UpdaterParts
from agent.loops.uplink import Uplink, UplinkHooks, UplinkSettings
from agent.loops.workshop import Workshop, WorkshopParts
from agent.ports import Refused, Store
from agent.simulate.disk import disk_of
from agent.simulate.identity import WINDOW, identity_of, link_options, new_id
from agent.simulate.lane import NAME, Lane, LaneParts
from agent.simulate.liar import Liar
from agent.simulate.link import SharedLink
from agent.simulate.manner import character
from agent.simulate.models import INSTALLED, NoStore, SimulatedModels
from agent.simulate.pictures import CAMERA, origin_of
from agent.simulate.scenery import DrawnCameras, DrawnHost
from agent.simulate.shared import Shared, now
from schemas.codes import FailureCode
from schemas.result import Result
from schemas.status import Location
from schemas.topics import Topics


class Wiring:
    """`wake` has the board take its turn; it may be called from any thread. Errors: AgentError."""

    def __init__(self, shared: Shared, node: str, wake: Callable[[], None]) -> None:
        simulation = shared.simulation
        self._shared = shared
        self._wake = wake
        self.topics = Topics(simulation.site, node)
        self.character = character(simulation, node)
        self.chance = random.Random(f"{simulation.seed}/{node}/course")  # noqa: S311  figures that are drawn, no secret
        self.disk = disk_of(simulation, shared.folder / node, self.character.target, now)
        self._began_s = time.monotonic()
        self._station = Location(site=simulation.site, node=node, line=f"line-{self.chance.randint(1, 8)}")
        is_signed = shared.verifier is not None
        self._identity = identity_of(self.topics, self._station, self.character.target, is_signed=is_signed)
        self._stats = Stats(time.monotonic)
        self._ledger = Ledger(lambda: None)  # the lane tells, once for many
        self._store: Store = self.disk.models if simulation.trust.manifests else NoStore()
        self._models = SimulatedModels(self.character, self._store, are_whole=simulation.download)
        self.link = self._make_link()
        self.uplink = self._make_uplink()
        self._publish = self.uplink.now
        if self.character.is_lying:
            self._publish = Liar(self.chance, self.topics, self.uplink.now).publish
        self._outbox = Outbox(self.disk.spool, self._identity.boot_id, self.uplink.wake)
        self._desk = AlarmDesk(self.topics, self._outbox, self._publish, now, new_id)
        self.lane = self._make_lane()
        self.workshop = self._make_workshop()
        self.updater = self._make_updater()
        self.configurator = self._make_configurator()
        self._cameras = DrawnCameras(shared.cameras, lambda: self.lane.inspected)
        self._jobs = self._make_jobs()
        self.control = self._make_control()

    def tell(self, item: Item) -> None:
        self.control.put(item)
        self._wake()

    def close(self) -> None:
        self._jobs.close()
        self.disk.close()

    def _uptime_s(self) -> float:
        return time.monotonic() - self._began_s

    def _make_link(self) -> SharedLink:
        shared = self._shared
        options = link_options(shared.simulation, self.topics)
        return SharedLink(options, self.disk.inbox.next_session, self._identity.will, shared.reactor, shared.openers)

    def _make_uplink(self) -> Uplink:
        def refused(topic: str, outcome: Refused) -> None:
            text = f"a message on {topic[:200]} was refused: {outcome.reason}"
            self.tell(Happened(FailureCode.PUBLISH_REJECTED, "broker", text))

        def spool_failed(error: AgentError) -> None:
            self.tell(SpoolState(error.code, error.text))

        hooks = UplinkHooks(changed=self.tell, refused=refused, spool_failed=spool_failed)
        return Uplink(self.link, self.disk.spool, UplinkSettings(window=WINDOW), hooks, clock=now)

    def _announce(self) -> None:
        self.control.announce()

    def _saw(self, frame: Frame, result: Result) -> None:
        self._jobs.saw(frame, result)

    def _watched_for(self) -> int:
        desired = self.updater.state.desired
        return max(LEAST_RESULTS, desired.probation.frames if desired else 0)

    def _load_current(self) -> Loaded:
        return self._models.load(NAME, self.updater.current, self._models.open(INSTALLED))

    def _make_lane(self) -> Lane:
        parts = LaneParts(
            character=self.character,
            chance=self.chance,
            rate_hz=self._shared.simulation.rate,
            topic=self.topics.result(CAMERA),
            origin=origin_of(self._station),
            outbox=self._outbox,
            stats=self._stats,
            ledger=self._ledger,
            tell=self.tell,
            wake=self._wake,
            watched_for=self._watched_for,
            load=self._load_current,
            witness=self._saw,
            now=now,
            monotonic=time.monotonic,
        )
        return Lane(parts)

    def _make_workshop(self) -> Workshop:
        parts = WorkshopParts(
            trust=self._shared.trust_of(self.character.target, self._store),
            store=self._store,
            fetcher=self._shared.fetcher,
            models=self._models,
            lanes={NAME: self.lane.send},
            retire=lambda segmenter: segmenter.close(),
            tell=lambda event: self.tell(Updated(event)),
        )
        return Workshop(parts)

    def _make_updater(self) -> Updater:
        parts = UpdaterParts(
            journal=self.disk.update_journal,
            workshop=self.workshop,
            ledger=self._ledger,
            desk=self._desk,
            send=self.lane.send,
            publish=self._publish,
            topics=self.topics,
            installed=INSTALLED,
            has=self._models.has,
            lot_is_open=lambda: self.disk.lots.is_open,
            now=now,
            monotonic=time.monotonic,
            chance=self.chance.random,
        )
        return Updater(parts)

    def _make_configurator(self) -> Configurator:
        parts = ConfiguratorParts(
            journal=self.disk.config_journal,
            own=self._shared.settings,
            folder=self._shared.folder,
            apply=lambda _settings: None,
            desk=self._desk,
            publish=self._publish,
            topics=self.topics,
            now=now,
            monotonic=time.monotonic,
            probation_s=self._shared.settings.config.probation_s,
        )
        return Configurator(parts)

    def _make_jobs(self) -> Jobs:
        parts = JobParts(
            book=self.disk.jobs,
            collection=self.disk.collection,
            uploader=HttpUploader(),
            topics=self.topics,
            boot_id=self._identity.boot_id,
            trigger=self.lane.trigger,
            withdraw=lambda _camera, _job_id: None,
            cameras=lambda: {CAMERA},
            recipes=lambda: {"default"},
            benchmark=_no_benchmark,
            log_lines=lambda _count, _level: (),
            restart=lambda: None,
            publish=self._publish,
            happened=self._desk.happened,
            put=self.tell,
            now=now,
            monotonic=time.monotonic,
        )
        return Jobs(parts)

    def _make_mailroom(self) -> Mailroom:
        parts = CommandParts(
            inbox=self.disk.inbox,
            spool=self.disk.spool,
            desk=self._desk,
            publish=self._publish,
            announce=self._announce,
            replayed=self.uplink.reread,
            cancel=self.updater.cancel,
            lot=self.disk.lots.take,
            now=now,
            uptime_s=self._uptime_s,
            boot_id=self._identity.boot_id,
        )
        desks = Desks(
            command=Commands(parts).take,
            model=self._desired_model,
            config=self._desired_config,
            job=self._job,
            happened=self._desk.happened,
        )
        return Mailroom(self.disk.inbox, desks, self._shared.verifier)

    def _desired_model(self, message: Incoming) -> Refusal | None:
        desired = desired_model.read(message)
        if isinstance(desired, Refusal):
            return desired
        self.updater.wanted(desired)
        return None

    def _desired_config(self, message: Incoming) -> Refusal | None:
        desired = desired_config.read(message)
        self.configurator.wanted(desired)
        return desired if isinstance(desired, Refusal) else None

    def _job(self, message: Incoming) -> None:
        self._jobs.taken(read_request(message), message.topic)

    def _make_control(self) -> Control:
        parts = Parts(
            outbox=self._outbox,
            spool=self.disk.spool,
            host=DrawnHost(self.chance, self.character.target.value, time.monotonic),
            stats=self._stats,
            desk=self._desk,
            mailroom=self._make_mailroom(),
            updater=self.updater,
            configurator=self.configurator,
            jobs=self._jobs,
            cameras=self._cameras,
            publish=self._publish,
            published=lambda: self.uplink.published,
            restarts=lambda: 0,
            now=now,
            monotonic=time.monotonic,
            beat=lambda: None,
            start=Start(self._began_s),
        )
        return Control(self._identity, parts)


def _no_benchmark(stop: object, seconds: float) -> Mapping[str, Any]:
    del stop, seconds
    raise Permanent(FailureCode.RUNTIME_MISSING, "a simulated board has no NPU to measure")
