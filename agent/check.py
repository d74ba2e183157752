"""What is wrong, in plain words: settings, model, cameras, broker, storage. Changes nothing."""

import queue
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from agent.adapters.bundle_fs import read_bundle
from agent.adapters.host_linux import LinuxHost
from agent.adapters.mqtt_paho import PahoLink
from agent.adapters.ticker_apscheduler import ApschedulerTicker
from agent.build import Place, camera_of, camera_plans, link_options, segmenter_of
from agent.config import CameraSettings, EveryInterval, OnCron, Settings
from agent.core import vision
from agent.core.outgoing import Outgoing
from agent.core.rate import Cron, Interval
from agent.errors import AgentError, Permanent
from agent.ports import Connected, Disconnected, LinkEvent
from agent.target import target_of
from schemas.codes import FailureCode
from schemas.topics import Topics

BROKER_WITHIN_S = 8.0
LEAST_FREE_BYTES = 100_000_000


@dataclass(frozen=True, slots=True)
class Finding:
    what: str
    ok: bool
    text: str


def check(settings: Settings) -> list[Finding]:
    """One finding a thing; what is wrong says what to do about it."""
    steps: list[tuple[str, Callable[[], str]]] = [
        ("storage", lambda: _storage(settings)),
        ("model", lambda: _model(settings)),
        *((f"camera {camera.id}", lambda camera=camera: _camera(settings, camera)) for camera in settings.camera),
        ("broker", lambda: _broker(settings)),
    ]
    return [_finding(what, step) for what, step in steps]


def _finding(what: str, step: Callable[[], str]) -> Finding:
    try:
        return Finding(what, ok=True, text=step())
    except AgentError as error:
        return Finding(what, ok=False, text=f"{error.text} [{error.code.value}]")


def _storage(settings: Settings) -> str:
    folder = settings.storage.data_dir
    probe = folder / f".check-{uuid.uuid4().hex}"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        probe.write_bytes(b"x")
        probe.unlink()
    except OSError as error:
        text = f"{folder} cannot be written: {error.strerror}; give the agent's user the folder or set data_dir"
        raise Permanent(FailureCode.DISK_FULL, text) from error
    free_bytes = _host(folder).sample().disk_free_bytes or 0
    if free_bytes < LEAST_FREE_BYTES:
        raise Permanent(FailureCode.DISK_FULL, f"{folder} has only {free_bytes / 1e6:.0f} MB left")
    return f"{folder} is writable, {free_bytes / 1e9:.1f} GB are free"


def _model(settings: Settings) -> str:
    target = target_of(settings, _host(settings.storage.data_dir))
    bundle = read_bundle(settings.model.bundle, target)
    camera_plans(settings, bundle, _topics(settings))
    height, width = bundle.spec.shapes[0]
    for core in settings.model.cores:
        segmenter = segmenter_of(bundle, settings, Place(target, core, f"core-{core}"))
        segmenter.close()
    manifest = bundle.manifest
    return f"{manifest.name} {manifest.version} for {target.value}, {width}x{height}, loads"


def _camera(settings: Settings, camera: CameraSettings) -> str:
    _schedule(settings, camera)
    adapter = camera_of(camera)
    try:
        adapter.open()
        picture = adapter.read()
    finally:
        adapter.close()
    if camera.roi is not None:
        _fits(camera, picture.width_px, picture.height_px)
    return f"{picture.width_px}x{picture.height_px} pixels, {picture.layout.value}"


def _fits(camera: CameraSettings, width_px: int, height_px: int) -> None:
    try:
        vision.Roi(*camera.roi or (0, 0, 1, 1)).clip((height_px, width_px), even=False)
    except ValueError as error:
        raise Permanent(FailureCode.CONFIG_INVALID, str(error)) from error


def _schedule(settings: Settings, camera: CameraSettings) -> None:
    ticker = ApschedulerTicker(settings.timezone)
    match camera.trigger:
        case EveryInterval(every_s=every_s):
            ticker.add(camera.id, Interval(every_s), lambda: None)
        case OnCron(expression=expression):
            ticker.add(camera.id, Cron(expression), lambda: None)


@contextmanager
def probe_link(
    settings: Settings, purpose: str
) -> Iterator[tuple[PahoLink, "queue.SimpleQueue[LinkEvent]", Connected]]:
    """Connected to the broker, with whatever is reported later. A client of its own: with the agent's id it would
    throw a running agent off. Errors: Permanent with the reason.
    """
    topics = _topics(settings)
    options = link_options(settings, topics)
    client_id = f"{options.client_id}.{purpose}-{uuid.uuid4().hex[:8]}"
    options = replace(options, client_id=client_id, session_expiry_s=0)
    will = Outgoing(f"{topics.base}/event/{purpose}", b"")
    link = PahoLink(options, lambda: 0, lambda _number: will, lambda _topic, _size: None)
    events: queue.SimpleQueue[LinkEvent] = queue.SimpleQueue()
    link.start(events.put, lambda _message: None)
    where = f"{options.host}:{options.port}"
    try:
        yield link, events, _connected(events, where)
    finally:
        link.stop(None, 1.0)


def _connected(events: "queue.SimpleQueue[LinkEvent]", where: str) -> Connected:
    try:
        event = events.get(timeout=BROKER_WITHIN_S)
    except queue.Empty:
        raise Permanent(FailureCode.BROKER_UNREACHABLE, f"{where} does not answer") from None
    if isinstance(event, Connected):
        return event
    code, reason = (
        (event.code, event.reason) if isinstance(event, Disconnected) else (FailureCode.INTERNAL, repr(event))
    )
    raise Permanent(code, f"{where}: {reason}; check [broker] and that the broker runs")


def _broker(settings: Settings) -> str:
    with probe_link(settings, "check") as (_link, _events, connected):
        where = f"{settings.broker.host}:{settings.broker.port}"
        most = connected.receive_maximum
        return f"{where} takes us as {settings.station.node}, up to {most} messages in flight"


def _host(folder: Path) -> LinuxHost:
    return LinuxHost(data_dir=folder, pids=tuple)


def _topics(settings: Settings) -> Topics:
    return Topics(settings.station.site, settings.station.node)
