"""The capture loop on a camera whose every read the test decides."""

import queue
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

import numpy as np
import pytest

from agent.core.backoff import Backoff
from agent.core.frame import Frame, Layout, Order, Picture
from agent.core.rate import Continuous, OnDemand
from agent.core.watch import Phase, Rules
from agent.errors import AgentError, Permanent, Retryable
from agent.loops.capture import Ambience, CameraReport, CaptureLoop, Plan
from agent.loops.latest import Slots
from schemas.codes import FailureCode

LONG_S = 20.0
LOST = Retryable(FailureCode.CAMERA_LOST, "rtsp://me:secret@cam: gone", delay_s=0.0)
ABSENT = Retryable(FailureCode.CAMERA_ABSENT, "not there", delay_s=0.0)
ENDED = Permanent(FailureCode.CAMERA_ENDED, "that was all")
EPOCH = datetime(2026, 1, 1, tzinfo=UTC)


def picture(number: int, side_px: int = 8) -> Picture:
    return Picture(np.full((side_px, side_px, 3), number, np.uint8), Layout.RGB)


class ScriptedCamera:
    """Opens and reads as the test says; blocks while nothing is said, until closed."""

    def __init__(self, *opens: AgentError | None) -> None:
        self.opens: Iterator[AgentError | None] = iter(opens)
        self.reads: queue.Queue[Picture | AgentError] = queue.Queue()
        self.reading = threading.Semaphore(0)
        self.opened = 0
        self.closed = threading.Event()

    def open(self) -> None:
        self.opened += 1
        self.closed.clear()
        error = next(self.opens, None)
        if error is not None:
            raise error

    def read(self) -> Picture:
        self.reading.release()
        while not self.closed.is_set():
            try:
                item = self.reads.get(timeout=0.01)
            except queue.Empty:
                continue
            if isinstance(item, AgentError):
                raise item
            return item
        raise Retryable(FailureCode.CAMERA_LOST, "closed")

    def close(self) -> None:
        self.closed.set()


@dataclass
class Rig:
    """A running loop. `at_s` is the monotonic clock that it sees."""

    camera: ScriptedCamera
    plan: Plan
    at_s: float = 100.0
    stop: threading.Event = field(default_factory=threading.Event)
    reports: "queue.Queue[CameraReport]" = field(default_factory=queue.Queue)

    def __post_init__(self) -> None:
        self.slots: Slots[Frame] = Slots(["top"])
        ambience = Ambience(lambda: EPOCH + timedelta(seconds=self.at_s), lambda: self.at_s, lambda: 0.0)
        self.loop = CaptureLoop(("top", self.camera), self.slots["top"], self.reports.put, self.plan, ambience)
        self.thread = threading.Thread(target=self.loop.run, args=(self.stop,))
        self.thread.start()

    def give(self, *items: Picture | AgentError) -> None:
        """Return once the loop has dealt with all of them and reads again, or has ended."""
        for item in items:
            assert self.camera.reading.acquire(timeout=LONG_S)
            self.camera.reads.put(item)

    def settled(self) -> None:
        assert self.camera.reading.acquire(timeout=LONG_S)
        self.camera.reading.release()

    def take(self) -> tuple[int, Frame]:
        taken = self.slots.take(LONG_S)
        assert taken is not None
        return int(taken[1].picture.pixels[0, 0, 0]), taken[1]

    def report(self) -> CameraReport:
        return self.reports.get(timeout=LONG_S)

    def end(self) -> None:
        self.stop.set()
        self.loop.wake()
        self.thread.join(LONG_S)
        assert not self.thread.is_alive()


@pytest.fixture
def rigs() -> Iterator[list[Rig]]:
    made: list[Rig] = []
    yield made
    for rig in made:
        rig.end()


def start(rigs: list[Rig], plan: Plan | None = None, *opens: AgentError | None) -> Rig:
    rig = Rig(ScriptedCamera(*opens), plan or Plan())
    rigs.append(rig)
    return rig


def test_a_frame_says_where_and_when_it_was_captured(rigs: list[Rig]) -> None:
    rig = start(rigs)
    rig.settled()
    rig.at_s = 100.25
    rig.give(picture(7))
    number, frame = rig.take()
    assert number == 7
    assert (frame.camera, frame.seq) == ("top", 0)
    assert frame.captured_at == EPOCH + timedelta(seconds=100.25)
    assert frame.captured_mono_s == 100.25
    assert frame.acquisition_ms == pytest.approx(250.0)


