"""A whole agent in this process whose control the test drives: real disk, lanes and jobs, no broker, still cameras.

What it would publish and what it puts into its spool is read back with the published models.
"""

import itertools
import queue
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from unittest import mock

import numpy as np
from pydantic import BaseModel

from agent import app
from agent.adapters.journal_fs import FileJournal
from agent.adapters.notify_systemd import Notify
from agent.build import camera_of
from agent.config import CameraSettings
from agent.config import load as load_settings
from agent.core import desired_config, update
from agent.core.frame import Layout, Picture
from agent.core.job import dump
from agent.core.outgoing import Incoming, Kind, Outgoing
from agent.errors import Retryable
from agent.loops.runner import Crash
from agent.ports import Camera
from agent.wiring import ground, lead
from schemas.alarm import Alarm, Event
from schemas.codes import FailureCode
from schemas.command import Reply
from schemas.job import JobExecution
from schemas.result import Result
from schemas.state import ReportedConfig, ReportedModel
from schemas.status import Info, Status
from schemas.topics import parse
from tests.scenario.bundle import SIZE_PX, make_bundle, make_pictures
from tests.scenario.hostile import Message

REPLIES = "replies/me"
_MODELS: dict[tuple[str, str], type[BaseModel]] = {
    ("reported", "model"): ReportedModel,
    ("reported", "config"): ReportedConfig,
    ("status", ""): Status,
    ("info", ""): Info,
}
_BY_FAMILY: dict[str, type[BaseModel]] = {"job": JobExecution, "alarm": Alarm, "event": Event, "result": Result}
_PATIENCE_S = 30.0

SETTINGS = """\
timezone = "UTC"
[station]
site = "berlin"
node = "board-1"
[model]
bundle = "bundle"
target = "cpu"
isolate = false
[storage]
data_dir = "data"
evidence_max_bytes = 0
[config]
probation_s = 3600.0
[[camera]]
id = "top"
kind = "folder"
source = "pictures"
[camera.trigger]
kind = "continuous"
rate_hz = 50.0
"""


class StillCamera:
    """A grey picture each 20 ms."""

    def __init__(self) -> None:
        self._closed = threading.Event()

    def open(self) -> None:
        self._closed.clear()

    def read(self) -> Picture:
        if self._closed.wait(0.02):
            raise Retryable(FailureCode.CAMERA_LOST, "closed")
        return Picture(np.full((SIZE_PX, SIZE_PX, 3), 255, np.uint8), Layout.RGB)

    def close(self) -> None:
        self._closed.set()


class Wire:
    """In the place of the uplink: keeps what should go out at once."""

    def __init__(self, *_parts: object, **_more: object) -> None:
        self.said: list[Outgoing] = []
        self.published = 0

    def now(self, message: Outgoing) -> None:
        self.said.append(message)

    def wake(self) -> None: ...

    def reread(self) -> None: ...

    def report(self, _event: object) -> None: ...

    def run(self, stop: threading.Event) -> None:
        stop.wait()


class NoLink:
    is_alive = True

    def __init__(self, *_parts: object) -> None: ...

    def start(self, *_callbacks: object) -> None: ...

    def stop(self, *_last: object) -> None: ...


