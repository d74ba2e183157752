"""A registry with all its keys, a hostile web server before it, and boards that ask."""

import base64
import copy
import os
import shutil
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from securesystemslib.signer import CryptoSigner
from tuf.api.metadata import Metadata, MetaFile, Root, Snapshot, Targets, Timestamp

from agent.adapters.store_fs import FolderStore
from agent.adapters.trust_tuf.pace import Pace
from agent.adapters.trust_tuf.trust import TufOptions, TufTrust
from agent.core.fetch_plan import FetchPlan
from agent.errors import AgentError
from agent.least_time import LeastTime
from fleet.adapters.registry_tuf import KeyRing, Registry
from schemas.state import DesiredModel
from schemas.target import Target
from tests.contract.file_server import Answer, FileServer, file_server
from tests.scenario.bundle import make_bundle

NOW = datetime(2026, 6, 1, tzinfo=UTC)
NEVER = datetime(2999, 1, 1, tzinfo=UTC)
PASSPHRASE = "a passphrase of some length"
BRISK = Pace(wait_s=1.0, least_bytes_per_s=2000.0, window_s=1.0)


def a_signer() -> CryptoSigner:
    return CryptoSigner(Ed25519PrivateKey.generate())


def keys_in_environment(root_keys: int = 3) -> dict[str, str]:
    def some(count: int) -> str:
        return ",".join(base64.b64encode(os.urandom(32)).decode() for _ in range(count))

    counts = {"ROOT": root_keys, "TARGETS": 1, "SNAPSHOT": 1, "TIMESTAMP": 1, "CONTROLLER": 1}
    return {f"RKFLEET_KEY_{role}": some(count) for role, count in counts.items()}


class Clock:
    def __init__(self, now: datetime) -> None:
        self.now = now

    def __call__(self) -> datetime:
        return self.now


@dataclass
class Board:
    trust: TufTrust
    store: FolderStore
    clock: Clock
    least: LeastTime
    stop: threading.Event = field(default_factory=threading.Event)

    def authorise(self, desired: DesiredModel) -> FetchPlan | AgentError:
        try:
            return self.trust.authorise(desired, self.stop)
        except AgentError as error:
            return error


@dataclass
class World:
    folder: Path
    registry: Registry
    server: FileServer
    digests: dict[str, str] = field(default_factory=dict)

    @property
    def metadata(self) -> Path:
        return self.registry.folder / "metadata"

    def publish(self, version: str, now: datetime = NOW) -> DesiredModel:
        bundle = make_bundle(self.folder / f"bundle-{version}", version)
        self.digests[version] = self.registry.publish(bundle, now).manifest_sha256
        return self.desired(version)

    def desired(self, version: str, **changed: Any) -> DesiredModel:
        sha256 = self.digests[version]
        url = f"{self.server.url}/bundles/{sha256}"
        said = {
            "generation": 1,
            "name": "probe",
            "version": version,
            "manifest_sha256": sha256,
            "urls": [url],
            **changed,
        }
        return DesiredModel.model_validate(said)

    def serve(self) -> None:
        """Honestly, all that the registry has now."""
        self.server.asked.clear()
        for path in ("2.root.json", "3.root.json", "3.targets.json", "4.targets.json", "3.snapshot.json"):
            self.server.script(f"/metadata/{path}", Answer(status=404))
        self.server.serve_folder("", self.registry.folder)

    def say(self, name: str, content: bytes | Answer) -> None:
        answer = content if isinstance(content, Answer) else Answer(content)
        self.server.script(f"/metadata/{name}", answer)

    def signers(self, role: str) -> list[CryptoSigner]:
        root = self.registry.metadata.root().signed
        return self.registry.keys.signers(role, root.roles[role].keyids)

    def forge(
        self,
        role: str,
        signers: list[CryptoSigner],
        change: Callable[[Any], None],
    ) -> bytes:
        """The role's newest metadata, changed and signed by these."""
        kinds: dict[str, Any] = {"root": Root, "targets": Targets, "snapshot": Snapshot, "timestamp": Timestamp}
        root = self.registry.metadata.root()
        found = root if role == "root" else self.registry.metadata.newest(role, kinds[role], root.signed)
        assert found is not None
        signed = copy.deepcopy(found.signed)
        change(signed)
        made: Metadata[Any] = Metadata(signed)
        for signer in signers:
            made.sign(signer, append=True)
        return made.to_bytes()

    def show(self, targets: bytes, version: int) -> None:
        """Targets of the attacker's making, rightly pointed at by the online roles: their keys are stolen."""
        self.say(f"{version}.targets.json", targets)

        def at_targets(snapshot: Snapshot) -> None:
            snapshot.version += 1
            snapshot.meta["targets.json"] = MetaFile.from_data(version, targets, ["sha256"])

        snapshot = self.forge("snapshot", self.signers("snapshot"), at_targets)
        number = Metadata[Snapshot].from_bytes(snapshot).signed.version
        self.say(f"{number}.snapshot.json", snapshot)

        def at_snapshot(timestamp: Timestamp) -> None:
            timestamp.version += 1
            timestamp.snapshot_meta = MetaFile.from_data(number, snapshot, ["sha256"])

        self.say("timestamp.json", self.forge("timestamp", self.signers("timestamp"), at_snapshot))

    def board(self, name: str = "board", target: Target = Target.CPU, **options: Any) -> Board:
        home = self.folder / name
        home.mkdir(exist_ok=True)
        clock = Clock(NOW + timedelta(hours=1))
        store = FolderStore(home / "store", target)
        least = LeastTime(home / "least-time", clock)
        root = home / "root.json"
        shutil.copy(self.metadata / "1.root.json", root)
        made = TufOptions(root, f"{self.server.url}/metadata", home / "tuf", **{"pace": BRISK, **options})
        return Board(TufTrust(made, store, target, least), store, clock, least)


@contextmanager
def world(folder: Path) -> Iterator[World]:
    """One model is published, `probe 1.0.0`, and served."""
    keys = KeyRing(folder / "keys", keys_in_environment(), lambda _what: PASSPHRASE)
    registry = Registry(folder / "registry", keys)
    registry.folder.mkdir(parents=True)
    registry.init(NOW)
    with file_server() as server:
        made = World(folder, registry, server)
        made.publish("1.0.0")
        made.serve()
        yield made
