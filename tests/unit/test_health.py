from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from agent.core.health import (
    LEAST_RESULTS,
    Healthy,
    Seen,
    Shadowing,
    Undecided,
    Unhealthy,
    agreement,
    probation,
    self_test,
    shadow,
)
from schemas.codes import FailureCode
from schemas.state import ProbationPlan, ShadowPlan

PLAN = ProbationPlan(frames=100, max_p95_ratio=1.5, max_ng_drift=0.2)
OLD = Seen(results=200, not_ok=20, undecidable=4, faults=0, p95_ms=10.0)
NEW = Seen(results=100, not_ok=10, undecidable=2, faults=0, p95_ms=10.0)


@pytest.mark.parametrize(
    ("new", "verdict", "word"),
    [
        pytest.param(NEW, Healthy, "", id="as good as the old one"),
        pytest.param(replace(NEW, results=99), Undecided, "", id="one result is still to come"),
        pytest.param(replace(NEW, results=0, not_ok=0, undecidable=0), Undecided, "", id="nothing seen yet"),
        pytest.param(replace(NEW, results=1, not_ok=1, undecidable=0), Undecided, "", id="one bad part says nothing"),
        pytest.param(replace(NEW, results=5, faults=1), Unhealthy, "1 faults", id="a fault ends it at once"),
        pytest.param(replace(NEW, p95_ms=15.0), Healthy, "", id="just fast enough"),
        pytest.param(replace(NEW, p95_ms=15.1), Unhealthy, "p95", id="a little slow, at the end"),
        pytest.param(replace(NEW, results=50, p95_ms=25.0), Undecided, "", id="a slow start is waited out"),
        pytest.param(replace(NEW, results=50, p95_ms=31.0), Unhealthy, "p95", id="far too slow: before the end"),
        pytest.param(replace(NEW, not_ok=30), Healthy, "", id="drift within its bound"),
        pytest.param(replace(NEW, not_ok=31), Unhealthy, "NotOK", id="drift past its bound"),
        pytest.param(replace(NEW, results=30, not_ok=30), Unhealthy, "NotOK", id="marks everything: before the end"),
        pytest.param(replace(NEW, results=30, not_ok=12), Undecided, "", id="may be chance"),
        pytest.param(replace(NEW, undecidable=60), Unhealthy, "NotDecidable", id="decides nothing"),
    ],
)
def test_probation(new: Seen, verdict: type, word: str) -> None:
    got = probation(PLAN, OLD, new)
    assert isinstance(got, verdict)
    if isinstance(got, Unhealthy):
        assert got.code is FailureCode.PROBATION_FAILED
        assert word in got.text
        assert got.measured["probationFaults"] == new.faults


def test_a_model_that_marks_nothing_any_more_drifts_too() -> None:
    old = replace(OLD, not_ok=100)
    assert isinstance(probation(PLAN, old, replace(NEW, results=60, not_ok=0)), Unhealthy)


def test_faults_may_be_allowed() -> None:
    assert isinstance(probation(PLAN, OLD, replace(NEW, faults=2), faults_allowed=2), Healthy)


def test_a_short_plan_is_still_long_enough_to_tell() -> None:
    plan = replace_frames(1)
    assert isinstance(probation(plan, OLD, replace(NEW, results=LEAST_RESULTS - 1, not_ok=2)), Undecided)
    assert isinstance(probation(plan, OLD, replace(NEW, results=LEAST_RESULTS, not_ok=2)), Healthy)


def replace_frames(frames: int) -> ProbationPlan:
    return PLAN.model_copy(update={"frames": frames})


def test_without_an_old_side_nothing_is_compared_and_nothing_is_claimed() -> None:
    got = probation(PLAN, replace(OLD, results=3), replace(NEW, not_ok=100))
    assert isinstance(got, Healthy)
    assert set(got.measured) == {"probationResults", "probationFaults"}


def seen(frames: int, iou: float, same: int, faults: int = 0) -> Shadowing:
    sums = Shadowing()
    for number in range(frames):
        sums = sums.saw(iou, is_same_verdict=number < same, old_ms=2.0, new_ms=3.0)
    for _ in range(faults):
        sums = sums.faulted()
    return sums


