"""Cameras that come, go and change while others run: real capture loops and a real runner on cameras of the test."""

import queue
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

from agent.config import CameraSettings
from agent.core.frame import Frame, Layout, Order, Picture
from agent.core.rate import Continuous, Cron, Interval, OnDemand
from agent.core.watch import Phase
from agent.errors import Permanent, Retryable
from agent.loops.cameras import Cameras, CamerasParts
from agent.loops.capture import CameraReport, Plan
from agent.loops.latest import Slots
from agent.loops.runner import Runner
from schemas.codes import FailureCode

LONG_S = 20.0
HANGS_AT_OPEN = 13


class FakeCamera:
    """Gives a picture as soon as `give` is called; blocks until then. One that hangs does not come back by `close`, and
    neither from opening, where it is made to hang there.
    """

    def __init__(self, settings: CameraSettings) -> None:
        self.settings = settings
        self.pictures: queue.Queue[Picture | Retryable] = queue.Queue()
        self.opened = threading.Semaphore(0)
        self.reading = threading.Semaphore(0)
        self.closed = threading.Event()
        self.ended = threading.Event()
        self.hangs = False
        self.goes_on = threading.Event()
        if settings.seed != HANGS_AT_OPEN:
            self.goes_on.set()

    def open(self) -> None:
        self.closed.clear()
        self.opened.release()
        self.goes_on.wait()

    def read(self) -> Picture:
        self.reading.release()
        while self.hangs or not self.closed.is_set():
            try:
                item = self.pictures.get(timeout=0.005)
            except queue.Empty:
                continue
            if isinstance(item, Retryable):
                raise item
            return item
        self.ended.set()
        raise Retryable(FailureCode.CAMERA_LOST, "closed", delay_s=0.0)

    def close(self) -> None:
        self.closed.set()

    def give(self, number: int) -> None:
        self.pictures.put(Picture(np.full((8, 8, 3), number, np.uint8), Layout.RGB))


class FakeSchedules:
    """Knows which schedules stand; the test says when they are due."""

    def __init__(self) -> None:
        self.zone = "UTC"
        self.standing: dict[str, tuple[Interval | Cron, Callable[[], None]]] = {}

    def check(self, schedule: Interval | Cron, zone: str) -> None:
        if zone == "Mars/Olympus":
            raise Permanent(FailureCode.CONFIG_INVALID, "time zone 'Mars/Olympus' is not known")
        if schedule == Cron("never"):
            raise Permanent(FailureCode.CONFIG_INVALID, "cron expression 'never': it has 1 fields, not 5")

    def add(self, name: str, schedule: Interval | Cron, put: Callable[[], None]) -> None:
        self.standing[name] = schedule, put

    def start(self) -> None: ...

    def stop(self) -> None: ...

    def remove(self, name: str) -> None:
        self.standing.pop(name, None)

    def set_zone(self, zone: str) -> None:
        self.zone = zone


class Rig:
    def __init__(self) -> None:
        self.slots: Slots[Frame] = Slots([])
        self.runner = Runner(lambda _crash: None)
        self.schedules = FakeSchedules()
        self.told: queue.Queue[CameraReport | str] = queue.Queue()
        self.made: dict[str, list[FakeCamera]] = {}
        parts = CamerasParts(
            slots=self.slots,
            runner=self.runner,
            schedules=self.schedules,
            report=self.told.put,
            forget=self.told.put,
            camera_of=self.make,
            plan_of=plan_of,
            stop_within_s=0.2,
        )
        self.cameras = Cameras(parts)

    def make(self, settings: CameraSettings) -> FakeCamera:
        if settings.seed == 666:
            raise ValueError("the picture is 16x16 px (least 240)")
        camera = FakeCamera(settings)
        self.made.setdefault(settings.id, []).append(camera)
        return camera

    def newest(self, name: str) -> FakeCamera:
        return self.made[name][-1]

    def shows(self, name: str, number: int) -> Frame:
        """The camera gives a picture, and it is the next that a lane gets."""
        self.newest(name).give(number)
        taken = self.slots.take(LONG_S)
        assert taken is not None
        assert taken[0] == name
        assert int(taken[1].picture.pixels[0, 0, 0]) == number
        return taken[1]

    def heard(self, name: str) -> list[CameraReport | str]:
        """All that was told until this camera streams."""
        found: list[CameraReport | str] = []
        while True:
            item = self.told.get(timeout=LONG_S)
            found.append(item)
            if isinstance(item, CameraReport) and (item.camera, item.phase) == (name, Phase.STREAMING):
                return found

    def thread(self, name: str) -> threading.Thread:
        return self.runner._threads[f"capture {name}"][0]

    def end(self) -> None:
        for cameras in self.made.values():
            for camera in cameras:
                camera.hangs = False
                camera.goes_on.set()
        self.cameras.stop_asking()
        self.cameras.join(LONG_S)
        assert self.runner.alive() == []


