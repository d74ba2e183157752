"""The latest item wins, drops are counted, cameras are served in turn."""

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from agent.loops.latest import Counts, Latest, Slots

LONG_S = 20.0


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
        served.append(taken[0])
    assert served == ["quick", "slow", "slower", "quick", "quick", "quick"]


def test_take_waits_for_whichever_camera_comes_first() -> None:
    slots: Slots[str] = Slots(["a", "b"])
    with ThreadPoolExecutor(1) as pool:
        taken = pool.submit(slots.take, LONG_S)
        slots["b"].put("picture")
        assert taken.result(LONG_S) == ("b", "picture")


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
        while (item := slots.take(LONG_S)) is not None:
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
