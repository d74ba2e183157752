"""Several lanes on the same cameras: results in order, and cores that are taken out and come back."""

import random
import threading
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.errors import AgentError, Permanent, Retryable
from agent.loops import telemetry
from agent.loops.inspect import Loaded
from agent.loops.orders import Commit, FellBack, Flip, LaneReport, Release, Restore
from agent.loops.quarantine import TRIAL_CALLS
from schemas.codes import FailureCode
from schemas.result import ResultState
from schemas.telemetry import CoreCounters, CoreState
from tests.unit.lane_bench import NEW, OLD
from tests.unit.lanes_bench import LONG_S, Core, Lanes

BROKEN = Retryable(FailureCode.NPU_FAULT, "no output", delay_s=0.001)


def is_out(lanes: Lanes, name: str) -> Callable[[], bool]:
    return lambda: lanes.state(name) is CoreState.OUT


def out_reports(lanes: Lanes) -> list[LaneReport]:
    return [report for report in lanes.reported(LaneReport) if report.code is FailureCode.NPU_CORE_OUT]


def failed(lanes: Lanes) -> int:
    return sum(result.result_state is ResultState.FAILED for result in lanes.of())


def break_one(lanes: Lanes, name: str = "core-1") -> None:
    lanes.cores[name].fault = BROKEN
    lanes.show_until(is_out(lanes, name))


def time_passes_until(lanes: Lanes, is_true: Callable[[], bool]) -> None:
    def later() -> bool:
        lanes.at_s += 1.0
        return is_true()

    lanes.until(later)


@settings(deadline=None, max_examples=8)
@given(st.integers(0, 2**32))
def test_results_of_a_camera_are_in_order_whatever_the_speed_of_the_lanes(seed: int) -> None:
    chance = random.Random(seed)
    with Lanes(3, ("top", "side")) as lanes:
        for most_s, core in zip((0.0005, 0.002, 0.006), lanes.cores.values(), strict=True):
            core.pause_s = lambda most_s=most_s: chance.random() * most_s  # type: ignore[misc]
            core.fault = chance.choice([None, None, BROKEN])
        for _ in range(20):
            lanes.put("top")
            lanes.put("side")
        lanes.until(lambda: len(lanes.spool.results) == 40)
        assert lanes.seqs("top") == lanes.seqs("side") == list(range(20))
        assert [result.sequence_number for result in lanes.spool.results] == list(range(1, 41))


def test_a_lane_that_hangs_holds_its_camera_up_until_its_deadline_and_no_other() -> None:
    with Lanes(2, ("top", "side")) as lanes:
        for core in lanes.cores.values():
            core.gate.clear()
        lanes.put("top")
        lanes.until(lambda: sum(core.calls for core in lanes.cores.values()) == 1)
        hung = next(core for core in lanes.cores.values() if core.calls)
        hung.fault = Retryable(FailureCode.NPU_HUNG, "no answer within 1 s", delay_s=0.001)
        well = next(core for core in lanes.cores.values() if core is not hung)
        well.gate.set()
        for _ in range(3):
            lanes.put("top")
        lanes.until(lambda: well.calls == 3)
        lanes.show("side")
        assert lanes.seqs("top") == []
        hung.gate.set()
        lanes.until(lambda: len(lanes.of("top")) == 4)
    assert lanes.seqs("top") == [0, 1, 2, 3]
    first, *others = [result.result_state for result in lanes.of("top")]
    assert first is ResultState.FAILED
    assert set(others) == {ResultState.COMPLETED}


def test_a_lane_that_crashes_over_a_frame_holds_nobody_up() -> None:
    with Lanes(2) as lanes:
        for core in lanes.cores.values():
            core.gate.clear()
        lanes.put()
        lanes.until(lambda: any(core.calls for core in lanes.cores.values()))
        bad = next(core for core in lanes.cores.values() if core.calls)
        bad.fault = RuntimeError("ours")
        well = next(core for core in lanes.cores.values() if core is not bad)
        well.gate.set()
        lanes.put()
        lanes.until(lambda: well.calls == 1)
        bad.gate.set()
        lanes.until(lambda: lanes.seqs() == [1])
        lanes.until(lambda: bool(lanes.crashes))
        bad.fault = None
        lanes.until(lambda: {lanes.state(name) for name in lanes.cores} == {CoreState.WORKING})


def test_frames_that_nobody_has_a_plan_for_hold_nobody_up() -> None:
    with Lanes(2, ("top",)) as lanes:
        lanes.slots.add("strange")
        lanes._seqs["strange"] = 0
        for _ in range(3):
            lanes.put("strange")
            lanes.show("top")
        lanes.until(lambda: not lanes.slots["strange"].kept)
        assert lanes.slots.turns._lines == {} or lanes.slots.turns.wait_for_room(LONG_S)
    assert lanes.seqs("top") == [0, 1, 2]


