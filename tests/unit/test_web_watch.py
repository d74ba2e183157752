"""Rows of results as they become visible: in one process in order, in several not."""

from hypothesis import given, settings
from hypothesis import strategies as st

from fleet.ports import StoredResult
from fleet.web.watch import Rows
from tests.unit.fleet_board import at


def stored(*rows: int) -> list[StoredResult]:
    return [StoredResult(row, b"{}") for row in rows]


def told(rows: Rows, seconds: float, *visible: int) -> list[int]:
    return [each.row for each in rows.fresh(stored(*(row for row in visible if row > rows.low)), at(seconds))]


def test_each_row_is_told_once() -> None:
    rows = Rows(3)
    assert told(rows, 0, 1, 2, 3, 4, 5) == [4, 5]
    assert told(rows, 1, 4, 5) == []
    assert told(rows, 2, 5, 6) == [6]
    assert rows.low == 6


def test_a_row_that_comes_late_is_waited_for() -> None:
    rows = Rows(0)
    assert told(rows, 0, 1, 3, 4) == [1, 3, 4]
    assert rows.low == 1
    assert told(rows, 3, 2, 3, 4, 5) == [2, 5]
    assert rows.low == 5


def test_but_not_for_ever() -> None:
    rows = Rows(0, patience_s=5.0)
    told(rows, 0, 1, 3)
    assert told(rows, 6, 1, 3) == []
    assert rows.low == 3
    assert told(rows, 7, 1, 3, 4) == [4]


def test_a_clock_that_is_set_back_does_not_keep_it_waiting() -> None:
    rows = Rows(0)
    told(rows, 100, 2)
    told(rows, 0, 2)
    assert rows.low == 2


@given(st.permutations(range(1, 9)), st.lists(st.integers(1, 4), min_size=8, max_size=8))
@settings(max_examples=100, deadline=None)
def test_in_whatever_order_rows_appear_none_is_lost_or_told_twice(order: list[int], steps: list[int]) -> None:
    rows, visible, seen = Rows(0), set[int](), list[int]()
    left = list(order)
    for number, step in enumerate(steps):
        visible |= set(left[:step])
        left = left[step:]
        seen += told(rows, number * 0.1, *sorted(visible))
    assert sorted(seen) == list(range(1, 9)) if not left else len(seen) == len(set(seen))
    if not left:
        assert rows.low == 8
