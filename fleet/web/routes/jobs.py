"""Work that boards do once, and report on."""

import secrets
from collections.abc import Sequence
from datetime import timedelta
from typing import Annotated

from fastapi import Query
from pydantic import Field
from starlette.concurrency import run_in_threadpool

from fleet.core.access import Principal, Right
from fleet.core.roster import NodeId
from fleet.errors import Conflict, Retryable
from fleet.ports import StoredJob
from fleet.web.guard import needs, routes_of
from fleet.web.problem import invalid
from fleet.web.routes.asked import Key, selected
from fleet.web.routes.asked import Query as Strictly
from fleet.web.routes.boards import check_document, each
from fleet.web.service import Api, Service, Who
from fleet.web.views.jobs import JobList, JobView, NewJob
from schemas.job import JobRequest, JobStatus

MOST_BOARDS = 10_000
_MOST_AHEAD = timedelta(days=30)
_DEADLINE = timedelta(days=1)
_GOING_ON = frozenset({None, JobStatus.QUEUED, JobStatus.IN_PROGRESS})
router = routes_of("jobs")


class JobsQuery(Strictly):
    limit: Annotated[int, Field(ge=1, le=1000)] = 100


@router.get("/jobs", **needs(Right.READ))
def list_jobs(asked: Annotated[JobsQuery, Query()], api: Api) -> JobList:
    """The newest first."""
    return JobList.model_construct(jobs=[JobView.of(job) for job in api.parts.jobs.jobs(asked.limit)])


@router.get("/jobs/{job_id}", **needs(Right.READ, 404))
def show_job(job_id: Key, api: Api) -> JobView:
    """With what each board says of it."""
    return JobView.of(api.parts.jobs.job(job_id))


@router.post("/jobs", status_code=201, **needs(Right.JOB, 409, body=True))
async def create_job(asked: NewJob, api: Api, who: Who) -> JobView:
    """For all boards that the filter names now. 503 where the broker is away: the job is there, see its `ask`."""
    check_document(asked.type, asked.document)
    now = api.now()
    deadline = asked.deadline or now + _DEADLINE
    if not now < deadline <= now + _MOST_AHEAD:
        raise invalid(f"deadline: within the next {_MOST_AHEAD.days} days")
    nodes = [node.id for node in await run_in_threadpool(selected, api, asked.filter, MOST_BOARDS)]
    job_id = f"{asked.type.value}-{secrets.token_hex(6)}"
    request = JobRequest(job_id=job_id, type=asked.type, deadline=deadline, document=asked.document)
    await run_in_threadpool(_add, api, who, request, nodes)
    return await _told(api, request, nodes)


@router.post("/jobs/{job_id}/ask", **needs(Right.JOB, 404, 409))
async def ask_again(job_id: Key, api: Api, who: Who) -> JobView:
    """Boards that have said nothing: the broker may have been away. The same job twice is the same job."""
    job = await run_in_threadpool(_going_on, api, job_id)
    await run_in_threadpool(api.audit, who.user, "job.ask", job_id, {})
    return await _told(api, job.request, [node for node, execution in job.executions.items() if execution is None])


@router.post("/jobs/{job_id}/cancel", **needs(Right.JOB, 404, 409))
async def cancel_job(job_id: Key, api: Api, who: Who) -> JobView:
    """On all boards that are not at an end."""
    job = await run_in_threadpool(_going_on, api, job_id)
    await run_in_threadpool(api.audit, who.user, "job.cancel", job_id, {})
    left = [node for node, done in job.executions.items() if (done.status if done else None) in _GOING_ON]
    return await _told(api, job.request.model_copy(update={"cancel": True}), left)


def _add(api: Service, who: Principal, request: JobRequest, nodes: Sequence[NodeId]) -> None:
    detail = {"type": request.type.value, "document": request.document, "boards": len(nodes)}
    with api.audited(who.user, "job.create", request.job_id, detail):
        api.parts.jobs.add(request, nodes, api.now(), who.user)


def _going_on(api: Service, job_id: str) -> StoredJob:
    """Raises Conflict where its time is over: boards take no request after its deadline."""
    job = api.parts.jobs.job(job_id)
    if job.request.deadline is not None and job.request.deadline <= api.now():
        raise Conflict(f"the deadline of {job_id} is over")
    return job


async def _told(api: Service, request: JobRequest, nodes: Sequence[NodeId]) -> JobView:
    asked, away = await each(api, nodes, lambda node: api.parts.boards.ask(node, request))
    if away is not None:
        what = "cancel it" if request.cancel else "ask"
        text = f"{away.text}: {len(asked)} of {len(nodes)} boards were told of job {request.job_id}; {what} again"
        raise Retryable(away.code, text, delay_s=away.delay_s)
    return JobView.of(await run_in_threadpool(api.parts.jobs.job, request.job_id))
