"""`job/{jobId}/request` and `job/{jobId}/status`: one-shot work, with the states and words of AWS IoT Jobs."""

from enum import StrEnum
from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_validator

from schemas.base import Id, Strict, UtcTime, Wire
from schemas.command import Failure
from schemas.manifest import Ratio
from schemas.status import ModelInfo


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
    """`job/{jobId}/request`. The same id again gets the same status again, whatever else the request says; with
    `cancel` it ends the job. After `deadline` the job is TIMED_OUT: give one to a request that is retained.
    """

    schema_id: Literal["rkfleet.job.request/1"] = Field(default="rkfleet.job.request/1", alias="schema")
    job_id: Id
    type: JobType
    deadline: UtcTime | None = None
    cancel: bool = False
    document: dict[str, Any] = Field(default_factory=dict)
    """What the type needs: see InspectDocument, CollectDocument and so on."""


class JobExecution(Wire):
    """`job/{jobId}/status`, retained for 7 days. `versionNumber` grows with each change."""

    schema_id: Literal["rkfleet.job.status/1"] = Field(default="rkfleet.job.status/1", alias="schema")
    job_id: Id
    status: JobStatus
    status_details: dict[str, Any] = Field(default_factory=dict)
    failure: Failure | None = None
    queued_at: UtcTime
    started_at: UtcTime | None = None
    last_updated_at: UtcTime
    version_number: int = Field(ge=1)


# Documents are strict: a job that is understood by half is better refused than done by half.


class InspectDocument(Strict):
    """One picture of `camera`, taken after the request, inspected and published as a result with these ids."""

    camera: Id
    part_id: Id | None = None
    product_id: Id | None = None
    lot_id: Id | None = None
    work_order_id: Id | None = None
    recipe: Id | None = None
    """In place of the camera's own."""


PutUrl = Annotated[str, Field(max_length=2000, pattern=r"^https?://[!-~]+$")]


class CollectDocument(Strict):
    """Raw pictures for training: until `count` are there or `seconds` are over, whichever comes first.

    `uncertain`: only those whose result is NOT_DECIDABLE or has a defect with a score within `band`, ends included.
    Without `upload` they stay on the board; with it each file is sent by HTTP PUT to `{upload}/{file}` and then
    removed.
    """

    cameras: list[Id] = Field(min_length=1, max_length=64)
    count: int = Field(default=100, ge=1, le=100_000)
    seconds: float = Field(default=600.0, gt=0, le=86_400, allow_inf_nan=False)
    which: Literal["all", "uncertain"] = "all"
    band: tuple[Ratio, Ratio] = (0.4, 0.7)
    upload: PutUrl | None = None

    @model_validator(mode="after")
    def _is_in_order(self) -> Self:
        if not self.band[0] <= self.band[1]:
            raise ValueError("band is (low, high)")
        return self


class BenchmarkDocument(Strict):
    """How quick the current model is on this board."""

    seconds: float = Field(default=10.0, ge=1, le=300, allow_inf_nan=False)


class LogsDocument(Strict):
    """The last `lines` of the agent's log from `level` on, as far as 16 KB hold them."""

    lines: int = Field(default=200, ge=1, le=10_000)
    level: Literal["DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL"] = "INFO"


class RestartDocument(Strict):
    """Nothing: the agent ends and is started again; the job has SUCCEEDED when the new process runs."""


Document = InspectDocument | CollectDocument | BenchmarkDocument | LogsDocument | RestartDocument

DOCUMENTS: dict[JobType, type[Document]] = {
    JobType.INSPECT: InspectDocument,
    JobType.COLLECT: CollectDocument,
    JobType.BENCHMARK: BenchmarkDocument,
    JobType.LOGS: LogsDocument,
    JobType.RESTART: RestartDocument,
}


EvaluationName = Annotated[str, Field(pattern="^(UNDEFINED|OK|NOT_OK|NOT_DECIDABLE)$")]


class InspectOutput(Wire):
    """`statusDetails` of an `inspect`: which result answers it, and what it came to. UNDEFINED: nothing was judged."""

    result_id: Id
    camera: Id
    evaluation: EvaluationName
    defect_count: int = Field(ge=0)


class CollectOutput(Wire):
    """`statusDetails` of a `collect`. `dropped` were wanted and came faster than they could be written."""

    stage: Literal["collecting", "uploading", "done"]
    collected: int = Field(ge=0)
    dropped: int = Field(ge=0)
    collected_bytes: int = Field(ge=0)
    uploaded: int | None = Field(default=None, ge=0)
    """Pictures whose files have all arrived; None where none were to be sent."""


class Percentiles(Wire):
    """In ms."""

    p50: float
    p95: float
    max: float


class BenchmarkOutput(Wire):
    """`statusDetails` of a `benchmark`: the current model, loaded once more beside the one that inspects. `callMs` is
    as the agent waits for it, `inferenceMs` as the runtime measures it.
    """

    model: ModelInfo
    lane: Id
    calls: int = Field(ge=1)
    load_ms: float
    rate_hz: float
    call_ms: Percentiles
    inference_ms: Percentiles


class LogsOutput(Wire):
    """`statusDetails` of `logs`, oldest first. `isPartial`: older lines were left out to keep the message small."""

    lines: list[str]
    is_partial: bool


class RestartOutput(Wire):
    """`statusDetails` of a `restart`: the boot that it led to."""

    boot_id: Id


class CollectedDefect(Wire):
    class_name: Id
    score: float


class CollectedPicture(Wire):
    """The JSON file beside a collected PNG: what the model of the day made of it."""

    schema_id: Literal["rkfleet.collected/1"] = Field(default="rkfleet.collected/1", alias="schema")
    job_id: Id
    result_id: Id
    image_id: Id
    camera: Id
    capture_time: UtcTime
    is_simulated: bool
    evaluation: EvaluationName
    defects: list[CollectedDefect]
    model: ModelInfo
