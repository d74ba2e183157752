"""The latest item wins, drops are counted, cameras are served in turn."""

import random
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.loops.latest import MOST_KEPT, MOST_PASSED, Counts, Latest, Slots

LONG_S = 20.0


def took(slots: Slots[int], timeout_s: float = LONG_S) -> tuple[str, int] | None:
    """Camera and item; the turn is given back."""
    taken = slots.take(timeout_s)
    if taken is None:
        return None
    with taken.turn:
        return taken.camera, taken.item


def test_the_newest_item_replaces_one_that_nobody_took() -> None:
    latest: Latest[int] = Latest()
    for item in (1, 2, 3):
        latest.put(item)
    assert latest.poll() == 3
    assert latest.poll() is None
    assert latest.counts() == Counts(captured=3, dropped=2)


def test_an_item_that_was_taken_is_no_drop() -> None:
    latest: Latest[int] = Latest()
    for item in (1, 2, 3):
        latest.put(item)
        assert latest.poll() == item
    assert latest.counts() == Counts(captured=3, dropped=0)


def test_a_quick_camera_does_not_starve_the_others() -> None:
    slots: Slots[int] = Slots(["quick", "slow", "slower"])
    slots["slow"].put(0)
    slots["slower"].put(0)
    served = []
    for item in range(6):
        slots["quick"].put(item)
        taken = slots.take(0.0)
        assert taken is not None
        served.append(taken.camera)
    assert served == ["quick", "slow", "slower", "quick", "quick", "quick"]


def test_take_waits_for_whichever_camera_comes_first() -> None:
    slots: Slots[int] = Slots(["a", "b"])
    with ThreadPoolExecutor(1) as pool:
        taken = pool.submit(took, slots)
        slots["b"].put(7)
        assert taken.result(LONG_S) == ("b", 7)


def test_take_gives_up_in_time() -> None:
    assert Slots(["a"]).take(0.01) is None


def test_stop_wakes_every_waiting_lane_and_later_ones() -> None:
    slots: Slots[int] = Slots(["a"])
    with ThreadPoolExecutor(3) as pool:
        lanes = [pool.submit(slots.take, LONG_S) for _ in range(3)]
        slots.stop()
        assert [lane.result(LONG_S) for lane in lanes] == [None] * 3
    slots["a"].put(1)
    assert slots.take(LONG_S) is None


def test_an_unknown_camera_has_no_slot() -> None:
    with pytest.raises(KeyError):
        Slots(["a"])["b"]


def test_every_item_is_taken_once_or_counted_as_dropped_under_contention() -> None:
    slots: Slots[int] = Slots(["a", "b", "c"])
    items_each = 2000
    taken: list[tuple[str, int]] = []
    lock = threading.Lock()

    def lane() -> None:
        while (item := took(slots)) is not None:
            with lock:
                taken.append(item)

    def camera(name: str) -> None:
        for number in range(items_each):
            slots[name].put(number)

    lanes = [threading.Thread(target=lane) for _ in range(2)]
    cameras = [threading.Thread(target=camera, args=(name,)) for name in "abc"]
    for thread in lanes + cameras:
        thread.start()
    for thread in cameras:
        thread.join()
    left = {(name, item) for name in "abc" if (item := slots[name].poll()) is not None}
    slots.stop()
    for thread in lanes:
        thread.join()
    counts = slots.counts()
    assert len(taken) == len(set(taken))
    assert {(name, items_each - 1) for name in "abc"} <= left | set(taken)
    assert sum(count.captured for count in counts.values()) == 3 * items_each
    assert len(taken) + len(left) + sum(count.dropped for count in counts.values()) == 3 * items_each


def test_what_is_kept_is_never_replaced() -> None:
    latest: Latest[str] = Latest()
    latest.put("old")
    assert latest.keep("first")
    assert latest.keep("second")
    latest.put("new")
    assert [latest.poll() for _ in range(4)] == ["first", "second", "new", None]
    assert latest.counts() == Counts(captured=4, dropped=1)