def plan_of(settings: CameraSettings) -> Plan:
    trigger = settings.trigger
    return Plan(Continuous(None)) if trigger.kind == "continuous" else Plan(OnDemand(live=False))


def camera(name: str, **fields: Any) -> CameraSettings:
    trigger = {"trigger": {"kind": "continuous", "rate_hz": 1000.0}}
    return CameraSettings.model_validate({"id": name, "kind": "synthetic"} | trigger | fields)


@pytest.fixture
def rig() -> Iterator[Rig]:
    made = Rig()
    yield made
    made.end()


def test_cameras_that_start_show_their_pictures(rig: Rig) -> None:
    rig.cameras.start([camera("b"), camera("a")], "UTC")
    assert [(info.id, info.kind, info.trigger) for info in rig.cameras.infos()] == [
        ("b", "synthetic", "continuous"),
        ("a", "synthetic", "continuous"),
    ]
    rig.shows("a", 1)
    rig.shows("b", 2)
    assert {name: count.captured for name, count in rig.cameras.counts().items()} == {"a": 1, "b": 1}


def test_the_others_go_on_untouched_while_one_changes_one_goes_and_one_comes(rig: Rig) -> None:
    rig.cameras.start([camera("stays"), camera("changes"), camera("goes")], "UTC")
    for name in ("stays", "changes", "goes"):
        assert rig.newest(name).opened.acquire(timeout=LONG_S)
    assert rig.shows("stays", 1).seq == 0
    gone, changed = rig.newest("goes"), rig.newest("changes")
    rig.cameras.apply([camera("comes"), camera("changes", seed=2), camera("stays", recipe="other")], "UTC")
    assert gone.ended.wait(LONG_S)
    assert changed.ended.wait(LONG_S)
    assert rig.shows("stays", 2).seq == 1
    assert len(rig.made["stays"]) == 1
    assert not rig.newest("stays").opened.acquire(blocking=False)
    assert rig.shows("comes", 3).seq == 0
    assert rig.shows("changes", 4).seq == 0
    assert set(rig.cameras.counts()) == {"comes", "changes", "stays"}
    assert [info.id for info in rig.cameras.infos()] == ["comes", "changes", "stays"]
    assert sorted(rig.runner.alive()) == ["capture changes", "capture comes", "capture stays"]
    assert "goes" not in rig.schedules.standing


def test_a_change_that_only_lanes_read_leaves_the_loop_alone(rig: Rig) -> None:
    rig.cameras.start([camera("top")], "UTC")
    rig.cameras.apply([camera("top", roi=(0, 0, 4, 4), recipe="b", pixel_size_mm=0.1)], "UTC")
    assert len(rig.made["top"]) == 1


def test_a_changed_priority_applies_to_what_waits_and_leaves_the_loop_alone(rig: Rig) -> None:
    rig.cameras.start([camera("top"), camera("side", priority=1)], "UTC")
    rig.heard("top")
    rig.cameras.apply([camera("top", priority=2), camera("side", priority=1)], "UTC")
    assert len(rig.made["top"]) == 1
    for name in ("side", "top"):
        rig.newest(name).give(5)
    while not all(count.captured for count in rig.slots.counts().values()):
        rig.thread("top").join(0.001)
    taken = rig.slots.take(LONG_S)
    assert taken is not None
    assert taken.camera == "top"


def test_what_a_stopped_camera_was_is_forgotten_after_its_last_word_and_before_the_next_ones_first(rig: Rig) -> None:
    rig.cameras.start([camera("top")], "UTC")
    rig.heard("top")
    rig.newest("top").pictures.put(Retryable(FailureCode.CAMERA_LOST, "gone", delay_s=0.0))
    lost = rig.told.get(timeout=LONG_S)
    assert isinstance(lost, CameraReport)
    assert lost.raised
    rig.cameras.apply([camera("top", seed=2)], "UTC")
    heard = rig.heard("top")
    while "top" not in heard:  # it may have come back just before it was stopped
        heard += rig.heard("top")
    at = heard.index("top")
    assert all(isinstance(item, CameraReport) for item in heard[at + 1 :])
    assert len(heard) > at + 1
    rig.cameras.apply([camera("other")], "UTC")
    assert "top" in rig.heard("other")


def test_a_late_picture_of_a_camera_that_hung_is_not_one_of_the_new_one(rig: Rig) -> None:
    rig.cameras.start([camera("top")], "UTC")
    old, thread = rig.newest("top"), rig.thread("top")
    old.hangs = True
    assert old.reading.acquire(timeout=LONG_S)
    rig.cameras.apply([camera("top", seed=2)], "UTC")
    assert thread.is_alive()
    old.give(66)
    thread.join(LONG_S)
    assert not thread.is_alive()
    rig.shows("top", 7)
    assert rig.slots.counts()["top"].captured == 1


