"""One lane: frames become results, faults become failed results, and nothing is dropped for want of room."""

import numpy as np
import pytest

from agent.core.frame import Frame, Layout, Picture
from agent.errors import AgentError, Permanent, Retryable
from agent.loops.inspect import Loaded
from agent.loops.orders import LaneReport, SpoolState
from schemas.codes import FailureCode
from schemas.recipe import Evaluation
from schemas.result import ResultState
from tests.unit.lane_bench import MODEL, NOW, OLD, Bench


def test_frames_become_results_in_order() -> None:
    with Bench() as bench:
        good, bad = bench.show(0, bright=False), bench.show(1, bright=True)
    assert (good.result_evaluation, bad.result_evaluation) == (Evaluation.OK, Evaluation.NOT_OK)
    assert [r.sequence_number for r in bench.spool.results] == [1, 2]
    assert bad.defects[0].area_px == 36
    assert bad.model == MODEL
    assert bench.reports[0] == LaneReport("core-0", None, model=MODEL, manifest_sha256=OLD.manifest_sha256)
    assert bench.stats.totals().inspected == {"top": 2}


@pytest.mark.parametrize(
    "fault",
    [
        Retryable(FailureCode.NPU_HUNG, "hung", delay_s=0.01),
        Permanent(FailureCode.SHAPE_MISMATCH, "another shape"),
    ],
)
def test_a_fault_is_a_failed_result_and_an_alarm_until_it_works_again(fault: AgentError) -> None:
    with Bench([None, fault]) as bench:
        bench.show(0, bright=True)
        failed = bench.show(1, bright=True)
        again = bench.show(2, bright=True)
    assert failed.result_state is ResultState.FAILED
    assert failed.result_evaluation is Evaluation.UNDEFINED
    assert failed.fault is not None
    assert failed.fault.code is fault.code
    assert again.result_evaluation is Evaluation.NOT_OK
    reported = [report.code for report in bench.reports if isinstance(report, LaneReport)]
    assert reported == [None, fault.code, None]
    assert bench.stats.totals().failed == {"top": 1}


def test_a_full_spool_holds_a_result_up_and_does_not_drop_it() -> None:
    full = [Retryable(FailureCode.SPOOL_FULL, "full", delay_s=0.001) for _ in range(3)]
    with Bench(spool_faults=list(full)) as bench:
        result = bench.show(0, bright=True)
    assert result.sequence_number == 1
    states = [report.code for report in bench.reports if isinstance(report, SpoolState)]
    assert states == [FailureCode.SPOOL_FULL] * 3 + [None]


def test_a_picture_that_cannot_be_prepared_is_a_fault_in_words() -> None:
    with Bench() as bench:
        pixels = np.zeros((3, 31), np.uint8)  # NV12 has even sides
        bench.slots["top"].put(Frame(Picture(pixels, Layout.NV12), "top", 5, NOW, 0.0, 1.0))
        with bench.spool.enough:
            assert bench.spool.enough.wait_for(lambda: bool(bench.spool.results), 10)
    fault = bench.spool.results[0].fault
    assert fault is not None
    assert fault.code is FailureCode.CONFIG_INVALID


def test_a_load_that_fails_is_told_and_tried_again() -> None:
    bench = Bench()
    loads = iter([Retryable(FailureCode.NPU_OUT_OF_MEMORY, "no memory", delay_s=0.001), None])
    good = bench.lane._load

    def load() -> Loaded:
        error = next(loads)
        if error is not None:
            raise error
        return good()

    bench.lane._load = load
    with bench:
        bench.show(0, bright=False)
    codes = [report.code for report in bench.reports if isinstance(report, LaneReport)]
    assert codes[:2] == [FailureCode.NPU_OUT_OF_MEMORY, None]