@pytest.mark.parametrize("count", [2, 3])
def test_a_broken_core_is_taken_out_and_comes_back_when_it_is_well(count: int) -> None:
    with Lanes(count) as lanes:
        core = lanes.cores["core-1"]
        break_one(lanes)
        assert out_reports(lanes) == [
            LaneReport("core-1", FailureCode.NPU_CORE_OUT, "3 faults in a row: no output", manifest_sha256="")
        ]
        calls = core.calls
        for _ in range(10):
            lanes.show()
        assert (core.calls, failed(lanes)) == (calls, 3)
        time_passes_until(lanes, lambda: core.restarts >= 5)
        assert failed(lanes) == 3, "a trial costs no result"
        core.fault = None
        time_passes_until(lanes, lambda: lanes.state("core-1") is CoreState.WORKING)
        calls = core.calls
        lanes.show_until(lambda: core.calls > calls)
        lanes.until(lambda: lanes.reported(LaneReport)[-1].lane == "core-1")
        assert lanes.reported(LaneReport)[-1].code is None
        facts = lanes.stats.take().cores["core-1"]
    assert (facts.state, facts.faults) == (CoreState.WORKING, 3)
    assert facts.restarts >= 5
    assert facts.p50_ms == 20.0
    assert failed(lanes) == 3


def test_a_slow_core_is_taken_out_and_comes_back_when_it_is_quick() -> None:
    with Lanes(3) as lanes:
        core = lanes.cores["core-2"]
        core.latency_ms = 100.0
        lanes.show_until(is_out(lanes, "core-2"))
        assert [report.text for report in out_reports(lanes)] == [
            "an inference takes 100.0 ms, on the other cores 20.0 ms"
        ]
        assert lanes.stats.take().cores["core-2"].p50_ms == 100.0
        calls = core.calls
        time_passes_until(lanes, lambda: core.calls > calls + 2 * TRIAL_CALLS)
        assert lanes.state("core-2") is CoreState.OUT
        core.latency_ms = 20.0
        time_passes_until(lanes, lambda: lanes.state("core-2") is CoreState.WORKING)
    assert failed(lanes) == 0
    assert len(out_reports(lanes)) == 1


def test_a_single_core_is_never_taken_out() -> None:
    with Lanes(1) as lanes:
        lanes.cores["core-0"].fault = BROKEN
        for _ in range(10):
            lanes.show()
        lanes.cores["core-0"].fault = None
        lanes.show()
    assert failed(lanes) == 10
    assert out_reports(lanes) == []


def test_a_fault_that_no_core_is_to_blame_for_takes_none_out() -> None:
    with Lanes(2) as lanes:
        for core in lanes.cores.values():
            core.fault = Permanent(FailureCode.SHAPE_MISMATCH, "another shape")
        lanes.cores["core-0"].fault = None
        lanes.cores["core-0"].gate.clear()
        for _ in range(2):
            lanes.put()
        lanes.until(lambda: bool(lanes.cores["core-1"].calls))
    assert out_reports(lanes) == []
    assert lanes.stats.take().cores["core-1"].faults == 0


@pytest.mark.parametrize("is_committed", [True, False])
def test_the_model_is_swapped_on_a_core_that_is_out_as_on_the_others(is_committed: bool) -> None:
    with Lanes(2) as lanes:
        old = lanes.cores["core-1"]
        break_one(lanes)
        new = {name: Core() for name in lanes.cores}
        for name, lane in lanes.lanes.items():
            lane.send(Flip(1, lanes.loaded(new[name], NEW)))
        lanes.until(lambda: lanes.lanes["core-1"].segmenters() == [new["core-1"], old])
        lanes.show()
        for lane in lanes.lanes.values():
            lane.send(Commit(NEW.manifest_sha256) if is_committed else Restore(2, OLD.manifest_sha256))
        kept, ended = (new["core-1"], old) if is_committed else (old, new["core-1"])
        lanes.until(lambda: lanes.lanes["core-1"].segmenters() == [kept])
        assert ended.closed
        assert lanes.state("core-1") is CoreState.OUT
        told = [report for report in lanes.reported(LaneReport) if report.lane == "core-1"]
        assert told[-1].code is FailureCode.NPU_CORE_OUT, "it does not say that it works"
        kept.fault = None
        time_passes_until(lanes, lambda: lanes.state("core-1") is CoreState.WORKING)
        calls = kept.calls
        lanes.show_until(lambda: kept.calls > calls)
        told = [report for report in lanes.reported(LaneReport) if report.lane == "core-1"]
        assert told[-1].manifest_sha256 == (NEW if is_committed else OLD).manifest_sha256
    versions = {result.model.version for result in lanes.of()}
    assert versions == {"1", "2"}