def test_what_came_before_a_kept_item_goes_before_it() -> None:
    latest: Latest[int] = Latest()
    latest.put(1)
    latest.keep(2)
    latest.keep(3)
    assert [latest.poll() for _ in range(3)] == [1, 2, 3]


def always_full(priorities: dict[str, int], turns: int) -> list[str]:
    """Who is served where every camera always has a picture."""
    slots: Slots[int] = Slots(())
    for name, priority in reversed(priorities.items()):
        slots.add(name, priority)
    served = []
    for item in range(turns):
        for name in priorities:
            slots[name].put(item)
        taken = took(slots, 0.0)
        assert taken is not None
        served.append(taken[0])
    return served


@pytest.mark.parametrize(
    ("priorities", "served"),
    [
        pytest.param({"a": 3, "b": 3, "c": 3}, "abcabcabc", id="equal ones in turn"),
        pytest.param({"low": 0, "high": 9}, ["high"] * 4 + ["low"] + ["high"] * 4 + ["low"], id="one turn in five"),
        pytest.param({"l": 0, "H": 1, "m": 0, "I": 1}, "HIHIlHIHImHIHIl", id="each in turn within its class"),
        pytest.param({"a": 0, "b": 5, "c": 9}, "ccccaccccbcccca", id="no class between is starved either"),
    ],
)
def test_the_higher_priority_goes_first_and_none_is_starved(priorities: dict[str, int], served: list[str]) -> None:
    assert always_full(priorities, len(served)) == list(served)


def test_a_higher_priority_that_has_nothing_holds_nobody_up() -> None:
    slots: Slots[int] = Slots(["low"])
    slots.add("high", 9)
    for item in range(3):
        slots["low"].put(item)
        assert took(slots, 0.0) == ("low", item)


def test_a_priority_may_change_while_items_wait() -> None:
    slots: Slots[int] = Slots(["a", "b"])
    slots["a"].put(1)
    slots["b"].put(2)
    slots.add("b", 1)
    assert took(slots, 0.0) == ("b", 2)
    assert took(slots, 0.0) == ("a", 1)


@given(st.lists(st.integers(0, 9), min_size=1, max_size=8), st.integers(0, 2**32))
def test_whoever_always_waits_is_served_within_the_bound(priorities: list[int], seed: int) -> None:
    """The others come and go as they like."""
    chance = random.Random(seed)
    names = [f"{number}" for number in range(len(priorities))]
    slots: Slots[int] = Slots(())
    for name, priority in zip(names, priorities, strict=True):
        slots.add(name, priority)
    waited = 0
    for item in range(200):
        slots["0"].put(item)
        for name in names[1:]:
            if chance.random() < 0.8:
                slots[name].put(item)
        taken = took(slots, 0.0)
        assert taken is not None
        waited = 0 if taken[0] == "0" else waited + 1
        assert waited < (MOST_PASSED + 1) * len(names)


def test_only_so_many_are_kept() -> None:
    latest: Latest[int] = Latest()
    assert [latest.keep(item) for item in range(MOST_KEPT + 1)] == [True] * MOST_KEPT + [False]
    assert latest.kept == MOST_KEPT
    latest.poll()
    assert latest.keep(99)
    assert latest.counts() == Counts(captured=MOST_KEPT + 1, dropped=0)


def test_what_is_kept_can_be_withdrawn() -> None:
    latest: Latest[int] = Latest()
    for item in (1, 2, 3):
        latest.keep(item)
    latest.withdraw(lambda item: item == 2)
    assert [latest.poll() for _ in range(3)] == [1, 3, None]
    assert latest.counts() == Counts(captured=3, dropped=1)


def test_a_kept_item_wakes_a_lane() -> None:
    slots: Slots[int] = Slots(["a"])
    with ThreadPoolExecutor(1) as pool:
        taken = pool.submit(took, slots)
        slots["a"].keep(7)
        assert taken.result(LONG_S) == ("a", 7)


def test_a_camera_that_was_added_is_served() -> None:
    slots: Slots[int] = Slots([])
    with ThreadPoolExecutor(1) as pool:
        taken = pool.submit(took, slots)
        slots.add("b")
        slots["b"].put(1)
        assert taken.result(LONG_S) == ("b", 1)


