"""A job's machine: a table of moves, and one step of it. No clock, no IO."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from enum import StrEnum
from typing import Any

from agent.core.job.record import Job
from schemas.codes import FailureCode
from schemas.command import Failure
from schemas.job import JobRequest, JobStatus, JobType, RestartOutput

ENDS = frozenset({JobStatus.SUCCEEDED, JobStatus.FAILED, JobStatus.TIMED_OUT, JobStatus.REJECTED, JobStatus.CANCELED})
"""Nothing changes them any more."""
MOST_ATTEMPTS = 3
"""A job whose attempts all ended with the agent is what ends it, or will not be done in time."""


class IllegalMove(ValueError):
    """The caller's bug: an event that cannot happen to a job in this state."""


@dataclass(frozen=True, slots=True)
class Began:
    """The work is about to begin, in this boot."""

    boot_id: str


@dataclass(frozen=True, slots=True)
class Resumed:
    """An agent has started and found the job unfinished."""

    boot_id: str


@dataclass(frozen=True, slots=True)
class Progressed:
    details: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Succeeded:
    details: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Failed:
    """`details` None: those of the last progress stay."""

    failure: Failure
    details: Mapping[str, Any] | None = None


@dataclass(frozen=True, slots=True)
class Refused:
    """It asks for what this board does not have."""

    failure: Failure


@dataclass(frozen=True, slots=True)
class Expired:
    """Its deadline, or the time that it may take, is over."""

    text: str


@dataclass(frozen=True, slots=True)
class Canceled:
    """Whoever asked for it has taken it back."""


Event = Began | Resumed | Progressed | Succeeded | Failed | Refused | Expired | Canceled


class Turn(StrEnum):
    """What an event amounts to, once the job's data are looked at."""

    BEGAN = "begun"
    WAITS = "waits over a restart"
    AGAIN = "begun again after a restart"
    EXHAUSTED = "restarted, attempts used up"
    RESTARTED = "the restart has come about"
    PROGRESSED = "progressed"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    REFUSED = "refused"
    EXPIRED = "time is over"
    CANCELED = "canceled"


MOVES: dict[tuple[JobStatus, Turn], JobStatus] = {
    (JobStatus.QUEUED, Turn.BEGAN): JobStatus.IN_PROGRESS,
    (JobStatus.QUEUED, Turn.WAITS): JobStatus.QUEUED,
    (JobStatus.QUEUED, Turn.FAILED): JobStatus.FAILED,
    (JobStatus.QUEUED, Turn.REFUSED): JobStatus.REJECTED,
    (JobStatus.QUEUED, Turn.EXPIRED): JobStatus.TIMED_OUT,
    (JobStatus.QUEUED, Turn.CANCELED): JobStatus.CANCELED,
    (JobStatus.IN_PROGRESS, Turn.AGAIN): JobStatus.IN_PROGRESS,
    (JobStatus.IN_PROGRESS, Turn.EXHAUSTED): JobStatus.FAILED,
    (JobStatus.IN_PROGRESS, Turn.RESTARTED): JobStatus.SUCCEEDED,
    (JobStatus.IN_PROGRESS, Turn.PROGRESSED): JobStatus.IN_PROGRESS,
    (JobStatus.IN_PROGRESS, Turn.SUCCEEDED): JobStatus.SUCCEEDED,
    (JobStatus.IN_PROGRESS, Turn.FAILED): JobStatus.FAILED,
    (JobStatus.IN_PROGRESS, Turn.EXPIRED): JobStatus.TIMED_OUT,
    (JobStatus.IN_PROGRESS, Turn.CANCELED): JobStatus.CANCELED,
}

_PLAIN: dict[type[Event], Turn] = {
    Began: Turn.BEGAN,
    Progressed: Turn.PROGRESSED,
    Succeeded: Turn.SUCCEEDED,
    Failed: Turn.FAILED,
    Refused: Turn.REFUSED,
    Expired: Turn.EXPIRED,
    Canceled: Turn.CANCELED,
}


def offered(known: Job | None, request: JobRequest, now: datetime) -> Job:
    """What a request makes of the job that is known under its id, or a new job.

    A request under a known id changes nothing, also where its document is another; with `cancel` it ends the job.
    """
    if known is not None:
        return step(known, Canceled(), now) if request.cancel else known
    job = Job(request, JobStatus.QUEUED, queued_at=now, last_updated_at=now)
    if request.cancel:
        text = f"there is no job {request.job_id} to cancel"
        failure = Failure(code=FailureCode.COMMAND_INVALID, text=text)
        return replace(job, status=JobStatus.REJECTED, failure=failure)
    if is_late(job, now):
        return replace(job, status=JobStatus.TIMED_OUT, failure=_expired(_deadline(request)))
    return job


def step(job: Job, event: Event, now: datetime) -> Job:
    """The job after the event; the same job where nothing changes, as with all that comes after its end.

    Raises IllegalMove, for example for Succeeded in QUEUED.
    """
    turn = _turn(job, event)
    if job.status in ENDS or turn is None:
        return job
    status = MOVES.get((job.status, turn))
    if status is None:
        raise IllegalMove(f"{type(event).__name__} in {job.status}")
    changes = _changes(job, event, turn, now)
    if status is job.status and not changes:
        return job
    return replace(job, status=status, version=job.version + 1, last_updated_at=now, **changes)


def is_late(job: Job, now: datetime) -> bool:
    """Its deadline has come and it has not ended. The step to take is `Expired`."""
    deadline = job.request.deadline
    return job.status not in ENDS and deadline is not None and deadline <= now


def _turn(job: Job, event: Event) -> Turn | None:
    if not isinstance(event, Resumed):
        return _PLAIN[type(event)]
    if job.status is JobStatus.QUEUED:
        return Turn.WAITS
    if job.boot_id == event.boot_id:
        return None
    if job.request.type is JobType.RESTART:
        return Turn.RESTARTED
    return Turn.AGAIN if job.attempts < MOST_ATTEMPTS else Turn.EXHAUSTED


def _changes(job: Job, event: Event, turn: Turn, now: datetime) -> dict[str, Any]:
    match event:
        case Began():
            return {"attempts": 1, "boot_id": event.boot_id, "started_at": now}
        case Progressed() | Succeeded():
            return {"details": dict(event.details)}
        case Failed():
            details = job.details if event.details is None else dict(event.details)
            return {"failure": event.failure, "details": details}
        case Resumed():
            return _resumed(job, event, turn)
    return {"failure": _failure(event)}


def _resumed(job: Job, event: Resumed, turn: Turn) -> dict[str, Any]:
    if turn is Turn.AGAIN:
        return {"attempts": job.attempts + 1, "boot_id": event.boot_id}
    if turn is Turn.RESTARTED:
        return {"details": RestartOutput(boot_id=event.boot_id).model_dump(mode="json", by_alias=True)}
    if turn is Turn.EXHAUSTED:
        text = f"the agent was restarted during each of {job.attempts} attempts: ask again, under a new id"
        return {"failure": Failure(code=FailureCode.CRASH_LOOP, text=text)}
    return {}


def _failure(event: Refused | Expired | Canceled) -> Failure:
    if isinstance(event, Refused):
        return event.failure
    if isinstance(event, Expired):
        return _expired(event.text)
    return Failure(code=FailureCode.CANCELED, text="canceled by a request")


def _deadline(request: JobRequest) -> str:
    return f"the deadline of {request.deadline:%Y-%m-%dT%H:%M:%SZ} had passed when the request came"


def _expired(text: str) -> Failure:
    return Failure(code=FailureCode.JOB_TIMED_OUT, text=text[:2000])
