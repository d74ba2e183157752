"""What all boards of one process have in common."""

import logging
import platform
import sys
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

from agent.adapters.fetcher_http import HttpFetcher
from agent.adapters.store_fs import FolderStore
from agent.adapters.ticker_apscheduler import ApschedulerTicker
from agent.adapters.trust_pinned import PinnedTrust
from agent.adapters.trust_tuf.trust import TufOptions, TufTrust
from agent.adapters.verify_ed25519 import Ed25519Verifier
from agent.config import CameraSettings, Model, Settings, Station, Telemetry
from agent.core.frame import Frame
from agent.errors import Permanent
from agent.least_time import LeastTime
from agent.loops.cameras import CamerasParts
from agent.loops.capture import Plan
from agent.loops.latest import Slots
from agent.loops.runner import Runner
from agent.loops.turns import Turns
from agent.ports import Camera, Store, Trust, Verifier
from agent.simulate.config import Simulation
from agent.simulate.models import ManifestAlone, SharedTrust, WordTrust
from agent.simulate.pictures import CAMERA
from agent.simulate.reactor import Reactor
from schemas.codes import FailureCode
from schemas.target import Target

log = logging.getLogger(__name__)

AGENT_VERSION = version("rkfleet")
PYTHON_VERSION = platform.python_version()
PLATFORM = f"{sys.platform}-{platform.machine()}"
_OPENERS = 8
_CREW = 8


def now() -> datetime:
    return datetime.now(UTC)


class Shared:
    """`folder` is for what boards keep on the disk. Errors: Permanent(CONFIG_INVALID)."""

    def __init__(self, simulation: Simulation, folder: Path, runner: Runner) -> None:
        self.simulation = simulation
        self.folder = folder
        self.reactor = Reactor()
        self.openers = ThreadPoolExecutor(_OPENERS, "open")
        is_on_http = simulation.trust.manifests
        self.crew = ThreadPoolExecutor(_CREW, "workshop") if is_on_http else None
        self.settings = _settings(simulation, folder)
        self.cameras = _cameras(runner)
        self.fetcher = HttpFetcher()
        folder.mkdir(parents=True, exist_ok=True)
        self._least = LeastTime(folder / "least-time", now)
        self.verifier = self._verifier()
        self._tuf: dict[Target, Trust] = {}

    def trust_of(self, target: Target, store: Store) -> Trust:
        """Whom one board believes about models."""
        trust = self.simulation.trust
        if not trust.manifests:
            return WordTrust(target)
        authority: Trust
        if trust.root is None or trust.metadata_url is None:
            authority = PinnedTrust(self.fetcher, store, target)
        else:
            authority = self._tuf_of(target, trust.root, trust.metadata_url)
        return authority if self.simulation.download else ManifestAlone(authority)

    def close(self) -> None:
        """After the reactor's thread has ended."""
        self.openers.shutdown(wait=True, cancel_futures=True)
        if self.crew is not None:
            self.crew.shutdown(wait=True, cancel_futures=True)
        self.reactor.close()

    def _tuf_of(self, target: Target, root: Path, metadata_url: str) -> Trust:
        """One for all boards of a target: each look-up costs a process of 25 MB."""
        if target not in self._tuf:
            folder = self.folder / "registry" / target.value
            options = TufOptions(root, metadata_url, folder / "metadata")
            store = FolderStore(folder / "models", target)
            self._tuf[target] = SharedTrust(TufTrust(options, store, target, self._least))
        return self._tuf[target]

    def _verifier(self) -> Verifier | None:
        keys = self.simulation.trust.controller_keys
        return None if keys is None else Ed25519Verifier(keys, self._least)


def _settings(simulation: Simulation, folder: Path) -> Settings:
    """The own settings of every board, but for its name, which nothing reads from here."""
    return Settings(
        station=Station(site=simulation.site, node="simulated"),
        model=Model(bundle=folder / "installed"),
        telemetry=Telemetry(interval_s=simulation.telemetry_s),
        camera=(CameraSettings(id=CAMERA, kind="synthetic"),),
    )


def _cameras(runner: Runner) -> CamerasParts:
    def no_camera(settings: CameraSettings) -> Camera:
        raise Permanent(FailureCode.CAMERA_ABSENT, f"camera {settings.id}: this board is simulated")

    def no_plan(settings: CameraSettings) -> Plan:
        raise Permanent(FailureCode.CAMERA_ABSENT, f"camera {settings.id}: this board is simulated")

    slots: Slots[Frame] = Slots((), Turns())
    return CamerasParts(
        slots=slots,
        runner=runner,
        schedules=ApschedulerTicker("UTC"),
        report=lambda _report: None,
        forget=lambda _camera: None,
        camera_of=no_camera,
        plan_of=no_plan,
    )
