"""A child that is lost: it crashes, hangs, is killed or talks nonsense, and the next call has another."""

import os
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from agent.adapters.segmenter_process import ProcessSegmenter
from agent.errors import Retryable
from schemas.codes import FailureCode
from tests.contract.faulty_child import (
    PATIENCE_S,
    Call,
    Pipes,
    assert_right,
    assert_works,
    await_end,
    fails,
    ours,
    pid_of,
)
from tests.contract.faulty_segmenters import (
    LAST_WORDS,
    SPEC,
    Fault,
    FaultyFactory,
    picture,
)

HANG_DEADLINE_S = 1.5


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("faulty")


@pytest.fixture(scope="module")
def pipes(folder: Path) -> Iterator[Pipes]:
    made = Pipes(folder)
    yield made
    made.close()


@pytest.fixture(scope="module")
def shared(folder: Path) -> Iterator[ProcessSegmenter]:
    """One for the tests that leave it usable, so that each costs one start and not two."""
    factory = FaultyFactory(str(folder))
    made = ProcessSegmenter(factory, SPEC, deadline_s=PATIENCE_S, load_deadline_s=PATIENCE_S, core="core 2")
    yield made
    made.close()


@pytest.fixture(scope="module")
def impatient(folder: Path) -> Iterator[ProcessSegmenter]:
    made = ProcessSegmenter(
        FaultyFactory(str(folder)), SPEC, deadline_s=HANG_DEADLINE_S, load_deadline_s=PATIENCE_S, core="core 3"
    )
    yield made
    made.close()


@pytest.mark.parametrize(
    ("fault", "says"),
    [
        pytest.param(Fault.SEGFAULT, ["SIGSEGV", LAST_WORDS, "faulty_segmenters.py"], id="segfault"),
        pytest.param(Fault.SEGFAULT_UNHEARD, ["SIGSEGV", LAST_WORDS], id="segfault, unheard"),
        pytest.param(Fault.EXIT_3, ["exit code 3", LAST_WORDS], id="exit"),
        pytest.param(Fault.RAISE, ["exit code 1", "ZeroDivisionError", LAST_WORDS], id="foreign exception"),
        pytest.param(Fault.WRONG_SHAPE, ["exit code 1", "TypeError", "(1, 1)"], id="map of a wrong shape"),
        pytest.param(Fault.FLOOD_LOG_AND_EXIT, ["exit code 3", "line 49999", LAST_WORDS], id="flooded log"),
        pytest.param(Fault.SAY_NOISE, ["not JSON"], id="says noise"),
        pytest.param(Fault.SAY_OLD_ANSWER, ["answered call 1 in call"], id="says an old answer"),
        pytest.param(Fault.SAY_UNKNOWN_KIND, ["Gift"], id="says an unknown kind"),
        pytest.param(Fault.SAY_LOADED, ["answered call 2 in call"], id="says that it is loaded"),
    ],
)
def test_a_child_that_breaks_is_replaced_by_the_next_call(
    fault: Fault, says: list[str], shared: ProcessSegmenter
) -> None:
    assert_works(shared, seed=1)
    first, restarts, left = pid_of(shared), shared.restarts, ours()
    error = fails(shared, fault)
    assert isinstance(error, Retryable)
    assert error.code is FailureCode.NPU_CRASHED
    for text in ("core 2", *says):
        assert text in error.text
    assert len(error.text) < 6_000
    assert shared.pid is None
    assert shared.memory_bytes() == 0
    await_end(first)
    assert_works(shared, seed=2)
    assert shared.restarts == restarts + 1
    assert shared.pid != first
    assert ours() == left


@pytest.mark.parametrize("fault", [Fault.HANG, Fault.HANG_WITH_GIL, Fault.HANG_AND_FLOOD_LOG])
def test_a_child_that_hangs_is_killed_at_the_deadline_and_replaced(fault: Fault, impatient: ProcessSegmenter) -> None:
    assert_works(impatient, seed=3)
    first, restarts = pid_of(impatient), impatient.restarts
    started_s = time.monotonic()
    error = fails(impatient, fault)
    assert HANG_DEADLINE_S <= time.monotonic() - started_s < HANG_DEADLINE_S + 10
    assert isinstance(error, Retryable)
    assert error.code is FailureCode.NPU_HUNG
    assert LAST_WORDS in error.text
    await_end(first)
    assert_works(impatient, seed=4)
    assert impatient.restarts == restarts + 1