def test_the_latest_frame_wins_and_a_drop_is_a_gap_in_seq(rigs: list[Rig]) -> None:
    rig = start(rigs)
    rig.give(picture(1), picture(2), picture(3))
    rig.settled()
    # `reading` was released for the read after the third, so all three are in.
    while rig.slots.counts()["top"].captured < 3:
        rig.thread.join(0.01)
    number, frame = rig.take()
    assert (number, frame.seq) == (3, 2)
    assert rig.slots.counts()["top"].dropped == 2


def test_the_rate_is_kept(rigs: list[Rig]) -> None:
    rig = start(rigs, Plan(trigger=Continuous(rate_hz=10.0)))
    for number in range(30):
        rig.settled()
        rig.at_s = 100.0 + number / 30
        rig.give(picture(number))
    rig.settled()
    rig.give(ENDED)
    rig.thread.join(LONG_S)
    assert 10 <= rig.slots.counts()["top"].captured <= 11


def test_lost_and_back_is_one_alarm_that_clears_with_a_picture(rigs: list[Rig]) -> None:
    rig = start(rigs, None, None, ABSENT, ABSENT, None)
    assert rig.report().phase is Phase.STREAMING
    rig.give(picture(1), LOST)
    lost = rig.report()
    assert [alarm.code for alarm in lost.raised] == [FailureCode.CAMERA_LOST]
    assert lost.phase is Phase.CONNECTING
    assert "gone" in lost.text
    assert "secret" not in lost.text + lost.raised[0].text
    rig.give(picture(2))
    reopened, back = rig.report(), rig.report()
    assert (reopened.phase, reopened.cleared) == (Phase.STREAMING, ())
    assert back.cleared == (FailureCode.CAMERA_LOST,)
    assert rig.camera.opened == 4


def test_frozen_closes_and_opens_again(rigs: list[Rig]) -> None:
    rig = start(rigs, Plan(rules=Rules(frozen_after_s=5.0, frozen_pictures=2)))
    rig.report()
    rig.give(picture(1))
    rig.settled()
    rig.at_s += 6.0
    rig.give(picture(1))
    frozen = rig.report()
    assert [alarm.code for alarm in frozen.raised] == [FailureCode.CAMERA_FROZEN]
    rig.give(picture(2))
    rig.report()
    assert rig.report().cleared == (FailureCode.CAMERA_FROZEN,)
    assert rig.camera.opened == 2


def test_another_size_is_an_alarm_and_is_not_handed_over_before_the_reconnect(rigs: list[Rig]) -> None:
    rig = start(rigs)
    rig.report()
    rig.give(picture(1))
    assert rig.take()[0] == 1
    rig.give(picture(2, side_px=16))
    assert [alarm.code for alarm in rig.report().raised] == [FailureCode.CAMERA_SIZE_CHANGED]
    rig.give(picture(3, side_px=16))
    assert rig.take()[0] == 3


@pytest.mark.parametrize(
    ("error", "phase", "raised"),
    [
        pytest.param(ENDED, Phase.ENDED, 0, id="the end of a file: quietly"),
        pytest.param(Permanent(FailureCode.CAMERA_ABSENT, "no ffmpeg"), Phase.FAILED, 1, id="permanent: with an alarm"),
    ],
)
def test_the_loop_ends_by_itself(rigs: list[Rig], error: AgentError, phase: Phase, raised: int) -> None:
    rig = start(rigs)
    rig.report()
    rig.give(picture(1), error)
    last = rig.report()
    assert (last.phase, len(last.raised)) == (phase, raised)
    rig.thread.join(LONG_S)
    assert not rig.thread.is_alive()


def test_a_stop_ends_a_blocked_read_and_is_no_loss(rigs: list[Rig]) -> None:
    rig = start(rigs)
    rig.report()
    rig.settled()
    rig.end()
    assert rig.reports.empty()


def test_a_stop_interrupts_the_wait_for_a_camera_that_is_absent() -> None:
    camera = ScriptedCamera(*[Retryable(FailureCode.CAMERA_ABSENT, "not there", delay_s=3600.0)] * 9)
    rig = Rig(camera, Plan(backoff=Backoff(3600.0, 3600.0)))
    assert rig.report().raised
    rig.end()
    assert camera.opened == 1


