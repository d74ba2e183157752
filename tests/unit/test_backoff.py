"""Waits grow, are capped, and are spread over their whole range."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.core.backoff import Backoff


def test_the_ceiling_doubles_up_to_the_cap() -> None:
    backoff, ceilings_s = Backoff(first_s=1.0, most_s=10.0), []
    for _ in range(6):
        ceilings_s.append(backoff.ceiling_s)
        backoff, _ = backoff.failed(0.5)
    assert ceilings_s == [1.0, 2.0, 4.0, 8.0, 10.0, 10.0]


def test_success_starts_anew() -> None:
    backoff, _ = Backoff(first_s=1.0).failed(0.5)
    assert backoff.succeeded() == Backoff(first_s=1.0)


@given(st.integers(0, 10_000), st.floats(0.0, 1.0, exclude_max=True))
def test_a_wait_lies_below_its_ceiling_however_long_the_outage(failures: int, random: float) -> None:
    backoff = Backoff(first_s=0.5, most_s=30.0, failures=failures)
    after, delay_s = backoff.failed(random)
    assert delay_s == pytest.approx(random * backoff.ceiling_s)
    assert 0.0 <= delay_s < 30.0
    assert after.failures == failures + 1


@pytest.mark.parametrize(("first_s", "most_s"), [(0.0, 1.0), (-1.0, 1.0), (2.0, 1.0), (float("nan"), 1.0)])
def test_an_impossible_backoff_is_refused(first_s: float, most_s: float) -> None:
    with pytest.raises(ValueError, match="a backoff from"):
        Backoff(first_s, most_s)


@pytest.mark.parametrize("random", [-0.1, 1.0, float("nan")])
def test_a_number_that_is_no_chance_is_refused(random: float) -> None:
    with pytest.raises(ValueError, match="random is"):
        Backoff().failed(random)
