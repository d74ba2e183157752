"""Jobs and commands."""

from typing import Annotated, Any, Self

from pydantic import Field

from fleet.ports import StoredJob
from schemas.base import Strict, UtcTime, Wire
from schemas.command import CommandName
from schemas.job import JobExecution, JobType

MOST_FIELDS = 32
Fields = Annotated[dict[str, Any], Field(max_length=MOST_FIELDS)]


class NodeCommand(Strict):
    """`fields` are those of the command, without its id."""

    name: CommandName
    fields: Fields = Field(default_factory=dict)
    timeout_s: float = Field(default=10.0, gt=0, le=30, allow_inf_nan=False)


class FleetCommand(NodeCommand):
    """To every board that the filter names."""

    filter: str


class NewJob(Strict):
    """`deadline`: a day from now, where none is given."""

    filter: str
    type: JobType
    document: Fields = Field(default_factory=dict)
    deadline: UtcTime | None = None


class ExecutionView(Wire):
    """`execution` is null for a board that has not said anything yet."""

    node: str
    execution: JobExecution | None


class JobView(Wire):
    """`counts` are boards by status, those that have said nothing under `UNKNOWN`."""

    id: str
    type: JobType
    document: dict[str, Any]
    deadline: UtcTime | None
    is_canceled: bool
    created_at: UtcTime
    created_by: str
    counts: dict[str, int]
    executions: list[ExecutionView]

    @classmethod
    def of(cls, job: StoredJob) -> Self:
        request = job.request
        counts: dict[str, int] = {}
        for execution in job.executions.values():
            status = "UNKNOWN" if execution is None else execution.status.value
            counts[status] = counts.get(status, 0) + 1
        return cls.model_construct(
            id=request.job_id,
            type=request.type,
            document=request.document,
            deadline=request.deadline,
            is_canceled=request.cancel,
            created_at=job.created_at,
            created_by=job.created_by,
            counts=counts,
            executions=[
                ExecutionView.model_construct(node=str(node), execution=execution)
                for node, execution in sorted(job.executions.items())
            ],
        )


class JobList(Wire):
    """Newest first."""

    jobs: list[JobView]
