"""How often something may be tried."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fleet.core.throttle import OTHERS, Rate, Throttle, network

RATE = Rate(burst=3, each_s=10.0)


def tries(throttle: Throttle, key: str, now: float, count: int) -> list[float]:
    return [throttle.take(key, now) for _ in range(count)]


def test_so_many_at_once_and_then_one_in_a_while() -> None:
    throttle = Throttle(RATE)
    assert tries(throttle, "anna", 100.0, 4) == [0.0, 0.0, 0.0, 10.0]
    assert throttle.take("anna", 104.0) == pytest.approx(6.0)
    assert tries(throttle, "anna", 110.0, 2) == [0.0, 10.0]
    assert tries(throttle, "anna", 200.0, 4) == [0.0, 0.0, 0.0, 10.0]


def test_one_key_does_not_use_up_anothers_tries() -> None:
    throttle = Throttle(RATE)
    tries(throttle, "anna", 0.0, 5)
    assert throttle.take("bob", 0.0) == 0.0


def test_a_refused_try_costs_nothing() -> None:
    throttle = Throttle(RATE)
    tries(throttle, "anna", 0.0, 1000)
    assert throttle.take("anna", 10.0) == 0.0


def test_what_was_right_is_given_back() -> None:
    throttle = Throttle(RATE)
    for now in range(100):
        assert throttle.take("anna", float(now)) == 0.0
        throttle.give_back("anna", float(now))
    throttle.give_back("anna", 200.0)
    assert tries(throttle, "anna", 200.0, 4)[3] > 0, "giving back makes no credit"


def test_a_clock_that_is_set_back_locks_nobody_out() -> None:
    throttle = Throttle(RATE)
    tries(throttle, "anna", 1e9, 5)
    assert throttle.take("anna", 0.0) <= RATE.each_s
    assert throttle.take("anna", RATE.each_s * 2) == 0.0


def test_under_ever_new_names_one_gets_no_further() -> None:
    throttle = Throttle(RATE, most_keys=100)
    passed = sum(throttle.take(f"name{number}", 0.0) == 0.0 for number in range(10_000))
    assert passed <= 100 + RATE.burst
    assert throttle.take("name0", 0.0) == 0.0, "who was known before has tries of his own"
    assert throttle.take(OTHERS, 0.0) > 0
    assert throttle.take("name5000", 1000.0) == 0.0, "what is paid for makes room"


@given(times=st.lists(st.floats(0, 1000), min_size=1, max_size=200), burst=st.integers(1, 5), each=st.floats(0.5, 50))
@settings(max_examples=100, deadline=None)
def test_never_more_than_the_rate_allows(times: list[float], burst: int, each: float) -> None:
    throttle = Throttle(Rate(burst, each))
    passed: list[float] = []
    for now in sorted(times):
        wait = throttle.take("x", now)
        assert 0 <= wait <= each * 1.0001
        if not wait:
            passed.append(now)
    for first in range(len(passed)):
        for last in range(first, len(passed)):
            assert last - first + 1 <= burst + (passed[last] - passed[first]) / each + 1e-3


@pytest.mark.parametrize(("burst", "each_s"), [(0, 1.0), (1, 0.0), (1, float("nan"))])
def test_a_rate_that_is_none(burst: int, each_s: float) -> None:
    with pytest.raises(ValueError, match="a rate"):
        Rate(burst, each_s)


@pytest.mark.parametrize(("address", "stands_for"), [
    ("192.0.2.7", "192.0.2.7"),
    ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
    ("2001:db8:1:2:ffff::", "2001:db8:1:2::/64"),
    ("::ffff:192.0.2.7", "192.0.2.7"),
    ("unix", "unix"),
    ("", ""),
    ("x" * 1000, "x" * 64),
])  # fmt: skip
def test_an_address_and_what_stands_for_it(address: str, stands_for: str) -> None:
    assert network(address) == stands_for
