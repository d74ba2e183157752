"""What needs no model and no camera: the disk, the machine, the way to the broker, and who the board is."""

import logging
import platform
import sys
import time
import uuid
from collections.abc import Callable
from datetime import UTC, datetime
from importlib.metadata import version

from agent.adapters.host_linux import LinuxHost
from agent.adapters.mqtt_paho import PahoLink
from agent.adapters.notify_systemd import Notify
from agent.adapters.segmenter_rknn import CORES
from agent.adapters.ticker_apscheduler import ApschedulerTicker
from agent.build import link_options
from agent.config import Settings
from agent.core.frame import Frame
from agent.core.identity import Identity
from agent.core.outgoing import Incoming
from agent.errors import AgentError
from agent.least_time import LeastTime
from agent.loops.control import Control, Happened, Item, Mail, Recorded
from agent.loops.desk import AlarmDesk
from agent.loops.lane import Lane
from agent.loops.latest import Slots
from agent.loops.ledger import Ledger
from agent.loops.orders import SpoolState
from agent.loops.outbox import Outbox
from agent.loops.runner import Runner
from agent.loops.start import Milestone, Start
from agent.loops.stats import Stats
from agent.loops.turns import Turns
from agent.loops.uplink import Uplink, UplinkHooks, UplinkSettings
from agent.ports import Refused, Segmenter
from agent.stores import Stores
from agent.target import target_of
from schemas.codes import FailureCode
from schemas.command import CommandName
from schemas.job import JobType
from schemas.status import Location
from schemas.topics import Topics

log = logging.getLogger(__name__)


def now() -> datetime:
    return datetime.now(UTC)


def new_id() -> str:
    return uuid.uuid4().hex


class Ground:
    """`control` and `lanes` are set by what is built on this ground, before anything runs. Errors: those of Stores."""

    control: Control

    def __init__(self, settings: Settings, notify: Notify) -> None:
        self.settings = settings
        self.notify = notify
        self.lanes: dict[str, Lane] = {}
        self.topics = Topics(settings.station.site, settings.station.node)
        self.host = LinuxHost(data_dir=settings.storage.data_dir, pids=self._child_pids)
        self.start = Start(time.monotonic() - (self.host.process_age_s() or 0.0))
        self.start.reach(Milestone.IMPORTED, time.monotonic())
        self.target = target_of(settings, self.host)
        self.disk = Stores(settings.storage, self.target, now)
        self.least = LeastTime(self.disk.folder / "least-time", now)
        self.start.reach(Milestone.STORES, time.monotonic())
        self.identity = self._make_identity()
        self.stats = Stats(time.monotonic)
        self.slots: Slots[Frame] = Slots((), Turns(settings.model.deadline_s + settings.model.load_deadline_s))
        self.link, self.uplink = self._make_uplink()
        self.outbox = Outbox(self.disk.spool, self.identity.boot_id, self.uplink.wake)
        self.desk = AlarmDesk(self.topics, self.outbox, self.uplink.now, now, new_id)
        self.ledger = Ledger(lambda: self.tell(Recorded()))
        self.runner = Runner(self.tell)
        self.ticker = ApschedulerTicker(settings.timezone)

    def tell(self, item: Item) -> None:
        """Control is made last and told by all the others."""
        self.start.saw(item, time.monotonic())
        self.control.put(item)

    def accept(self, message: Incoming) -> None:
        self.disk.inbox.put(message)
        self.tell(Mail())

    def uptime_s(self) -> float:
        return time.monotonic() - self.start.began_s

    def restarts(self) -> int:
        return sum(getattr(segmenter, "restarts", 0) for segmenter in self._segmenters())

    def beat(self) -> Callable[[], None]:
        """Tell systemd's watchdog that the agent lives: control turns and no loop has ended by itself."""
        interval_s = self.notify.watchdog_interval_s
        told_s = 0.0

        def beat() -> None:
            nonlocal told_s
            if interval_s is None or time.monotonic() - told_s < interval_s / 2 or not self.link.is_alive:
                return
            told_s = time.monotonic()
            self.notify.watchdog()

        return beat

    def _segmenters(self) -> list[Segmenter]:
        return [segmenter for lane in self.lanes.values() for segmenter in lane.segmenters()]

    def _child_pids(self) -> list[int]:
        pids = [getattr(segmenter, "pid", None) for segmenter in self._segmenters()]
        return [pid for pid in pids if isinstance(pid, int)]

    def _oversized(self, topic: str, size_bytes: int) -> None:
        text = f"{size_bytes} bytes on {topic[:200]} were thrown away"
        self.tell(Happened(FailureCode.MESSAGE_TOO_LARGE, "broker", text))

    def _refused(self, topic: str, outcome: Refused) -> None:
        text = f"a message on {topic[:200]} was refused: {outcome.reason}"
        self.tell(Happened(FailureCode.PUBLISH_REJECTED, "broker", text))

    def _spool_failed(self, error: AgentError) -> None:
        self.tell(SpoolState(error.code, error.text))

    def _make_uplink(self) -> tuple[PahoLink, Uplink]:
        options = link_options(self.settings, self.topics)
        link = PahoLink(options, self.disk.inbox.next_session, self.identity.will, self._oversized)
        hooks = UplinkHooks(changed=self.tell, refused=self._refused, spool_failed=self._spool_failed)
        return link, Uplink(link, self.disk.spool, UplinkSettings(window=options.window), hooks, clock=now)

    def _make_identity(self) -> Identity:
        return Identity(
            topics=self.topics,
            station=Location(**self.settings.station.model_dump()),
            boot_id=new_id(),
            started_at=now(),
            agent_version=version("rkfleet"),
            python_version=platform.python_version(),
            platform=f"{sys.platform}-{platform.machine()}",
            soc=self.host.soc(),
            target=self.target,
            npu_cores=CORES.get(self.target, 0),
            capabilities=(
                "desired/model",
                "desired/config",
                *(f"cmd/{name}" for name in CommandName),
                *(f"job/{name}" for name in JobType),
                *(("signed",) if self.settings.trust and self.settings.trust.controller_keys else ()),
            ),
        )
