"""Rates admit what they say, on any clock."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.core.rate import Rate


def admitted(rate: Rate, times_s: list[float]) -> list[float]:
    taken = []
    for time_s in times_s:
        if rate.admits(time_s):
            rate = rate.taken(time_s)
            taken.append(time_s)
    return taken


@pytest.mark.parametrize(
    ("camera_hz", "rate_hz", "seconds", "expected"),
    [
        pytest.param(30, None, 10, 300, id="no limit: every picture"),
        pytest.param(30, 10, 10, 100, id="a divisor"),
        pytest.param(25, 10, 10, 100, id="no divisor: the mean rate is kept"),
        pytest.param(10, 10, 10, 100, id="the camera's own rate: none is lost"),
        pytest.param(5, 10, 10, 50, id="a slower camera: every picture"),
        pytest.param(30, 0.5, 10, 5, id="one in two seconds"),
    ],
)
def test_a_rate_admits_its_share(camera_hz: int, rate_hz: float | None, seconds: int, expected: int) -> None:
    times_s = [n / camera_hz for n in range(camera_hz * seconds)]
    assert abs(len(admitted(Rate.of_hz(rate_hz), times_s)) - expected) <= 1  # one may fall before or after the end


def test_jitter_of_a_camera_of_the_same_rate_loses_no_picture() -> None:
    times_s = [n * 0.1 + (0.02 if n % 2 else -0.02) for n in range(1, 100)]
    assert admitted(Rate.of_hz(10), times_s) == times_s


def test_after_a_pause_there_is_no_burst() -> None:
    rate = Rate.of_hz(10).taken(0.0).taken(100.0)
    assert rate.wait_s(100.0) == pytest.approx(0.1)


def test_a_small_delay_is_made_up_for() -> None:
    rate = Rate.of_hz(10).taken(0.0).taken(0.13)
    assert rate.wait_s(0.13) == pytest.approx(0.07)


@given(
    st.lists(st.floats(0.0, 1.0), min_size=1, max_size=100),
    st.floats(0.1, 100.0),
)
def test_a_rate_never_admits_more_than_its_share(steps_s: list[float], rate_hz: float) -> None:
    now_s, times_s = 0.0, []
    for step_s in steps_s:
        now_s += step_s
        times_s.append(now_s)
    span_s = times_s[-1] - times_s[0]
    assert len(admitted(Rate.of_hz(rate_hz), times_s)) <= span_s * rate_hz + 1.51


@pytest.mark.parametrize("rate_hz", [0.0, -1.0, float("nan"), float("inf")])
def test_an_impossible_rate_is_refused(rate_hz: float) -> None:
    with pytest.raises(ValueError, match="a rate of"):
        Rate.of_hz(rate_hz)


def test_an_impossible_period_is_refused() -> None:
    with pytest.raises(ValueError, match="a period of"):
        Rate(-1.0)
