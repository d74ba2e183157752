"""Works of one camera are done in the order of their turns, by whoever is there, and nobody waits for ever."""

import random
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.loops.turns import MOST_WAITING, Turn, Turns

LONG_S = 20.0


class Line:
    """Turns at a time that the test sets; what is done is noted in order."""

    def __init__(self) -> None:
        self.at_s = 0.0
        self.turns = Turns(10.0, lambda: self.at_s)
        self.done: list[str] = []

    def give(self, number: int, camera: str = "top") -> list[Turn]:
        return [self.turns.give(camera) for _ in range(number)]

    def work(self, name: str) -> Callable[[], None]:
        return lambda: self.done.append(name)


@pytest.mark.parametrize("order", ["abc", "cba", "bac", "cab"])
def test_works_are_done_in_the_order_of_turns_whatever_comes_first(order: str) -> None:
    line = Line()
    turns = dict(zip("abc", line.give(3), strict=True))
    for name in order:
        with turns[name] as turn:
            turn.hand_in(line.work(name))
    assert line.done == ["a", "b", "c"]


def test_cameras_do_not_wait_for_each_other() -> None:
    line = Line()
    line.give(1, "top")
    (side,) = line.give(1, "side")
    side.hand_in(line.work("side"))
    assert line.done == ["side"]


def test_what_is_given_back_holds_nobody_up() -> None:
    line = Line()
    first, second, third = line.give(3)
    third.hand_in(line.work("third"))
    with second:
        pass
    assert line.done == []
    with first:
        pass
    assert line.done == ["third"]


def test_a_lane_that_crashes_gives_its_turn_back() -> None:
    line = Line()
    first, second = line.give(2)
    second.hand_in(line.work("second"))
    with pytest.raises(RuntimeError, match="ours"), first:
        raise RuntimeError("ours")
    assert line.done == ["second"]


def test_a_turn_that_is_held_for_too_long_is_passed_by_and_its_work_is_done_late() -> None:
    line = Line()
    hung, second, third = line.give(3)
    second.hand_in(line.work("second"))
    line.at_s = 9.0
    line.turns.move_on()
    assert line.done == []
    line.at_s = 11.0
    third.hand_in(line.work("third"))
    assert line.done == ["second", "third"]
    hung.hand_in(line.work("hung"))
    assert line.done == ["second", "third", "hung"]
    (after,) = line.give(1)
    after.hand_in(line.work("after"))
    assert line.done[-1] == "after"


def test_idle_lanes_move_a_line_on() -> None:
    line = Line()
    _hung, second = line.give(2)
    second.hand_in(line.work("second"))
    line.at_s = 11.0
    line.turns.move_on()
    assert line.done == ["second"]


def test_a_turn_that_nobody_waits_behind_may_take_its_time() -> None:
    line = Line()
    (slow,) = line.give(1)
    line.at_s = 100.0
    line.turns.move_on()
    (next_one,) = line.give(1)
    slow.hand_in(line.work("slow"))
    next_one.hand_in(line.work("next"))
    assert line.done == ["slow", "next"]


def test_work_that_raises_does_so_where_it_is_done_and_the_line_goes_on() -> None:
    line = Line()
    first, second, third = line.give(3)

    def bad() -> None:
        raise RuntimeError("spool")

    second.hand_in(bad)
    third.hand_in(line.work("third"))
    with pytest.raises(RuntimeError, match="spool"):
        first.hand_in(line.work("first"))
    line.turns.move_on()
    assert line.done == ["first", "third"]
    assert line.turns.wait_for_room(0.0)


def test_only_so_much_waits_before_lanes_take_no_more() -> None:
    line = Line()
    first, *others = line.give(MOST_WAITING + 1)
    for number, turn in enumerate(others):
        assert line.turns.wait_for_room(0.0)
        turn.hand_in(line.work(str(number)))
    assert not line.turns.wait_for_room(0.0)
    with ThreadPoolExecutor(1) as pool:
        room = pool.submit(line.turns.wait_for_room, LONG_S)
        first.hand_in(line.work("first"))
        assert room.result(LONG_S)


def test_while_one_thread_is_at_the_line_others_leave_their_work_and_go() -> None:
    line = Line()
    first, second = line.give(2)
    begun, goes_on = threading.Event(), threading.Event()

    def slow() -> None:
        begun.set()
        assert goes_on.wait(LONG_S)
        line.done.append("first")

    with ThreadPoolExecutor(1) as pool:
        served = pool.submit(first.hand_in, slow)
        assert begun.wait(LONG_S)
        second.hand_in(line.work("second"))
        assert line.done == []
        goes_on.set()
        served.result(LONG_S)
    assert line.done == ["first", "second"]


@settings(deadline=None, max_examples=25)
@given(st.integers(0, 2**32), st.integers(1, 4), st.integers(1, 3))
def test_order_holds_for_lanes_of_any_speed(seed: int, lanes: int, cameras: int) -> None:
    """A third of the frames is given back, and what remains keeps its order on each camera."""
    turns, done, frames = Turns(), [], iter(range(60))
    taking = threading.Lock()

    def lane(number: int) -> None:
        chance, spin = random.Random(seed + number), threading.Event()
        while True:
            with taking:  # as a slot's lock does
                frame = next(frames, None)
                if frame is None:
                    return
                turn = turns.give(str(frame % cameras))
            with turn:
                spin.wait(chance.random() * 1e-3)
                if frame % 3:
                    turn.hand_in(lambda frame=frame: done.append(frame))  # type: ignore[misc]

    threads = [threading.Thread(target=lane, args=(number,)) for number in range(lanes)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(LONG_S)
        assert not thread.is_alive()
    for camera in range(cameras):
        of_camera = [frame for frame in done if frame % cameras == camera]
        assert of_camera == [frame for frame in range(60) if frame % cameras == camera and frame % 3]