def test_a_stop_before_the_start_opens_nothing() -> None:
    camera, stop = ScriptedCamera(), threading.Event()
    stop.set()
    CaptureLoop(("top", camera), Slots[Frame](["top"])["top"], lambda _: None).run(stop)
    assert camera.opened == 0


def test_a_stop_while_opening_is_seen_before_the_first_read() -> None:
    stop = threading.Event()

    class Slow(ScriptedCamera):
        def open(self) -> None:
            super().open()
            stop.set()

    camera = Slow()
    CaptureLoop(("top", camera), Slots[Frame](["top"])["top"], lambda _: None).run(stop)
    assert camera.closed.is_set()
    assert not camera.reading.acquire(blocking=False)


def test_the_loop_may_be_run_again_after_a_fault_of_ours() -> None:
    class Faulty(ScriptedCamera):
        def read(self) -> Picture:
            if self.opened == 1:
                raise ZeroDivisionError
            return super().read()

    camera, slots = Faulty(), Slots[Frame](["top"])
    loop = CaptureLoop(("top", camera), slots["top"], lambda _: None)
    with pytest.raises(ZeroDivisionError):
        loop.run(threading.Event())
    assert camera.closed.is_set()
    camera.reads.put(picture(1))
    camera.reads.put(ENDED)
    loop.run(threading.Event())
    assert slots.take(LONG_S) is not None


def test_a_trigger_gets_a_picture_that_was_captured_after_it(rigs: list[Rig]) -> None:
    rig = start(rigs, Plan(trigger=OnDemand()))
    rig.give(picture(1))
    rig.settled()
    rig.at_s += 1.0
    rig.loop.trigger()
    rig.at_s += 0.1
    rig.give(picture(2), picture(3), picture(4))  # the read of 2 began before the trigger
    assert rig.take()[0] == 3
    rig.settled()
    assert rig.slots.counts()["top"].captured == 1


def test_a_trigger_allows_for_the_delay_of_the_source(rigs: list[Rig]) -> None:
    rig = start(rigs, Plan(trigger=OnDemand(delay_s=0.5)))
    rig.settled()
    rig.loop.trigger()
    for number in range(1, 10):
        rig.settled()
        rig.at_s += 0.2
        rig.give(picture(number))
    number, frame = rig.take()
    assert frame.captured_mono_s - frame.acquisition_ms / 1e3 >= 100.5
    assert number <= 5


def test_a_trigger_that_no_picture_answers_in_time_is_missed_and_never_shows_the_next_part(rigs: list[Rig]) -> None:
    rig = start(rigs, Plan(trigger=OnDemand(within_s=2.0)))
    rig.settled()
    rig.loop.trigger()
    rig.at_s += 3.0
    rig.give(picture(1), picture(2))
    rig.settled()
    assert rig.loop.missed == 1
    assert rig.slots.counts()["top"].captured == 0


def test_a_second_trigger_takes_the_place_of_the_first(rigs: list[Rig]) -> None:
    rig = start(rigs, Plan(trigger=OnDemand()))
    rig.settled()
    rig.loop.trigger()
    rig.loop.trigger()
    rig.at_s += 0.1
    rig.give(picture(1), picture(2), picture(3))
    assert rig.take()[0] == 2
    assert rig.loop.missed == 1


def test_a_folder_on_demand_is_read_once_a_trigger(rigs: list[Rig]) -> None:
    rig = start(rigs, Plan(trigger=OnDemand(live=False)))
    rig.report()
    assert not rig.camera.reading.acquire(timeout=0.05)
    for number in range(1, 4):
        rig.loop.trigger()
        rig.give(picture(number))
        assert rig.take()[0] == number
    assert rig.loop.missed == 0


def test_a_stop_ends_the_wait_for_a_trigger(rigs: list[Rig]) -> None:
    rig = start(rigs, Plan(trigger=OnDemand(live=False)))
    rig.report()
    rig.end()


def orders_of(frames: list[Frame]) -> list[str]:
    return [frame.order.job_id if frame.order else "" for frame in frames]


def drain(rig: Rig) -> list[Frame]:
    frames = []
    while (taken := rig.slots.take(0.0)) is not None:
        frames.append(taken[1])
    return frames


