"""The parts of one server process, built from its settings."""

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

from fleet.adapters.boards_mqtt import MqttBoards
from fleet.adapters.db import Database, DbAudit, DbJobs, DbLock, DbResults, DbRollouts, DbRoster, DbUsers
from fleet.adapters.mqtt_paho import BatchOptions, LinkOptions, PahoPost, PahoReader, Tls
from fleet.adapters.signer_ed25519 import STATE_LIFE, ControllerSigner
from fleet.config import ServeSettings
from fleet.core.roster import NodeId
from fleet.errors import ErrorCode, FleetError, Permanent
from fleet.loops.controller import Controller, Pace
from fleet.loops.directory import Directory
from fleet.loops.ingest import Ingest, Stores
from fleet.loops.janitor import Janitor, Retention
from fleet.loops.lead import Lead
from fleet.loops.meters import Meters
from fleet.loops.publisher import Publisher, PublisherOptions
from fleet.loops.replay import Replay, ReplayPace

if TYPE_CHECKING:
    from fleet.adapters.registry_tuf import Registry


def now() -> datetime:
    return datetime.now(UTC)


class Store:
    """All that is in the database."""

    def __init__(self, database: Database) -> None:
        self.database = database
        self.roster = DbRoster(database)
        self.rollouts = DbRollouts(database)
        self.results = DbResults(database)
        self.jobs = DbJobs(database)
        self.audit = DbAudit(database)
        self.users = DbUsers(database)
        self.lock = DbLock(database)


class Sealer:
    """Signs what is for a board that wants it; `signer` None is a server without a registry, which signs nothing."""

    def __init__(self, signer: ControllerSigner | None, directory: Directory) -> None:
        self._signer = signer
        self._directory = directory

    def __call__(self, node: NodeId, topic: str, payload: bytes, life: timedelta) -> bytes:
        """Errors: those of the database."""
        if self._signer is None or not self._directory.is_signed_for(node):
            return payload
        return self._signer.sign(topic, payload, now(), life)


@dataclass(frozen=True, slots=True)
class Hall:
    """What the roles share."""

    settings: ServeSettings
    name: str
    store: Store
    meters: Meters
    directory: Directory
    registry: "Registry | None"
    signer: ControllerSigner | None


def open_registry(settings: ServeSettings, environ: Mapping[str, str]) -> "tuple[Registry, ControllerSigner] | None":
    """None where none is set. Errors: KeysMissing, Permanent(INVALID)."""
    folder, keys = settings.registry.folder, settings.keys_folder
    if folder is None or keys is None:
        return None
    from fleet.adapters.registry_tuf import KeyRing, Registry, ask_nobody  # noqa: PLC0415  only where there is one
    from fleet.adapters.registry_tuf.controllers import signing_key  # noqa: PLC0415

    if not (folder / "metadata" / "1.root.json").exists():
        raise Permanent(ErrorCode.INVALID, f"{folder} is no registry: make one with `rkfleet registry init`")
    ring = KeyRing(keys, environ, ask_nobody(environ))
    return Registry(folder, ring), ControllerSigner(signing_key(folder, ring))


def registry_problem(registry: "Registry", at: datetime) -> str | None:
    """Metadata that boards no longer believe, since nobody has signed them anew."""
    try:
        expired = [
            str(role["role"])
            for role in registry.roles()
            if role["expires"] and (role["version"] == 0 or datetime.fromisoformat(role["expires"]) <= at)
        ]
    except (FleetError, OSError) as error:
        return str(error)
    return f"expired: {', '.join(expired)}" if expired else None


def link_options(hall: Hall, purpose: str) -> LinkOptions:
    broker = hall.settings.broker
    tls = Tls(broker.ca, broker.cert, broker.key) if broker.has_tls else None
    return LinkOptions(
        host=broker.host,
        client_id=f"fleet-{purpose}-{hall.name}",
        port=broker.port,
        username=broker.username,
        password=broker.password,
        tls=tls,
        keepalive_s=broker.keepalive_s,
        session_expiry_s=broker.session_expiry_s if purpose == "ingest" else 0,
        window=broker.window,
    )


def make_reader(hall: Hall) -> PahoReader:
    ingest = hall.settings.ingest
    batches = BatchOptions(most=ingest.batch, flush_s=ingest.flush_s, most_waiting=ingest.most_waiting)
    return PahoReader(link_options(hall, "ingest"), now, batches, ingest.quiet_s)


def make_ingest(hall: Hall, reader: PahoReader, reported: Callable[[], None]) -> Ingest:
    store = hall.store
    hall.meters.watch("queue_depth", "Messages received and not worked off.", lambda: reader.inbox.depth)
    hall.meters.watch("telemetry_dropped", "Telemetry dropped as too much waited.", lambda: reader.inbox.dropped)
    return Ingest(reader.inbox, Stores(store.roster, store.results, store.jobs), hall.meters, reported)


@dataclass(frozen=True, slots=True)
class Control:
    """The loops of the role `controller`."""

    lead: Lead
    controller: Controller
    publisher: Publisher
    replay: Replay
    janitor: Janitor


def make_control(hall: Hall, post: PahoPost, urls: tuple[str, ...], is_hearing: Callable[[], bool]) -> Control:
    settings, store, meters = hall.settings.controller, hall.store, hall.meters
    lead = Lead(store.lock, hall.name, now, settings.lease_s)
    pace = Pace(tick_s=settings.tick_s, list_s=min(2.0, settings.tick_s * 2))
    stores = (store.roster, store.rollouts)
    controller = Controller(stores, lead, now=now, meters=meters, is_hearing=is_hearing, pace=pace)
    seal = Sealer(hall.signer, hall.directory)
    options = PublisherOptions(urls, STATE_LIFE)
    publisher = Publisher(store.rollouts, post, lead, seal=seal, options=options, meters=meters)
    controller.decided = publisher.wake
    asking = ReplayPace(settings.replay_turn_s, settings.replay_settle_s, settings.replay_again_s)
    boards = MqttBoards(post, seal, now)
    replay = Replay(store.results, boards, hall.directory, lead=lead, meters=meters, pace=asking)
    kept = hall.settings.retention
    keep = None if kept.results_days is None else timedelta(days=kept.results_days)
    janitor = Janitor(store.results, lead, Retention(keep, kept.results_most), meters)
    return Control(lead, controller, publisher, replay, janitor)


def data_folder(settings: ServeSettings) -> Path:
    return Path(os.fspath(settings.data)).absolute()