@dataclass
class Inert:
    """One process of the agent; `feed` hands one message over and has control work until it is worked off."""

    app: app.App
    wire: Wire
    crashes: list[Crash] = field(default_factory=list)
    _read: int = 0

    def feed(self, message: Message) -> list[BaseModel]:
        """What the agent has said since the last call, as the models of its topics."""
        asks = REPLIES if message.asks else None
        self.app._ground.accept(
            Incoming(message.topic, message.payload, datetime.now(UTC), message.retain, asks, b"c" if asks else None)
        )
        self.drain()
        return self.said()

    def drain(self) -> None:
        control = self.app._control
        while True:
            try:
                item = control._queue.get_nowait()
            except queue.Empty:
                break
            if isinstance(item, Crash):
                self.crashes.append(item)
            control._handle(item)
        for part in (self.app._updater, self.app._configurator, self.app._jobs):
            part.tick()

    def wait(self, what: str, is_true: Callable[[], bool]) -> None:
        deadline_s = time.monotonic() + _PATIENCE_S
        while not is_true():
            assert time.monotonic() < deadline_s, what
            time.sleep(0.005)
            self.drain()

    def look(self, least: int) -> None:
        """Let the lanes have so many pictures, if they come at all."""
        goal, until_s = self.inspected() + least, time.monotonic() + 0.1
        while self.inspected() < goal and time.monotonic() < until_s:
            time.sleep(0.002)
            self.drain()

    def inspected(self) -> int:
        return sum(self.app._ground.stats.totals().inspected.values())

    def said(self) -> list[BaseModel]:
        heard, self.wire.said = self.wire.said, []
        spooled = self.app._disk.spool.pending(self._read, 1_000_000)
        self._read = max([self._read, *(each.row for each in spooled)])
        facts = [each.message for each in spooled if each.kind is Kind.EVENT]
        return [understood(each) for each in itertools.chain(heard, facts) if each.payload]

    def assert_on_disk(self) -> None:
        """What a next process would read is what this one knows."""
        disk = self.app._disk
        journal = disk.update_journal.read()
        assert journal is None or update.load(journal) == self.app._updater.state
        journal = disk.config_journal.read()
        assert journal is None or desired_config.load(journal) == self.app._configurator.state
        known = sorted(map(dump, self.app._jobs._register._jobs.values()))
        assert sorted(map(dump, disk.jobs.load())) == known
        assert disk.jobs.corrupt_files == []
        assert disk.inbox.waiting() == []


def understood(message: Outgoing) -> BaseModel:
    """Raises for what is no message of its topic."""
    if message.topic == REPLIES:
        return Reply.model_validate_json(message.payload)
    topic = parse(message.topic)
    model = _BY_FAMILY.get(topic.family) or _MODELS[topic.family, topic.name]
    return model.model_validate_json(message.payload)


def _still(settings: CameraSettings) -> Camera:
    camera_of(settings)  # what it refuses is refused
    return StillCamera()


def _watch(journal: FileJournal, load: Callable[[bytes], object]) -> None:
    """A crash may come after any write: what was written must be readable."""
    write = journal.write

    def checked(content: bytes) -> None:
        load(content)
        write(content)

    journal.write = checked  # type: ignore[method-assign]


def board(folder: Path) -> Path:
    """Its settings file."""
    make_bundle(folder / "bundle")
    make_pictures(folder / "pictures", 1)
    config = folder / "agent.toml"
    config.write_text(SETTINGS)
    return config


@contextmanager
def booted(config: Path) -> Iterator[Inert]:
    """Nothing runs; what was decided at the start can be looked at."""
    with (
        mock.patch.object(ground, "Uplink", Wire),
        mock.patch.object(ground, "PahoLink", NoLink),
        mock.patch.object(lead, "camera_of", _still),
    ):
        made = app.App(load_settings(config, {}), config.parent, Notify(None))
        wire = made._uplink
        assert isinstance(wire, Wire)
        inert = Inert(made, wire)
        _watch(made._disk.update_journal, update.load)
        _watch(made._disk.config_journal, desired_config.load)
        made._boot()
        try:
            yield inert
        finally:
            made._disk.close()


@contextmanager
def running(config: Path) -> Iterator[Inert]:
    """All its threads run but control's, which is the test's, and the uplink's. It ends as by a power cut."""
    with booted(config) as inert:
        made = inert.app
        made._cameras.start(made._configurator.settings.camera, "UTC")
        for name, lane in made._lanes.items():
            made._runner.start(f"lane {name}", lane.run)
        made._runner.start("workshop", made._workshop.run)
        made._updater.begin()
        made._jobs.begin()
        try:
            inert.wait("results", lambda: inert.inspected() > 0)
            inert.said()
            yield inert
        finally:
            _end(made)


def _end(made: app.App) -> None:
    made._cameras.stop_asking()
    for name in (*(f"lane {name}" for name in made._lanes), "workshop"):
        made._runner.ask_to_stop(name)
    made._workshop.wake()
    made._slots.stop()
    made._jobs.close()
    made._cameras.join(_PATIENCE_S)
    for name in (*(f"lane {name}" for name in made._lanes), "workshop"):
        assert made._runner.stop(name, _PATIENCE_S), name