def test_a_camera_that_is_added_again_keeps_what_waits() -> None:
    slots: Slots[int] = Slots(["a"])
    slots["a"].put(1)
    slots.add("a")
    assert took(slots, 0.0) == ("a", 1)
    assert slots.counts() == {"a": Counts(1, 0)}


def test_a_camera_that_was_removed_gives_nothing_and_takes_nothing() -> None:
    slots: Slots[int] = Slots(["a", "b"])
    gone = slots["a"]
    gone.put(1)
    gone.keep(2)
    slots.remove("a")
    slots.remove("a")
    gone.put(3)
    assert not gone.keep(4)
    assert slots.take(0.0) is None
    assert gone.poll() is None
    assert gone.counts() == Counts(captured=3, dropped=3)
    with pytest.raises(KeyError):
        slots["a"]
    slots.add("a")
    gone.put(5)
    assert slots.take(0.0) is None, "the old capture loop does not reach the new slot"
    slots["a"].put(6)
    slots["b"].put(7)
    assert [took(slots, 0.0), took(slots, 0.0)] == [("a", 6), ("b", 7)]


def test_a_nudge_wakes_every_waiting_lane_and_loses_no_item() -> None:
    slots: Slots[int] = Slots(["a"])
    waiting = threading.Barrier(4)

    def lane() -> list[tuple[str, int] | None]:
        waiting.wait(LONG_S)
        return [took(slots), took(slots, 0.0)]

    with ThreadPoolExecutor(3) as pool:
        lanes = [pool.submit(lane) for _ in range(3)]
        waiting.wait(LONG_S)
        slots.nudge()  # whether a lane waits already or not
        firsts, seconds = zip(*[taken.result(LONG_S) for taken in lanes], strict=True)
    assert firsts == (None, None, None)
    assert seconds == (None, None, None)


def test_a_nudge_before_the_wait_is_answered_once_and_before_an_item() -> None:
    slots: Slots[int] = Slots(["a"])
    assert slots.take(0.0) is None
    slots["a"].put(1)
    slots.nudge()
    slots.nudge()
    assert slots.take(LONG_S) is None
    assert took(slots) == ("a", 1)


def test_an_item_that_comes_with_a_nudge_goes_to_some_lane() -> None:
    """The wake-up of an item must not end with a lane that was nudged."""
    slots: Slots[int] = Slots(["a"])
    items, taken, lock = 300, [], threading.Lock()
    answered = [threading.Semaphore(0), threading.Semaphore(0)]

    def lane(number: int) -> None:
        while (item := took(slots)) != ("a", items):
            if item is None:
                answered[number].release()
            else:
                with lock:
                    taken.append(item[1])
        slots["a"].keep(items)  # for the other one

    lanes = [threading.Thread(target=lane, args=(number,)) for number in range(2)]
    for thread in lanes:
        thread.start()
    for number in range(items):
        while not slots["a"].keep(number):
            lanes[0].join(0.001)
        if number % 10 == 0:
            slots.nudge()
            assert all(lane.acquire(timeout=LONG_S) for lane in answered)
    while not slots["a"].keep(items):
        lanes[0].join(0.001)
    for thread in lanes:
        thread.join(LONG_S)
        assert not thread.is_alive()
    assert sorted(taken) == list(range(items))


def test_cameras_may_come_and_go_while_lanes_take() -> None:
    slots: Slots[int] = Slots(["a"])
    over = threading.Event()

    def lane() -> int:
        count = 0
        while not over.is_set():
            count += slots.take(0.001) is not None
        return count

    with ThreadPoolExecutor(2) as pool:
        lanes = [pool.submit(lane) for _ in range(2)]
        for number in range(500):
            slots.add("b")
            slots["b"].put(number)
            slots["a"].put(number)
            slots.remove("b")
            assert set(slots.counts()) == {"a"}
        while slots["a"].filled:
            pass
        over.set()
        assert sum(taken.result(LONG_S) for taken in lanes) >= 1
