"""One lane while its model changes: no frame without its result, and none that failed for the new model's sake."""

import threading
from collections.abc import Callable

import pytest

from agent.core.frame import Order
from agent.errors import Permanent, Retryable
from agent.loops.inspect import Loaded
from agent.loops.orders import Commit, FellBack, Flip, LaneReport, Release, Restore, ShadowSaw, StartShadow
from schemas.codes import FailureCode
from schemas.result import ResultState
from tests.unit.lane_bench import NEW, OLD, Bench, Scripted

CRASH = Retryable(FailureCode.NPU_CRASHED, "signal 11", delay_s=0.001)
PATIENCE_S = 10.0


def test_between_two_frames_the_new_model_takes_over_and_loses_none() -> None:
    new = Scripted([])
    with Bench() as bench:
        for seq in range(5):
            bench.show(seq)
        bench.lane.send(Flip(1, bench.loaded(new, NEW)))
        for seq in range(5, 10):
            bench.show(seq)
        bench.lane.send(Commit(NEW.manifest_sha256))
        bench.show(10)
        assert bench.segmenter.closed
    assert [result.model.version for result in bench.spool.results] == ["1"] * 5 + ["2"] * 6
    assert [result.sequence_number for result in bench.spool.results] == list(range(1, 12))
    assert new.closed
    assert [bench.ledger.recent(ref.manifest_sha256).results for ref in (OLD, NEW)] == [5, 6]
    told = [report.manifest_sha256 for report in bench.reported(LaneReport)]
    assert told == [OLD.manifest_sha256, NEW.manifest_sha256]


def test_a_frame_on_which_the_new_model_fails_is_inspected_by_the_old_one() -> None:
    new = Scripted([None, CRASH])
    with Bench() as bench:
        bench.lane.send(Flip(1, bench.loaded(new, NEW)))
        results = [bench.show(seq, bright=True) for seq in range(4)]
        assert new.closed
    assert [result.model.version for result in results] == ["2", "1", "1", "1"]
    assert {result.result_state for result in results} == {ResultState.COMPLETED}
    assert all(len(result.defects) == 1 for result in results)
    fell_back = bench.reported(FellBack)
    assert fell_back == [FellBack("core-0", NEW.manifest_sha256, CRASH.code, CRASH.text)]
    assert all(report.code is None for report in bench.reported(LaneReport)), "no alarm: the lane works"


def test_where_both_fail_the_result_names_the_one_that_was_asked_last() -> None:
    with Bench([Permanent(FailureCode.NPU_FAULT, "and the old one")]) as bench:
        bench.lane.send(Flip(1, bench.loaded(Scripted([CRASH]), NEW)))
        failed = bench.show(0)
        again = bench.show(1)
    assert failed.result_state is ResultState.FAILED
    assert failed.fault is not None
    assert (failed.model.version, failed.fault.text) == ("1", "and the old one")
    assert again.result_state is ResultState.COMPLETED
    faults = [report.manifest_sha256 for report in bench.reported(LaneReport) if report.code is not None]
    assert faults == [OLD.manifest_sha256]
    assert len(bench.reported(FellBack)) == 1


def test_a_recipe_that_the_old_model_does_not_know_does_not_hide_the_new_ones_fault() -> None:
    order = Order("j-1", None, None, None, None, "fine")
    with Bench() as bench:
        bench.lane.send(Flip(1, bench.loaded(Scripted([CRASH]), NEW, (None, "fine"))))
        failed = bench.show(0, order=order)
        again = bench.show(1)
    assert failed.result_state is ResultState.FAILED
    assert len(bench.reported(FellBack)) == 1
    assert (again.result_state, again.model.version) == (ResultState.COMPLETED, "1")


def test_without_one_that_stands_by_a_fault_is_a_fault() -> None:
    with Bench() as bench:
        bench.lane.send(Flip(1, bench.loaded(Scripted([None, CRASH]), NEW)))
        bench.lane.send(Commit(NEW.manifest_sha256))
        bench.show(0)
        failed = bench.show(1)
    assert failed.result_state is ResultState.FAILED
    assert failed.model.version == "2"
    assert bench.reported(FellBack) == []


def test_a_lane_that_was_released_loads_the_old_model_again_when_it_is_called_back() -> None:
    loads = 0

    def counting(load: Callable[[], Loaded]) -> Callable[[], Loaded]:
        def counted() -> Loaded:
            nonlocal loads
            loads += 1
            return load()

        return counted

    bench = Bench()
    bench.lane._load = counting(bench.lane._load)
    with bench:
        bench.show(0)
        done = threading.Event()
        bench.lane.send(Release(1, done))
        assert done.wait(PATIENCE_S)
        assert bench.segmenter.closed
        assert bench.lane.segmenters() == []
        bench.lane.send(Restore(2, OLD.manifest_sha256))
        bench.show(1)
    assert loads == 2


def test_a_lane_that_was_released_takes_the_new_model() -> None:
    new = Scripted([])
    with Bench() as bench:
        bench.show(0)
        bench.lane.send(Release(1, threading.Event()))
        bench.lane.send(Flip(2, bench.loaded(new, NEW)))
        assert bench.show(1).model.version == "2"


def test_a_restore_brings_the_old_model_back_for_the_next_frame() -> None:
    new = Scripted([])
    with Bench() as bench:
        bench.lane.send(Flip(1, bench.loaded(new, NEW)))
        bench.show(0)
        bench.lane.send(Restore(2, OLD.manifest_sha256))
        bench.lane.send(Flip(1, bench.loaded(Scripted([]), NEW)))
        assert bench.show(1).model.version == "1"
        assert new.closed


def test_the_model_in_the_shadow_sees_each_frame_and_makes_no_result() -> None:
    shadow = Scripted([])
    with Bench() as bench:
        bench.lane.send(StartShadow(1, bench.loaded(shadow, NEW)))
        for seq in range(4):
            bench.show(seq, bright=seq % 2 == 0)
    saws = bench.reported(ShadowSaw)
    assert [(saw.agreement, saw.is_same_verdict, saw.manifest_sha256) for saw in saws] == [
        (1.0, True, NEW.manifest_sha256)
    ] * 4
    assert {result.model.version for result in bench.spool.results} == {"1"}
    assert shadow.closed


@pytest.mark.parametrize("fault", [CRASH, Permanent(FailureCode.SHAPE_MISMATCH, "another shape")])
def test_a_model_that_fails_in_the_shadow_is_ended_and_nobody_waits_for_it_again(
    fault: Retryable | Permanent,
) -> None:
    shadow = Scripted([None, fault])
    with Bench() as bench:
        bench.lane.send(StartShadow(1, bench.loaded(shadow, NEW)))
        results = [bench.show(seq) for seq in range(5)]
        assert shadow.closed
    assert [saw.agreement for saw in bench.reported(ShadowSaw)] == [1.0, None]
    assert {result.result_state for result in results} == {ResultState.COMPLETED}
