"""The OpenAPI 3.1 document, guarded like all else."""

import json
from collections.abc import Mapping
from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from fastapi.responses import Response
from pydantic import BaseModel
from pydantic_core import to_json
from starlette.requests import Request

from fleet.core.access import Right
from fleet.core.rollout import RolloutSpec
from fleet.web.body import JSON
from fleet.web.guard import needs, routes_of
from fleet.web.problem import Problem
from fleet.web.routes.results import SENT
from fleet.web.routes.rollouts import INPUT
from fleet.web.views.results import ResultPage

TITLE = "rkfleet"
DESCRIPTION = """
The fleet of boards over HTTP. Every route but `login`, `healthz` and `readyz` needs a token with the right that
`x-rkfleet-right` names: `Authorization: Bearer rkf_...`. Errors are `application/problem+json` (RFC 9457). Times are in
UTC. A parameter or field that is not known is an error.
""".strip()
router = routes_of("health")
_DOCUMENT = needs(Right.READ)
_DOCUMENT["responses"][200] = {"description": "This document", "content": {JSON: {"schema": {"type": "object"}}}}


@router.get("/openapi.json", response_class=Response, **_DOCUMENT)
def show_document(request: Request) -> Response:
    """OpenAPI 3.1."""
    return Response(to_json(request.app.openapi()), media_type=JSON)


def describe(app: FastAPI) -> dict[str, Any]:
    """Made once, of all routes."""
    made = get_openapi(
        title=TITLE, version=app.version, openapi_version="3.1.0", description=DESCRIPTION, routes=app.routes
    )
    components = made.setdefault("components", {})
    components["securitySchemes"] = {"token": {"type": "http", "scheme": "bearer", "bearerFormat": "rkf_..."}}
    for model, suffix in ((Problem, ""), (RolloutSpec, INPUT), (ResultPage, SENT)):
        components["schemas"] |= _schemas(model, suffix, components["schemas"])
    return made


def _schemas(model: type[BaseModel], suffix: str, known: Mapping[str, Any]) -> dict[str, Any]:
    """As it is read: what has a default may be left out. Names end in `suffix`, but of what is `known` as the same."""
    made = model.model_json_schema(ref_template=f"#/components/schemas/{{model}}{suffix}")
    parts = {**made.pop("$defs", {}), model.__name__: made}
    same = [name for name, schema in parts.items() if known.get(name) == schema]
    text = json.dumps({f"{name}{suffix}": schema for name, schema in parts.items() if name not in same})
    for name in same:
        text = text.replace(f'"#/components/schemas/{name}{suffix}"', f'"#/components/schemas/{name}"')
    read: dict[str, Any] = json.loads(text)
    return read