def test_a_late_report_of_a_camera_that_hung_is_not_heard(rig: Rig) -> None:
    rig.cameras.start([camera("top", seed=HANGS_AT_OPEN)], "UTC")
    old, thread = rig.newest("top"), rig.thread("top")
    assert old.opened.acquire(timeout=LONG_S)
    rig.cameras.apply([camera("top", seed=2)], "UTC")
    heard = rig.heard("top")
    assert heard[0] == "top"
    assert thread.is_alive()
    old.goes_on.set()
    thread.join(LONG_S)
    assert not thread.is_alive()
    assert rig.told.empty()
    assert not rig.runner.failed.is_set()


@pytest.mark.parametrize(
    ("bad", "zone", "text"),
    [
        ({"trigger": {"kind": "cron", "expression": "never"}}, "UTC", "camera bad: trigger: cron expression 'never'"),
        ({"seed": 666}, "UTC", "camera bad: the picture is 16x16 px"),
        ({}, "Mars/Olympus", "time zone 'Mars/Olympus' is not known"),
    ],
)
def test_what_cannot_be_is_refused_and_changes_nothing(rig: Rig, bad: dict[str, Any], zone: str, text: str) -> None:
    every = camera("top", trigger={"kind": "interval", "every_s": 5.0})
    rig.cameras.start([every], "Asia/Tokyo")
    before = rig.cameras.infos(), rig.schedules.zone, dict(rig.schedules.standing), rig.runner.alive()
    with pytest.raises(Permanent, match=text) as caught:
        rig.cameras.apply([camera("top", seed=2), camera("bad", **bad)], zone)
    assert caught.value.code is FailureCode.CONFIG_INVALID
    assert before == (rig.cameras.infos(), rig.schedules.zone, rig.schedules.standing, rig.runner.alive())


def test_schedules_follow_the_settings(rig: Rig) -> None:
    cron = {"trigger": {"kind": "cron", "expression": "0 6 * * *"}}
    rig.cameras.start([camera("top", **cron), camera("side")], "UTC")
    assert rig.schedules.standing["top"][0] == Cron("0 6 * * *")
    rig.cameras.apply([camera("top", **cron), camera("side")], "Europe/Berlin")
    assert (rig.schedules.zone, len(rig.made["top"])) == ("Europe/Berlin", 1)
    rig.cameras.apply([camera("top", trigger={"kind": "interval", "every_s": 5.0})], "Europe/Berlin")
    schedule, put = rig.schedules.standing["top"]
    assert schedule == Interval(5.0)
    put()
    rig.shows("top", 1)


def test_a_picture_may_be_asked_for(rig: Rig) -> None:
    rig.cameras.start([camera("top", trigger={"kind": "interval", "every_s": 3600.0})], "UTC")
    rig.heard("top")
    order = Order("job-1", part_id="p")
    assert rig.cameras.trigger("top", order)
    assert rig.shows("top", 1).order == order
    assert rig.cameras.trigger("top", None)
    assert rig.shows("top", 2).order is None
    assert not rig.cameras.trigger("nowhere", order)
    assert not rig.cameras.trigger("nowhere", None)
    rig.cameras.trigger("top", Order("job-2"))
    rig.cameras.withdraw("job-2")
    assert rig.cameras.trigger("top", None)
    assert rig.shows("top", 3).order is None


def test_triggers_that_are_missed_are_counted_by_camera(rig: Rig) -> None:
    rig.cameras.start([camera("top", trigger={"kind": "interval", "every_s": 3600.0})], "UTC")
    rig.heard("top")
    rig.cameras.trigger("top", None)
    rig.cameras.trigger("top", None)
    assert rig.cameras.missed("top") == 1
    assert rig.cameras.missed("nowhere") == 0


def test_once_stopped_nothing_is_started_any_more(rig: Rig) -> None:
    rig.cameras.start([camera("top"), camera("side")], "UTC")
    rig.cameras.stop_asking()
    rig.cameras.join(LONG_S)
    assert rig.runner.alive() == []
    rig.cameras.apply([camera("new")], "UTC")
    assert rig.runner.alive() == []


def test_a_camera_that_hangs_does_not_hold_up_the_end(rig: Rig) -> None:
    rig.cameras.start([camera("top"), camera("side")], "UTC")
    rig.newest("top").hangs = True
    assert rig.newest("top").reading.acquire(timeout=LONG_S)
    rig.cameras.stop_asking()
    began_s = time.monotonic()
    rig.cameras.join(0.2)
    assert time.monotonic() - began_s < LONG_S / 2
    assert rig.runner.alive() == ["capture top"]
