import queue
import threading

from agent.loops.runner import STRIKES, Crash, Runner


def test_a_loop_runs_until_it_is_stopped() -> None:
    began = threading.Event()

    def body(stop: threading.Event) -> None:
        began.set()
        stop.wait()

    runner = Runner(lambda _crash: None)
    runner.start("loop", body)
    assert began.wait(10)
    assert runner.alive() == ["loop"]
    assert runner.stop("loop", 10)
    assert runner.alive() == []
    assert not runner.failed.is_set()


def test_a_loop_that_crashes_is_started_again_and_told_of() -> None:
    crashes: queue.SimpleQueue[Crash] = queue.SimpleQueue()
    turns = iter([ZeroDivisionError("first"), None])
    second = threading.Event()

    def body(stop: threading.Event) -> None:
        error = next(turns)
        if error is not None:
            raise error
        second.set()
        stop.wait()

    runner = Runner(crashes.put, pause_s=0.001)
    runner.start("loop", body)
    assert second.wait(10)
    assert crashes.get(timeout=10) == Crash("loop", "ZeroDivisionError: first", 1)
    assert runner.stop("loop", 10)
    assert not runner.failed.is_set()


def test_three_crashes_in_a_row_end_the_agent() -> None:
    crashes: list[Crash] = []

    def body(_stop: threading.Event) -> None:
        raise RuntimeError("always")

    runner = Runner(crashes.append, pause_s=0.001)
    runner.start("loop", body)
    assert runner.failed.wait(10)
    assert [crash.strikes for crash in crashes] == list(range(1, STRIKES + 1))


def test_a_loop_that_hangs_does_not_hold_up_the_stop() -> None:
    release = threading.Event()

    def body(_stop: threading.Event) -> None:
        release.wait()

    runner = Runner(lambda _crash: None)
    runner.start("loop", body)
    assert not runner.stop("loop", 0.05)
    release.set()


def test_a_loop_that_hangs_is_forgotten_and_its_name_serves_another() -> None:
    release, began = threading.Event(), threading.Event()

    def hung(_stop: threading.Event) -> None:
        began.set()
        release.wait()
        raise RuntimeError("late")

    def well(stop: threading.Event) -> None:
        stop.wait()

    crashes: queue.SimpleQueue[Crash] = queue.SimpleQueue()
    runner = Runner(crashes.put, pause_s=0.001)
    runner.start("loop", hung)
    assert began.wait(10)
    assert not runner.stop("loop", 0.01)
    runner.forget("loop")
    runner.forget("never there")
    assert runner.alive() == []
    runner.start("loop", well)
    release.set()
    assert crashes.get(timeout=10).strikes == 1
    assert runner.alive() == ["loop"]
    assert runner.stop("loop", 10)
    assert not runner.failed.is_set()


def test_the_third_crash_of_a_loop_that_is_to_end_does_not_end_the_agent() -> None:
    def body(stop: threading.Event) -> None:
        if len(crashes) == STRIKES - 1:
            stop.set()
        raise RuntimeError("always")

    crashes: list[Crash] = []
    ended = threading.Event()

    def report(crash: Crash) -> None:
        crashes.append(crash)
        if crash.strikes == STRIKES:
            ended.set()

    runner = Runner(report, pause_s=0.001)
    runner.start("loop", body)
    assert ended.wait(10)
    assert runner.stop("loop", 10)
    assert not runner.failed.is_set()
