"""The library's words are heard from Python and from C, by each call its own. Needs no board."""

import logging
import os
import sys
import threading

import pytest

from agent.adapters.segmenter_rknn.log import Log, failure
from agent.errors import Permanent, Retryable
from schemas.codes import FailureCode


@pytest.fixture
def log() -> Log:
    return Log()


def test_all_that_goes_to_stdout_and_stderr_is_heard_in_order_and_passed_on(
    log: Log, capfd: pytest.CaptureFixture[str]
) -> None:
    handler = logging.StreamHandler(sys.__stderr__)
    with log.listen() as said:
        os.write(2, b"one\n")
        handler.handle(logging.makeLogRecord({"msg": "two"}))
        os.write(1, b"three\n")
    assert said == ["one\ntwo\nthree\n"]
    assert capfd.readouterr().err == "one\ntwo\nthree\n"


def test_what_is_said_outside_of_a_call_is_not_heard(log: Log, capfd: pytest.CaptureFixture[str]) -> None:
    os.write(2, b"before\n")
    with log.listen() as said:
        os.write(2, b"within\n")
    os.write(1, b"after\n")
    assert said == ["within\n"]
    heard = capfd.readouterr()
    assert heard.err == "before\nwithin\n"
    assert heard.out == "after\n"


def test_overlapping_calls_each_hear_what_was_said_since_they_began(
    log: Log, capfd: pytest.CaptureFixture[str]
) -> None:
    with log.listen() as outer:
        os.write(2, b"first\n")
        with log.listen() as inner:
            os.write(2, b"second\n")
        os.write(2, b"third\n")
    assert outer == ["first\nsecond\nthird\n"]
    assert inner == ["second\n"]
    assert capfd.readouterr().err == outer[0]


def test_calls_of_many_threads_leave_stderr_as_it_was(log: Log, capfd: pytest.CaptureFixture[str]) -> None:
    missed: list[str] = []

    def call(name: str) -> None:
        for i in range(50):
            with log.listen() as said:
                os.write(2, f"{name} {i}\n".encode())
            if f"{name} {i}\n" not in said[0]:
                missed.append(f"{name} {i}")

    threads = [threading.Thread(target=call, args=(name,)) for name in "abcd"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not missed
    os.write(2, b"afterwards\n")
    lines = capfd.readouterr().err.splitlines()
    assert sorted(lines) == sorted(["afterwards", *(f"{name} {i}" for name in "abcd" for i in range(50))])


def test_more_text_than_a_pipe_holds_blocks_nobody(log: Log, capfd: pytest.CaptureFixture[str]) -> None:
    with log.listen() as said:
        for _ in range(64):
            os.write(2, b"x" * 16_384)
    assert len(said[0]) == 2**20
    assert len(capfd.readouterr().err) == 2**20


def test_an_exception_ends_the_listening(log: Log, capfd: pytest.CaptureFixture[str]) -> None:
    heard: list[list[str]] = []

    def fail() -> None:
        with log.listen() as said:
            heard.append(said)
            os.write(2, b"within\n")
            raise KeyError

    with pytest.raises(KeyError):
        fail()
    os.write(2, b"after\n")
    assert heard == [["within\n"]]
    assert capfd.readouterr().err == "within\nafter\n"


def test_warnings_of_a_healthy_start_decide_nothing() -> None:
    healthy = "W Query dynamic range failed. Ret code: RKNN_ERR_MODEL_INVALID. (If it is a static shape model...)\n"
    error = failure("start", [healthy])
    assert isinstance(error, Retryable)
    assert error.code is FailureCode.NPU_FAULT
    assert "the library gives no reason" in error.text


def test_the_text_is_bounded_and_keeps_its_end() -> None:
    error = failure("start", ["E something\n" * 10_000 + "E RKNN_ERR_MODEL_INVALID\n"])
    assert isinstance(error, Permanent)
    assert error.code is FailureCode.MODEL_INVALID
    assert len(error.text) <= 2_000