def test_a_child_killed_in_mid_inference_is_replaced(shared: ProcessSegmenter, pipes: Pipes) -> None:
    for seed in range(2):
        assert_works(shared, seed)
        restarts = shared.restarts
        call = Call(shared, picture(seed, Fault.WAIT))
        pipes.await_entry()
        os.kill(pid_of(shared), signal.SIGKILL)
        error = call.outcome()
        assert isinstance(error, Retryable)
        assert error.code is FailureCode.NPU_CRASHED
        assert "SIGKILL" in error.text
        assert_works(shared, seed + 10)
        assert shared.restarts == restarts + 1


def test_a_child_killed_between_calls_is_reported_once_and_replaced(shared: ProcessSegmenter) -> None:
    assert_works(shared, seed=5)
    pid = pid_of(shared)
    os.kill(pid, signal.SIGKILL)
    await_end(pid)
    error = fails(shared, Fault.NONE)
    assert error.code is FailureCode.NPU_CRASHED
    assert_works(shared, seed=6)


def test_maps_in_use_stay_as_they_were_when_the_child_is_lost(shared: ProcessSegmenter) -> None:
    pixels = picture(5)
    made = shared.segment([pixels])
    fails(shared, Fault.EXIT_3)
    assert_right(made, pixels)
    assert_works(shared, seed=6)
    assert_right(made, pixels)


class Interrupted(Exception):
    pass


def test_the_answer_to_an_interrupted_call_is_never_given_to_the_next(shared: ProcessSegmenter, pipes: Pipes) -> None:
    def interrupt(*_: object) -> None:
        raise Interrupted

    def when_inside() -> None:
        pipes.await_entry()
        os.kill(os.getpid(), signal.SIGUSR1)

    assert_works(shared, seed=7)
    before = signal.signal(signal.SIGUSR1, interrupt)
    thread = threading.Thread(target=when_inside)
    thread.start()
    try:
        with pytest.raises(Interrupted):
            shared.segment([picture(7, Fault.WAIT)])
    finally:
        thread.join()
        signal.signal(signal.SIGUSR1, before)
    pipes.release()
    assert fails(shared, Fault.NONE).code is FailureCode.NPU_CRASHED
    assert_works(shared, seed=8)


def test_a_reload_that_fails_is_tried_again_by_the_next_call(shared: ProcessSegmenter, folder: Path) -> None:
    assert_works(shared, seed=11)
    restarts = shared.restarts
    fails(shared, Fault.EXIT_3)
    (folder / "load").write_text(Fault.SEGFAULT.name)
    error = fails(shared, Fault.NONE)
    (folder / "load").write_text(Fault.RETRYABLE.name)
    again = fails(shared, Fault.NONE)
    (folder / "load").unlink()
    assert error.code is FailureCode.NPU_CRASHED
    assert "in a load: signal 11 (SIGSEGV)" in error.text
    assert again.code is FailureCode.NPU_TIMEOUT
    assert_works(shared, seed=12)
    assert shared.restarts == restarts + 3


def test_a_child_that_even_a_kill_does_not_end_is_not_joined_by_another(
    impatient: ProcessSegmenter, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert_works(impatient, seed=13)
    child = impatient._supervised.child
    assert child is not None
    monkeypatch.setattr(child._process, "kill", lambda: None)  # as a driver that holds it in the kernel
    assert fails(impatient, Fault.HANG).code is FailureCode.NPU_HUNG
    held = fails(impatient, Fault.NONE)
    assert held.code is FailureCode.NPU_HUNG
    assert f"{child.pid} does not end" in held.text
    os.kill(child.pid, signal.SIGKILL)
    await_end(child.pid)
    assert_works(impatient, seed=13)