def test_a_core_that_is_out_gives_its_model_up_for_the_next_one() -> None:
    with Lanes(2) as lanes:
        old = lanes.cores["core-1"]
        break_one(lanes)
        done = threading.Event()
        lanes.lanes["core-1"].send(Release(1, done))
        assert done.wait(LONG_S)
        assert old.closed
        new = Core()
        lanes.lanes["core-1"].send(Flip(2, lanes.loaded(new, NEW)))
        time_passes_until(lanes, lambda: lanes.state("core-1") is CoreState.WORKING)
        assert new.calls == TRIAL_CALLS
        lanes.show_until(lambda: new.calls > TRIAL_CALLS)


def test_a_core_that_was_left_out_of_an_update_loads_the_new_model_when_it_is_back() -> None:
    with Lanes(2) as lanes:
        old = lanes.cores["core-1"]
        break_one(lanes)
        new = lanes.cores["core-1"] = Core()
        lanes.current = NEW
        for order in (Flip(1, None), Commit(NEW.manifest_sha256)):
            lanes.lanes["core-1"].send(order)
        time_passes_until(lanes, lambda: lanes.state("core-1") is CoreState.WORKING)
        lanes.show_until(lambda: new.calls > TRIAL_CALLS)
        assert old.closed


@pytest.mark.parametrize("fault", [BROKEN, Permanent(FailureCode.NPU_TIMEOUT, "late")], ids=["retryable", "permanent"])
def test_what_fails_on_probation_is_told_as_the_models_fault_and_takes_no_core_out(fault: AgentError) -> None:
    with Lanes(2) as lanes:
        new = Core()
        new.fault = fault
        lanes.lanes["core-1"].send(Flip(1, lanes.loaded(new, NEW)))
        lanes.show_until(lambda: bool(lanes.reported(FellBack)))
    assert lanes.reported(FellBack) == [FellBack("core-1", NEW.manifest_sha256, fault.code, fault.text)]
    assert out_reports(lanes) == []
    assert failed(lanes) == 0


def test_a_new_model_that_stands_alone_and_fails_is_told_at_its_first_fault() -> None:
    with Lanes(2) as lanes:
        new = Core()
        new.fault = BROKEN
        for order in (Release(1, threading.Event()), Flip(2, lanes.loaded(new, NEW))):
            lanes.lanes["core-1"].send(order)
        lanes.show_until(is_out(lanes, "core-1"))
        told = [report for report in lanes.reported(LaneReport) if report.code is not None]
    assert [report.manifest_sha256 for report in told] == [NEW.manifest_sha256] * 3 + [""]


def test_a_slow_new_model_is_judged_by_its_probation_and_takes_no_core_out() -> None:
    with Lanes(2) as lanes:
        new = Core()
        new.latency_ms = 500.0
        lanes.lanes["core-1"].send(Flip(1, lanes.loaded(new, NEW)))
        lanes.show_until(lambda: new.calls > 10)
    assert out_reports(lanes) == []


def test_a_core_whose_model_does_not_load_is_taken_out_and_loaded_again_when_it_is_due() -> None:
    lanes = Lanes(2)
    lane = lanes.lanes["core-1"]
    good = lane._load

    def load() -> Loaded:
        if not lanes.at_s:
            raise BROKEN
        return good()

    lane._load = load
    with lanes:
        lanes.until(is_out(lanes, "core-1"))
        lanes.show()
        time_passes_until(lanes, lambda: lanes.state("core-1") is CoreState.WORKING)
    codes = [report.code for report in lanes.reported(LaneReport) if report.lane == "core-1"]
    assert set(codes[:-2]) == {FailureCode.NPU_FAULT}
    assert codes[-2:] == [FailureCode.NPU_CORE_OUT, None]


def test_telemetry_tells_of_each_core() -> None:
    with Lanes(2) as lanes:
        break_one(lanes)
        lanes.show()
        cores = telemetry.cores(lanes.stats.take())
        later = telemetry.cores(lanes.stats.take())
    assert cores["core-1"] == CoreCounters(state=CoreState.OUT, inspected=0, faults=3, restarts=3)
    assert (cores["core-0"].state, cores["core-0"].faults, cores["core-0"].p50_ms) == (CoreState.WORKING, 0, 20.0)
    assert cores["core-0"].inspected == len(lanes.of()) - 3
    assert later["core-0"].inspected == cores["core-0"].inspected
    assert later["core-0"].p50_ms is None