@pytest.mark.parametrize(
    ("sums", "verdict"),
    [
        pytest.param(seen(0, 1, 0), Undecided, id="nothing seen"),
        pytest.param(seen(9, 1, 9), Undecided, id="one frame is to come"),
        pytest.param(seen(10, 0.9, 10), Healthy, id="agrees just enough"),
        pytest.param(seen(10, 0.89, 10), Unhealthy, id="class maps differ"),
        pytest.param(seen(10, 1, 8), Unhealthy, id="verdicts differ"),
        pytest.param(seen(2, 0.0, 2), Unhealthy, id="cannot be reached any more"),
        pytest.param(seen(1, 0.0, 1), Undecided, id="can still be reached"),
        pytest.param(seen(1, 1, 1, faults=1), Unhealthy, id="a fault"),
        pytest.param(seen(12, 1, 12), Healthy, id="more than asked for"),
    ],
)
def test_shadow(sums: Shadowing, verdict: type) -> None:
    got = shadow(ShadowPlan(frames=10, least_agreement=0.9), sums)
    assert isinstance(got, verdict)
    if isinstance(got, Unhealthy):
        assert got.code is FailureCode.SHADOW_DISAGREED
        assert got.text


def test_what_the_shadow_measured_is_told() -> None:
    assert seen(4, 0.5, 3).measured == {
        "shadowFrames": 4,
        "shadowAgreement": 0.5,
        "shadowVerdictAgreement": 0.75,
        "shadowLatencyRatio": 1.5,
    }


@pytest.mark.parametrize(
    ("agreements", "is_healthy", "worst"),
    [((0.99, 0.95), True, 0.95), ((0.99, 0.94), False, 0.94), ((), False, 0.0)],
)
def test_every_golden_frame_must_agree(agreements: tuple[float, ...], is_healthy: bool, worst: float) -> None:
    got = self_test(agreements, 0.95)
    assert isinstance(got, Healthy) is is_healthy
    assert got.measured == {"selfTestAgreement": worst, "selfTestFrames": len(agreements)}
    if isinstance(got, Unhealthy):
        assert got.code is FailureCode.SELF_TEST_FAILED
        assert "golden frame" in got.text


@pytest.mark.parametrize(
    ("class_map", "reference", "expected"),
    [
        pytest.param([[0, 1], [1, 2]], [[0, 1], [1, 2]], 1.0, id="the same"),
        pytest.param([[0, 0], [0, 0]], [[0, 0], [0, 0]], 1.0, id="nothing but background"),
        pytest.param([[1, 1], [1, 1]], [[0, 0], [0, 0]], 0.0, id="all marked"),
        pytest.param([[0, 0], [1, 1]], [[0, 1], [1, 1]], (1 / 2 + 2 / 3) / 2, id="a pixel off"),
        pytest.param([[0, 0], [0, 2]], [[0, 0], [0, 1]], 1 / 3, id="another class"),
        pytest.param([[9, 0], [0, 0]], [[9, 0], [0, 0]], (3 / 3 + 0 + 0) / 3, id="a strange id agrees with nothing"),
        pytest.param([[9, 0], [0, 0]], [[0, 0], [0, 0]], (3 / 4 + 0) / 2, id="a strange id on one side"),
    ],
)
def test_agreement(class_map: list[list[int]], reference: list[list[int]], expected: float) -> None:
    got = agreement(np.array(class_map, np.uint8), np.array(reference, np.uint8), 3)
    assert got == pytest.approx(expected)


MAPS = arrays(np.uint8, (4, 6), elements=st.integers(0, 3))


@given(MAPS, MAPS)
def test_agreement_is_the_mean_iou_by_its_definition(left: np.ndarray, right: np.ndarray) -> None:
    ious = [
        np.sum((left == c) & (right == c)) / np.sum((left == c) | (right == c))
        for c in range(4)
        if np.any((left == c) | (right == c))
    ]
    assert agreement(left, right, 4) == pytest.approx(np.mean(ious))
    assert agreement(right, left, 4) == agreement(left, right, 4)


@pytest.mark.parametrize("shape", [(2, 3), (0, 0)])
def test_what_cannot_be_compared_is_refused(shape: tuple[int, int]) -> None:
    with pytest.raises(ValueError, match="cannot be compared"):
        agreement(np.zeros(shape, np.uint8), np.zeros((3, 2) if shape[0] else (0, 0), np.uint8), 2)
