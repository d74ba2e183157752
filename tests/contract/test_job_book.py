"""The book of jobs on disk: what was saved is there after any crash, and one bad file costs one job."""

import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from agent.adapters.jobs_fs import FolderJobBook
from agent.core.job import Job
from agent.errors import Permanent, Retryable
from schemas.codes import FailureCode
from schemas.command import Failure
from schemas.job import JobRequest, JobStatus, JobType

T = datetime(2026, 1, 31, 12, tzinfo=UTC)
KILLS = 10


def job(job_id: str = "job-1", **changes: object) -> Job:
    request = JobRequest(
        job_id=job_id, type=JobType.INSPECT, deadline=T + timedelta(hours=1), document={"camera": "top"}
    )
    return replace(Job(request, JobStatus.QUEUED, T, T), **changes)  # type: ignore[arg-type]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "state" / "jobs"


def test_an_empty_book(folder: Path) -> None:
    assert list(FolderJobBook(folder).load()) == []


@pytest.mark.parametrize(
    "content",
    [
        job(),
        job("." * 127 + "x", status=JobStatus.IN_PROGRESS, boot_id="b", attempts=2, started_at=T, version=7),
        job("x" * 128, status=JobStatus.FAILED, failure=Failure(code=FailureCode.NPU_HUNG, text="ä\n")),
        job(status=JobStatus.SUCCEEDED, details={"lines": ["ü" * 2000] * 7, "n": 1.5, "none": None}),
    ],
    ids=["queued", "begun", "failed", "succeeded"],
)
def test_what_was_saved_is_read_by_another(folder: Path, content: Job) -> None:
    FolderJobBook(folder).save(job(content.job_id))
    FolderJobBook(folder).save(content)
    assert list(FolderJobBook(folder).load()) == [content]


def test_ids_that_differ_in_case_or_look_like_paths_are_apart(folder: Path) -> None:
    book = FolderJobBook(folder)
    ids = {"A", "a", "a.job", ".a", "...a", "a:b", "a" * 128}
    for job_id in ids:
        book.save(job(job_id))
    assert {one.job_id for one in book.load()} == ids
    assert {path.parent for path in folder.parent.rglob("*.job")} == {folder}


def test_what_is_forgotten_is_gone(folder: Path) -> None:
    book = FolderJobBook(folder)
    book.save(job("a"))
    book.save(job("b"))
    book.forget("a")
    book.forget("never there")
    assert [one.job_id for one in FolderJobBook(folder).load()] == ["b"]


@given(data=st.data())
@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
def test_a_garbled_file_is_set_aside_and_the_others_stand(folder: Path, data: st.DataObject) -> None:
    book = FolderJobBook(folder)
    book.save(job("good"))
    book.forget("bad")
    before = set(folder.glob("*.job"))
    book.save(job("bad"))
    (path,) = set(folder.glob("*.job")) - before
    raw = bytearray(path.read_bytes())
    if data.draw(st.booleans(), label="truncate"):
        del raw[data.draw(st.integers(0, len(raw) - 1)) :]
    else:
        raw[data.draw(st.integers(0, len(raw) - 1))] ^= data.draw(st.integers(1, 255))
    path.write_bytes(raw)
    fresh = FolderJobBook(folder)
    assert [one.job_id for one in fresh.load()] == ["good"]
    assert fresh.corrupt_files == [path.with_name(f"{path.name}.corrupt")]
    assert fresh.corrupt_files[0].read_bytes() == raw
    assert [one.job_id for one in FolderJobBook(folder).load()] == ["good"]


@pytest.mark.parametrize("kind", ["of another job", "a folder", "huge"])
def test_what_is_no_job_of_this_name_is_set_aside(folder: Path, kind: str) -> None:
    book = FolderJobBook(folder)
    book.save(job("a"))
    (path,) = folder.glob("*.job")
    bad = folder / f"{'0' * 40}.job"
    if kind == "of another job":
        bad.write_bytes(path.read_bytes())
    elif kind == "a folder":
        bad.mkdir()
    else:
        bad.write_bytes(bytes(3_000_000))
    assert [one.job_id for one in book.load()] == ["a"]
    assert [aside.name for aside in book.corrupt_files] == [f"{bad.name}.corrupt"]


WRITER = """
import sys
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from agent.adapters.jobs_fs import FolderJobBook
from agent.core.job import Job
from schemas.job import JobRequest, JobStatus, JobType
book = FolderJobBook(Path(sys.argv[1]))
T = datetime(2026, 1, 31, 12, tzinfo=UTC)
job = Job(JobRequest(job_id="job-1", type=JobType.LOGS), JobStatus.QUEUED, T, T, version=int(sys.argv[2]))
while True:
    job = replace(job, version=job.version + 1, details={"text": str(job.version % 10) * 50_000})
    book.save(job)
    sys.stdout.write(f"{job.version}\\n")
    sys.stdout.flush()
"""


def test_kill_9_at_any_moment_leaves_what_was_last_promised_or_the_next(folder: Path) -> None:
    """The moment of the kill wanders: after each start a few more writes are let through."""
    last = 1
    for kill in range(KILLS):
        with subprocess.Popen(
            [sys.executable, "-c", WRITER, str(folder), str(last)], stdout=subprocess.PIPE, text=True
        ) as child:
            assert child.stdout is not None
            for _ in range(1 + kill % 5):
                last = int(child.stdout.readline())
            os.kill(child.pid, signal.SIGKILL)
            rest = child.stdout.read().splitlines()
        promised = max([last, *(int(line) for line in rest if line)])
        book = FolderJobBook(folder)
        (found,) = book.load()
        assert not book.corrupt_files
        assert found.version in {promised, promised + 1}
        last = found.version
    assert not list(folder.glob("*.partial"))


@pytest.fixture
def read_only() -> Iterator[Path]:
    """As root a mode stops nobody, so the test goes on as somebody else; pytest's folders would keep that one out."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        FolderJobBook(folder).save(job())
        folder.chmod(0o555)
        is_root = os.geteuid() == 0
        if is_root:
            os.seteuid(65534)
        yield folder
        if is_root:
            os.seteuid(0)
        folder.chmod(0o755)


def test_a_folder_that_may_not_be_written_to_is_a_typed_error(read_only: Path) -> None:
    book = FolderJobBook(read_only)
    with pytest.raises(Permanent, match="denied") as caught:
        book.save(job("job-2"))
    assert caught.value.code is FailureCode.INTERNAL
    with pytest.raises(Permanent, match="denied"):
        book.forget("job-1")


def test_a_full_disk_is_retryable_and_the_job_stands_as_it_was(folder: Path) -> None:
    book = FolderJobBook(folder)
    book.save(job())
    (path,) = folder.glob("*.job")
    path.with_suffix(".partial").symlink_to("/dev/full")
    with pytest.raises(Retryable) as caught:
        book.save(job(version=2))
    assert caught.value.code is FailureCode.DISK_FULL
    assert list(book.load()) == [job()]
    book.save(job(version=2))
    assert list(book.load()) == [job(version=2)]
