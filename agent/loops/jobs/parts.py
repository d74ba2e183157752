"""What jobs work with, and what their threads tell control."""

import threading
from collections.abc import Callable, Mapping, Sequence
from collections.abc import Collection as Names
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from agent.core.frame import Order
from agent.core.outgoing import Outgoing
from agent.loops.jobs.ports import Collection, JobBook, Uploader
from schemas.codes import FailureCode
from schemas.command import Failure
from schemas.topics import Topics


@dataclass(frozen=True, slots=True)
class JobSaw:
    """The picture of an `inspect` has its result; `fault` where nothing was judged."""

    job_id: str
    details: Mapping[str, Any]
    fault: Failure | None = None


@dataclass(frozen=True, slots=True)
class JobProgress:
    """`stored` is set when the job's record has it."""

    job_id: str
    details: Mapping[str, Any]
    stored: threading.Event


@dataclass(frozen=True, slots=True)
class JobDone:
    """A worker has ended, and did not fail where `failure` is None. Of one that `was_stopped` the rest says nothing."""

    job_id: str
    was_stopped: bool
    details: Mapping[str, Any]
    failure: Failure | None = None


JobItem = JobSaw | JobProgress | JobDone


@dataclass(frozen=True, slots=True)
class JobParts:
    """`trigger(camera, order)` asks for one picture, False where the camera takes no order now; `withdraw(camera,
    job_id)` says that nobody waits for it any more. `cameras` and `recipes` are those of the settings.
    `benchmark(stop, seconds)` measures the current model on the worker's thread and returns what goes into
    `statusDetails`; it raises AgentError and returns soon after `stop` is set. `log_lines(count, level)` gives the
    newest lines, oldest first. `restart` ends the agent in order. `publish` hands one message over, if connected.
    `put` posts an item to control's queue, from any thread.
    """

    book: JobBook
    collection: Collection
    uploader: Uploader
    topics: Topics
    boot_id: str
    trigger: Callable[[str, Order], bool]
    withdraw: Callable[[str, str], None]
    cameras: Callable[[], Names[str]]
    recipes: Callable[[], Names[str]]
    benchmark: Callable[[threading.Event, float], Mapping[str, Any]]
    log_lines: Callable[[int, str], Sequence[str]]
    restart: Callable[[], None]
    publish: Callable[[Outgoing], None]
    happened: Callable[[FailureCode, str, str], None]
    put: Callable[[JobItem], None]
    now: Callable[[], datetime]
    monotonic: Callable[[], float]