def test_an_order_gets_one_picture_from_after_it_whatever_the_rate_is(rigs: list[Rig]) -> None:
    rig = start(rigs, Plan(trigger=Continuous(rate_hz=0.001)))
    rig.give(picture(1))
    rig.settled()
    rig.at_s += 1.0
    assert rig.loop.trigger(Order("job-1", part_id="SN-7"))
    rig.at_s += 0.1
    rig.give(picture(2), picture(3), picture(4))  # the read of 2 began before the order
    rig.settled()
    frames = drain(rig)
    assert [int(frame.picture.pixels[0, 0, 0]) for frame in frames] == [1, 3]
    assert frames[0].order is None
    assert frames[1].order == Order("job-1", part_id="SN-7")
    assert [frame.seq for frame in frames] == [0, 1]


def test_an_ordered_picture_is_not_dropped_for_a_newer_one_and_takes_nothing_from_the_rate(rigs: list[Rig]) -> None:
    rig = start(rigs, Plan(trigger=Continuous(rate_hz=10.0)))
    rig.settled()
    rig.loop.trigger(Order("job-1"))
    for number in range(1, 5):
        rig.settled()
        rig.at_s += 1.0
        rig.give(picture(number))
    rig.settled()
    frames = drain(rig)
    assert orders_of(frames) == ["job-1", ""]
    assert [int(frame.picture.pixels[0, 0, 0]) for frame in frames] == [2, 4]
    assert rig.slots.counts()["top"].captured == 4


def test_each_order_gets_a_picture_of_its_own_in_turn(rigs: list[Rig]) -> None:
    rig = start(rigs, Plan(trigger=OnDemand()))
    rig.settled()
    rig.loop.trigger(Order("a"))
    rig.loop.trigger(Order("b"))
    rig.loop.trigger()
    rig.at_s += 0.1
    rig.give(picture(1), picture(2), picture(3), picture(4), picture(5))
    rig.settled()
    assert orders_of(drain(rig)) == ["a", "b", ""]
    assert rig.loop.missed == 0


def test_an_order_waits_for_a_source_that_is_read_on_demand(rigs: list[Rig]) -> None:
    rig = start(rigs, Plan(trigger=OnDemand(live=False)))
    rig.report()
    rig.loop.trigger(Order("a"))
    rig.give(picture(1))
    number, frame = rig.take()
    assert (number, orders_of([frame])) == (1, ["a"])
    assert not rig.camera.reading.acquire(timeout=0.05)


def test_an_order_waits_until_a_lost_camera_is_back(rigs: list[Rig]) -> None:
    rig = start(rigs, Plan(trigger=OnDemand()), None, ABSENT, None)
    rig.settled()
    rig.loop.trigger(Order("a"))
    rig.at_s += 1.0
    rig.give(LOST, picture(1))
    number, frame = rig.take()
    assert (number, orders_of([frame])) == (1, ["a"])


def test_an_order_allows_for_the_delay_of_the_source(rigs: list[Rig]) -> None:
    rig = start(rigs, Plan(trigger=OnDemand(delay_s=0.5)))
    rig.settled()
    rig.loop.trigger(Order("a"))
    for number in range(1, 10):
        rig.settled()
        rig.at_s += 0.2
        rig.give(picture(number))
    assert rig.take()[1].captured_mono_s - 0.2 >= 100.5


def test_too_many_orders_are_refused_until_lanes_have_taken_some(rigs: list[Rig]) -> None:
    rig = start(rigs, Plan(trigger=OnDemand()))
    rig.settled()
    assert [rig.loop.trigger(Order(str(number))) for number in range(17)] == [True] * 16 + [False]
    rig.at_s += 1.0
    rig.give(picture(1), picture(2))
    rig.settled()
    assert not rig.loop.trigger(Order("captured, not taken: it counts"))
    assert orders_of([rig.take()[1]]) == ["0"]
    assert rig.loop.trigger(Order("16"))


def test_an_order_can_be_withdrawn_before_its_picture_and_after(rigs: list[Rig]) -> None:
    rig = start(rigs, Plan(trigger=OnDemand()))
    rig.settled()
    for job in ("a", "b", "c", "d"):
        rig.loop.trigger(Order(job))
    rig.loop.withdraw("c")
    rig.at_s += 1.0
    rig.give(*(picture(number) for number in range(1, 6)))
    rig.settled()
    rig.loop.withdraw("b")
    assert orders_of(drain(rig)) == ["a", "d"]


def test_a_camera_that_has_ended_takes_no_orders(rigs: list[Rig]) -> None:
    rig = start(rigs)
    rig.give(picture(1), ENDED)
    rig.thread.join(LONG_S)
    assert not rig.loop.trigger(Order("a"))
