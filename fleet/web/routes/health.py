"""Whether the server lives, whether it can work, and its figures."""

from fastapi.responses import Response
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from pydantic import Field
from starlette.requests import Request

from fleet.core.access import Right
from fleet.errors import FleetError
from fleet.web.body import JSON
from fleet.web.guard import authenticate, authorize, needs, routes_of
from fleet.web.service import Api, Service
from schemas.base import Wire

router = routes_of("health", prefix="")


class Alive(Wire):
    status: str = "alive"


class Ready(Wire):
    """Parts that do not work, with the reason: for those who may read, as it may name machines."""

    ready: bool
    problems: dict[str, str] = Field(default_factory=dict)


_READY = needs(None)
_READY["responses"][503] = {"model": Ready, "description": "Some part does not work"}
_METRICS = needs(None, 401, 403)
_METRICS["responses"][200] = {
    "description": "In the text format of Prometheus",
    "content": {"text/plain": {"schema": {"type": "string"}}},
}
_METRICS["openapi_extra"]["security"] = [{"token": []}, {}]


@router.get("/healthz", **needs(None))
async def is_alive() -> Alive:
    """The process answers."""
    return Alive()


@router.get("/readyz", response_model=Ready, **_READY)
def is_ready(request: Request, api: Api) -> Response:
    """Database and broker are there."""
    problems = api.parts.problems()
    may_see = bool(problems) and _may_read(api, request)
    told = Ready(ready=not problems, problems={part: text if may_see else "" for part, text in problems.items()})
    return Response(told.model_dump_json(by_alias=True), 503 if problems else 200, media_type=JSON)


def _may_read(api: Service, request: Request) -> bool:
    """Not where the database is what does not work."""
    try:
        who = authenticate(api.parts, request.headers.get("authorization", ""))
    except FleetError:
        return False
    return who is not None and who.may(Right.READ)


@router.get("/metrics", response_class=Response, **_METRICS)
def metrics(request: Request, api: Api) -> Response:
    """With the right `read`, unless the server was told to show them to anybody."""
    if api.parts.settings.metrics_need_token:
        authorize(api.parts, request, Right.READ)
    return Response(generate_latest(api.parts.metrics), media_type=CONTENT_TYPE_LATEST)
