"""Jobs in the database, the same suite on SQLite and on PostgreSQL."""

import threading
from datetime import timedelta
from typing import Any

import pytest

from fleet.adapters.db import Database, DbJobs
from fleet.core.roster import NodeId
from fleet.errors import Conflict, NotFound
from fleet.ports import Jobs
from schemas.job import JobExecution, JobRequest, JobStatus, JobType
from tests.contract.test_fleet_database import cluster, database, template, url
from tests.unit.fleet_board import T0, at, node_id

__all__ = ["cluster", "database", "template", "url"]
A, B, STRANGER = node_id(1), node_id(2), node_id(9)


@pytest.fixture
def jobs(database: Database) -> Jobs:
    return DbJobs(database)


def request(job_id: str = "job-1", **more: Any) -> JobRequest:
    fields = {"type": JobType.LOGS, "deadline": T0 + timedelta(hours=1), "document": {"lines": 5, "odd": "\0é"}}
    return JobRequest(job_id=job_id, **{**fields, **more})


def said(version: int, status: JobStatus = JobStatus.IN_PROGRESS, job_id: str = "job-1", **more: Any) -> JobExecution:
    return JobExecution(
        job_id=job_id, status=status, queued_at=T0, last_updated_at=at(min(version, 99)), version_number=version, **more
    )


def executions(jobs: Jobs, job_id: str = "job-1") -> dict[NodeId, int | None]:
    return {node: each.version_number if each else None for node, each in jobs.job(job_id).executions.items()}


def test_a_job_has_every_board_that_was_asked_from_the_beginning(jobs: Jobs) -> None:
    jobs.add(request(), [B, A, A], T0, "olga")
    kept = jobs.job("job-1")
    assert (kept.request, kept.created_at, kept.created_by) == (request(), T0, "olga")
    assert kept.executions == {A: None, B: None}


def test_an_id_is_given_once(jobs: Jobs) -> None:
    jobs.add(request(), [A], T0, "olga")
    with pytest.raises(Conflict):
        jobs.add(request(document={}), [B], T0, "otto")
    assert executions(jobs) == {A: None}


@pytest.mark.parametrize(
    ("versions", "kept"),
    [
        pytest.param([1, 2, 3], 3, id="in order"),
        pytest.param([3, 1, 2], 3, id="late ones change nothing"),
        pytest.param([2, 2], 2, id="repeated"),
        pytest.param([2**63], 2**63, id="a board that counts without measure"),
    ],
)
def test_the_highest_version_counts(jobs: Jobs, versions: list[int], kept: int) -> None:
    jobs.add(request(), [A, B], T0, "olga")
    for version in versions:
        jobs.heard([(A, said(version))])
    jobs.heard([(B, said(version)) for version in versions])
    assert executions(jobs) == {A: kept, B: kept}, "one by one, and in one batch"


def test_what_was_never_asked_is_ignored(jobs: Jobs) -> None:
    jobs.add(request(), [A], T0, "olga")
    jobs.heard([(STRANGER, said(1)), (A, said(1, job_id="job-2")), (A, said(1))])
    assert executions(jobs) == {A: 1}
    with pytest.raises(NotFound, match="job-2"):
        jobs.job("job-2")


def test_details_come_back_as_they_were(jobs: Jobs) -> None:
    jobs.add(request(), [A], T0, "olga")
    told = said(2, JobStatus.SUCCEEDED, status_details={"lines": ["\0", "é", '"']})
    jobs.heard([(A, told)])
    assert jobs.job("job-1").executions == {A: told}


def test_the_newest_jobs_come_first(jobs: Jobs) -> None:
    for number in range(4):
        jobs.add(request(f"job-{number}"), [A], at(number), "olga")
    assert [each.request.job_id for each in jobs.jobs(limit=3)] == ["job-3", "job-2", "job-1"]
    assert jobs.jobs(limit=1)[0].executions == {A: None}


def test_a_job_for_nobody_is_kept(jobs: Jobs) -> None:
    jobs.add(request(), [], T0, "olga")
    assert jobs.job("job-1").executions == {}


def test_many_processes_may_hear_of_one_job(jobs: Jobs) -> None:
    jobs.add(request(), [A, B], T0, "olga")
    threads = [
        threading.Thread(target=jobs.heard, args=([(node, said(version)) for node in (A, B)],))
        for version in range(1, 9)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert executions(jobs) == {A: 8, B: 8}
