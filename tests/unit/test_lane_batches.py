"""Pictures of several cameras in one call of the model."""

import threading
from collections.abc import Callable, Sequence
from datetime import timedelta

import numpy as np
import pytest

from agent.core.batch import Batcher, Room
from agent.core.frame import Frame, Layout, Picture, Pixels
from agent.errors import AgentError, Retryable
from agent.loops.inspect import Loaded, Plans
from agent.loops.latest import Slots
from agent.loops.orders import Flip, LaneReport
from agent.ports import Segmentation
from schemas.codes import FailureCode
from schemas.result import Result, ResultState
from tests.unit.a_bundle import a_bundle
from tests.unit.lane_bench import MODEL, NEW, NOW, OLD, SIZE, Bench, Scripted, a_plan

CAMERAS = ("a", "b", "c", "d")
LONG_S = 20.0


class Roomy(Scripted):
    """Takes `batch` pictures a call; calls of several fail with what is next in `together`."""

    def __init__(self, batch: int) -> None:
        super().__init__([])
        self.batch = batch
        self.together: list[AgentError] = []
        self.poison: Callable[[Sequence[Pixels]], bool] = lambda inputs: False
        self.calls: list[int] = []
        self.gate = threading.Event()
        self.called = threading.Event()

    def segment_all(self, items: Sequence[Sequence[Pixels]]) -> Sequence[Segmentation]:
        self.calls.append(len(items))
        self.called.set()
        assert self.gate.wait(LONG_S)
        if len(items) > 1 and self.together:
            raise self.together.pop(0)
        if any(self.poison(inputs) for inputs in items):
            raise Retryable(FailureCode.NPU_CRASHED, "it died", delay_s=0.0)
        return [super(Roomy, self).segment(inputs) for inputs in items]


class Shared(Bench):
    """A lane with four cameras; its first call waits until all of them have a picture."""

    def __init__(self, batch: int = 4, room: Callable[[], Room] = Room) -> None:
        self.room = room
        super().__init__()
        self.slots.remove("top")
        for camera in CAMERAS:
            self.slots.add(camera)
        self.segmenter: Roomy = Roomy(batch)

    def loaded(self, segmenter: Scripted, ref: object, recipes: Sequence[str | None] = (None,)) -> Loaded:
        plans: Plans = {(camera, None): a_plan(camera) for camera in CAMERAS}
        batcher = Batcher(segmenter.batch, lambda: 0.0)
        of = OLD if ref == OLD else NEW
        return Loaded(
            segmenter, of, MODEL.model_copy(update={"version": of.version}), a_bundle(), plans, batcher, self.room
        )

    def put(self, camera: str, seq: int, *, bright: bool = False) -> None:
        pixels = np.zeros((SIZE, SIZE, 3), np.uint8)
        if bright:
            pixels[4:10, 4:10] = 255
        self.slots[camera].put(Frame(Picture(pixels, Layout.RGB), camera, seq, NOW + timedelta(seconds=seq), 0.0, 1.0))

    def fill(self, bright: str = "") -> list[int]:
        """A first picture that keeps the lane busy, then one of each camera. Returns the calls after the first."""
        self.put("a", 0)
        assert self.segmenter.called.wait(LONG_S)
        for camera in CAMERAS:
            self.put(camera, 1, bright=camera == bright)
        self.segmenter.gate.set()
        self.wait(5)
        return self.segmenter.calls[1:]

    def wait(self, results: int) -> list[Result]:
        with self.spool.enough:
            assert self.spool.enough.wait_for(lambda: len(self.spool.results) >= results, LONG_S)
        return self.spool.results


@pytest.mark.parametrize(
    ("batch", "room", "calls"),
    [
        pytest.param(4, Room(), [4], id="all at once"),
        pytest.param(3, Room(), [3, 1], id="as many as the model takes"),
        pytest.param(1, Room(), [1, 1, 1, 1], id="a model of one"),
        pytest.param(4, Room(25, 10), [2, 2], id="a fifth of the free memory is left"),
        pytest.param(4, Room(1, 10), [1, 1, 1, 1], id="no memory for two"),
    ],
)
def test_pictures_that_wait_go_together(batch: int, room: Room, calls: list[int]) -> None:
    with Shared(batch, lambda: room) as bench:
        assert bench.fill(bright="c") == calls
    found = {result.station.camera: len(result.defects) for result in bench.spool.results[1:]}
    assert found == {"a": 0, "b": 0, "c": 1, "d": 0}
    assert all(result.result_state is ResultState.COMPLETED for result in bench.spool.results)


def test_out_of_memory_makes_calls_smaller_and_loses_nothing() -> None:
    with Shared() as bench:
        bench.segmenter.together = [Retryable(FailureCode.NPU_OUT_OF_MEMORY, "no memory")]
        assert bench.fill() == [4, 2, 2]
    assert [result.fault for result in bench.spool.results] == [None] * 5


def test_what_gets_no_answer_together_is_tried_alone() -> None:
    with Shared() as bench:
        bench.segmenter.together = [Retryable(FailureCode.NPU_TIMEOUT, "late", delay_s=0.0)]
        assert bench.fill() == [4, 1, 1, 1, 1]
    assert [result.fault for result in bench.spool.results] == [None] * 5
    assert [report.code for report in bench.reported(LaneReport)] == [None]


def test_a_picture_that_the_model_cannot_bear_costs_the_others_nothing() -> None:
    with Shared() as bench:
        bench.segmenter.poison = lambda inputs: bool(inputs[0].any())
        bench.fill(bright="b")
    faults = {result.station.camera: result.fault and result.fault.code for result in bench.spool.results[1:]}
    assert faults == {"a": None, "b": FailureCode.NPU_CRASHED, "c": None, "d": None}


def test_while_another_model_stands_by_each_picture_goes_alone() -> None:
    """What the new one cannot do, the one before it does, for that very picture."""
    with Shared() as bench:
        new = Roomy(4)
        new.gate.set()
        bench.put("a", 0)
        assert bench.segmenter.called.wait(LONG_S)
        for camera in CAMERAS:
            bench.put(camera, 1)
        bench.lane.send(Flip(1, bench.loaded(new, NEW)))
        bench.segmenter.gate.set()
        results = bench.wait(5)
    assert new.calls == [1, 1, 1, 1]
    assert {result.model.version for result in results[1:]} == {"2"}


def test_one_picture_is_left_for_each_lane_that_has_none() -> None:
    slots: Slots[str] = Slots(CAMERAS)
    helper = threading.Thread(target=lambda: seen.append(slots.take(LONG_S)))
    seen: list[object] = []
    helper.start()
    while slots._idle == 0:
        pass
    with slots._changed:  # the other lane does not wake before this one has taken
        for camera in CAMERAS:
            slots[camera].put(camera)
        first = slots.take(0)
        more = slots.take_more(8)
    helper.join(LONG_S)
    taken = [each.item for each in (first, *more) if each is not None]
    assert len(taken) == 3
    assert len(seen) == 1
    assert slots.take_more(8) == []
