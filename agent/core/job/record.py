"""What is remembered of a job, and its form on disk and on the wire."""

from dataclasses import dataclass, field
from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Field, TypeAdapter, ValidationError

from agent.core.job.request import document_of
from schemas.base import Id, UtcTime
from schemas.command import Failure
from schemas.job import JobExecution, JobRequest, JobStatus

MAX_JOB_BYTES = 262_144


class BadJob(ValueError):
    """The content is not a job that this version has written; the text says why."""


@dataclass(frozen=True, slots=True)
class Job:
    """`version` grows with each change. `attempts` counts how often it was begun; `boot_id` is of the last time."""

    __pydantic_config__ = ConfigDict(extra="forbid")

    request: JobRequest
    status: JobStatus
    queued_at: UtcTime
    last_updated_at: UtcTime
    started_at: UtcTime | None = None
    version: Annotated[int, Field(ge=1)] = 1
    attempts: Annotated[int, Field(ge=0)] = 0
    boot_id: Id | None = None
    details: dict[str, Any] = field(default_factory=dict)
    failure: Failure | None = None
    format: Literal["rkfleet.job/1"] = "rkfleet.job/1"

    @property
    def job_id(self) -> str:
        return self.request.job_id


@dataclass(frozen=True, slots=True)
class Held:
    """What there is on the board of a job's pictures."""

    pictures: int
    size_bytes: int


_JOB = TypeAdapter(Job)


def dump(job: Job) -> bytes:
    return _JOB.dump_json(job, by_alias=True)


def load(content: bytes) -> Job:
    """Raises BadJob for everything that `dump` of this format does not write."""
    if len(content) > MAX_JOB_BYTES:
        raise BadJob(f"{len(content)} bytes; a job has at most {MAX_JOB_BYTES}")
    try:
        job = _JOB.validate_json(content)
        if not job.request.cancel:
            document_of(job.request)
    except ValidationError as error:
        problem = error.errors(include_url=False, include_input=False, include_context=False)[0]
        place = ".".join(str(part) for part in problem["loc"]) or "job"
        raise BadJob(f"{place}: {problem['msg']}"[:500]) from None
    if (job.status is JobStatus.IN_PROGRESS) and (job.boot_id is None or job.started_at is None):
        raise BadJob("in progress, and never begun")
    return job


def execution(job: Job) -> JobExecution:
    return JobExecution(
        job_id=job.job_id,
        status=job.status,
        status_details=job.details,
        failure=job.failure,
        queued_at=job.queued_at,
        started_at=job.started_at,
        last_updated_at=job.last_updated_at,
        version_number=job.version,
    )
