from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from agent.least_time import LeastTime

THEN = datetime(2027, 5, 1, tzinfo=UTC)
AT_1970 = datetime(1970, 1, 1, tzinfo=UTC)


class Clock:
    def __init__(self, now: datetime) -> None:
        self.now = now

    def __call__(self) -> datetime:
        return self.now


def test_time_never_goes_back_not_even_over_a_restart(tmp_path: Path) -> None:
    clock = Clock(THEN)
    least = LeastTime(tmp_path / "least", clock)
    assert not least.is_clock_behind
    least.learn(THEN)
    clock.now = AT_1970
    assert least.now() == THEN
    assert LeastTime(tmp_path / "least", clock).now() == THEN
    assert LeastTime(tmp_path / "least", clock).is_clock_behind


def test_a_clock_that_is_right_is_believed_beyond_what_was_learnt(tmp_path: Path) -> None:
    clock = Clock(THEN)
    least = LeastTime(tmp_path / "least", clock)
    least.learn(THEN - timedelta(days=1))
    assert least.now() == THEN
    clock.now = THEN + timedelta(days=400)
    assert least.now() == clock.now
    clock.now = THEN
    assert least.now() == THEN, "a clock that once ran ahead is not remembered"


def test_small_steps_are_not_written_each(tmp_path: Path) -> None:
    path = tmp_path / "least"
    least = LeastTime(path, Clock(AT_1970))
    least.learn(THEN)
    before = path.read_bytes()
    least.learn(THEN + timedelta(minutes=9))
    assert path.read_bytes() == before
    assert least.now() == THEN + timedelta(minutes=9)
    least.learn(THEN + timedelta(minutes=10))
    assert LeastTime(path, Clock(AT_1970)).now() == THEN + timedelta(minutes=10)


@pytest.mark.parametrize("content", [b"", b"x" * 5000, b"{}", bytes(200)])
def test_a_file_that_cannot_be_read_keeps_nobody_from_starting(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "least").write_bytes(content)
    least = LeastTime(tmp_path / "least", Clock(AT_1970))
    assert least.now() > AT_1970
    least.learn(THEN)
    assert LeastTime(tmp_path / "least", Clock(AT_1970)).now() == THEN


def test_a_disk_that_takes_nothing_does_not_stop_the_work(tmp_path: Path) -> None:
    least = LeastTime(tmp_path / "no such folder" / "least", Clock(AT_1970))
    least.learn(THEN)
    assert least.now() == THEN
