"""The journal on disk: whole after any crash, and clear about what it cannot do."""

import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from agent.adapters.journal_fs import MAX_BYTES, FileJournal, StopMark
from agent.errors import Permanent, Retryable
from schemas.codes import FailureCode

KILLS = 40


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "state" / "update.journal"


def test_nothing_was_ever_written(path: Path) -> None:
    assert FileJournal(path).read() is None


@pytest.mark.parametrize("content", [b"", b"{}", b"\0" * 100_000, b"x" * MAX_BYTES])
def test_what_was_written_is_read_by_another(path: Path, content: bytes) -> None:
    FileJournal(path).write(b"before")
    FileJournal(path).write(content)
    assert FileJournal(path).read() == content


def test_too_much_is_refused_and_the_old_content_stands(path: Path) -> None:
    FileJournal(path).write(b"old")
    with pytest.raises(ValueError, match="at most"):
        FileJournal(path).write(b"x" * (MAX_BYTES + 1))
    assert FileJournal(path).read() == b"old"


@given(data=st.data())
@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
def test_a_garbled_file_falls_back_to_the_one_before(path: Path, data: st.DataObject) -> None:
    journal = FileJournal(path)
    journal.write(b"the one before")
    journal.write(b"the newest")
    raw = bytearray(path.read_bytes())
    if data.draw(st.booleans(), label="truncate"):
        del raw[data.draw(st.integers(0, len(raw) - 1)) :]
    else:
        raw[data.draw(st.integers(0, len(raw) - 1))] ^= data.draw(st.integers(1, 255))
    path.write_bytes(raw)
    assert journal.read() == b"the one before"
    journal.write(b"next")
    assert journal.read() == b"next"
    assert path.with_name(f"{path.name}.previous").read_bytes().endswith(b"the one before"), "garbage was kept"


def test_a_lost_file_falls_back_to_the_one_before(path: Path) -> None:
    journal = FileJournal(path)
    journal.write(b"the one before")
    journal.write(b"the newest")
    path.unlink()
    assert journal.read() == b"the one before"


def test_two_garbled_copies_are_a_typed_error_and_can_be_written_over(path: Path) -> None:
    journal = FileJournal(path)
    for content in (b"one", b"two"):
        journal.write(content)
    for copy in path.parent.iterdir():
        copy.write_bytes(b"\0" * 3_000_000)
    with pytest.raises(Permanent, match="garbled"):
        journal.read()
    journal.write(b"anew")
    assert journal.read() == b"anew"


WRITER = """
import sys
from pathlib import Path
from agent.adapters.journal_fs import FileJournal
journal = FileJournal(Path(sys.argv[1]))
number = int(sys.argv[2])
while True:
    number += 1
    journal.write(b"%d:" % number + bytes([number % 256]) * 50_000)
    sys.stdout.write(f"{number}\\n")
    sys.stdout.flush()
"""


def test_kill_9_at_any_moment_leaves_what_was_last_promised_or_the_next(path: Path) -> None:
    """The moment of the kill wanders: after each start a few more writes are let through."""
    last = 0
    for kill in range(KILLS):
        with subprocess.Popen(
            [sys.executable, "-c", WRITER, str(path), str(last)], stdout=subprocess.PIPE, text=True
        ) as child:
            assert child.stdout is not None
            for _ in range(1 + kill % 7):
                last = int(child.stdout.readline())
            os.kill(child.pid, signal.SIGKILL)
            rest = child.stdout.read().splitlines()
        promised = max([last, *(int(line) for line in rest if line)])
        content = FileJournal(path).read()
        assert content is not None
        last = int(content.split(b":")[0])
        assert last in {promised, promised + 1}
        assert content == b"%d:" % last + bytes([last % 256]) * 50_000


@pytest.fixture
def read_only() -> Iterator[Path]:
    """As root a mode stops nobody, so the test goes on as somebody else; pytest's folders would keep that one out."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        FileJournal(folder / "update.journal").write(b"old")
        folder.chmod(0o555)
        is_root = os.geteuid() == 0
        if is_root:
            os.seteuid(65534)
        yield folder
        if is_root:
            os.seteuid(0)
        folder.chmod(0o755)


def test_a_folder_that_may_not_be_written_to_is_a_typed_error(read_only: Path) -> None:
    journal = FileJournal(read_only / "update.journal")
    with pytest.raises(Permanent, match="denied") as caught:
        journal.write(b"new")
    assert caught.value.code is FailureCode.INTERNAL
    assert journal.read() == b"old"


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    disk = tmp_path / "disk"
    disk.mkdir()
    options = ["-t", "tmpfs", "-o", "size=512k", "tmpfs", str(disk)]
    if os.geteuid() != 0 or subprocess.run(["mount", *options], capture_output=True, check=False).returncode:
        pytest.skip("needs the right to mount a small disk")
    yield disk
    subprocess.run(["umount", str(disk)], check=True)


def test_a_full_disk_is_retryable_and_the_old_content_stands(small_disk: Path) -> None:
    journal = FileJournal(small_disk / "update.journal")
    for content in (b"a" * 100_000, b"b" * 100_000):
        journal.write(content)
    ballast = small_disk / "ballast"
    ballast.write_bytes(b"\0" * 250_000)
    with pytest.raises(Retryable) as caught:
        journal.write(b"c" * 200_000)
    assert caught.value.code is FailureCode.DISK_FULL
    assert journal.read() == b"b" * 100_000
    assert not (small_disk / "update.journal.partial").exists(), "a full disk wants its bytes back"
    ballast.unlink()
    journal.write(b"c" * 200_000)
    assert journal.read() == b"c" * 200_000


def test_a_full_disk_is_retryable_wherever_it_shows(path: Path) -> None:
    """For machines that cannot mount one: the device that is always full."""
    journal = FileJournal(path)
    journal.write(b"old")
    path.with_name(f"{path.name}.partial").symlink_to("/dev/full")
    with pytest.raises(Retryable) as caught:
        journal.write(b"new")
    assert caught.value.code is FailureCode.DISK_FULL
    assert journal.read() == b"old"
    journal.write(b"new")
    assert journal.read() == b"new"


@pytest.mark.parametrize(
    ("runs", "is_clean"),
    [
        pytest.param([], True, id="there was no run"),
        pytest.param(["stopped"], True, id="stopped in good order"),
        pytest.param(["killed"], False, id="killed"),
        pytest.param(["stopped", "killed"], False, id="stopped once, then killed"),
        pytest.param(["killed", "stopped"], True, id="killed once, then stopped"),
        pytest.param(["killed", "killed"], False, id="killed twice"),
    ],
)
def test_only_an_orderly_stop_leaves_its_mark(tmp_path: Path, runs: list[str], is_clean: bool) -> None:
    path = tmp_path / "stopped-cleanly"
    for end in runs:
        StopMark(path).take()
        if end == "stopped":
            StopMark(path).leave()
    mark = StopMark(path)
    assert mark.take() is is_clean
    assert mark.take() is False, "the mark is gone: it stands for one start"


def test_a_disk_that_takes_no_mark_is_no_reason_to_suspect_the_model(tmp_path: Path) -> None:
    mark = StopMark(tmp_path / "no such folder" / "stopped-cleanly")
    mark.leave()
    assert mark.take()
