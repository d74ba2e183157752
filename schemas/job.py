"""`job/{jobId}/request` and `job/{jobId}/status`: one-shot work, with the states and words of AWS IoT Jobs."""

from enum import StrEnum
from typing import Any, Literal

from pydantic import Field

from schemas.base import Id, UtcTime, Wire
from schemas.command import Failure


class JobStatus(StrEnum):
    QUEUED = "QUEUED"
    IN_PROGRESS = "IN_PROGRESS"
    SUCCEEDED = "SUCCEEDED"
    FAILED = "FAILED"
    TIMED_OUT = "TIMED_OUT"
    REJECTED = "REJECTED"
    CANCELED = "CANCELED"


class JobType(StrEnum):
    INSPECT = "inspect"
    COLLECT = "collect"
    BENCHMARK = "benchmark"
    LOGS = "logs"
    RESTART = "restart"


class JobRequest(Wire):
    """`job/{jobId}/request`. The same id again gets the same status again."""

    schema_id: Literal["rkfleet.job.request/1"] = Field(default="rkfleet.job.request/1", alias="schema")
    job_id: Id
    type: JobType
    deadline: UtcTime | None = None
    cancel: bool = False
    document: dict[str, Any] = Field(default_factory=dict)
    """What the type needs; for `inspect`: camera, partId, productId, lotId, workOrderId, recipe."""


class JobExecution(Wire):
    """`job/{jobId}/status`, retained for 7 days."""

    schema_id: Literal["rkfleet.job.status/1"] = Field(default="rkfleet.job.status/1", alias="schema")
    job_id: Id
    status: JobStatus
    status_details: dict[str, Any] = Field(default_factory=dict)
    failure: Failure | None = None
    queued_at: UtcTime
    started_at: UtcTime | None = None
    last_updated_at: UtcTime
    version_number: int = Field(ge=1)
