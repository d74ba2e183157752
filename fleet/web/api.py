"""The application: all routes, and what stands around them."""

from importlib.metadata import version
from typing import Any

from fastapi import FastAPI
from starlette.routing import Mount
from starlette.types import ASGIApp

from fleet.web import openapi
from fleet.web.edge import Edge
from fleet.web.parts import ApiParts, ApiSettings, ModelEntry
from fleet.web.problem import add_handlers
from fleet.web.routes import (
    audit,
    commands,
    events,
    health,
    jobs,
    live,
    login,
    models,
    nodes,
    results,
    rollouts,
    users,
)
from fleet.web.service import Service

__all__ = ["ApiParts", "ApiSettings", "ModelEntry", "make_app"]
FILES = "/registry"
_SUBJECTS = (
    login, users, nodes, commands, jobs, models, rollouts, results, events, audit, live, health, openapi,
)  # fmt: skip


class _Api(FastAPI):
    """With our outermost layer around everything, answers to unforeseen errors too."""

    def __init__(self, parts: ApiParts) -> None:
        super().__init__(
            title=openapi.TITLE, version=version("rkfleet"), openapi_url=None, docs_url=None, redoc_url=None
        )
        self._parts = parts
        self._document: dict[str, Any] | None = None

    def build_middleware_stack(self) -> ASGIApp:
        return Edge(super().build_middleware_stack(), self._parts)

    def openapi(self) -> dict[str, Any]:
        if self._document is None:
            self._document = openapi.describe(self)
        return self._document


def make_app(parts: ApiParts) -> FastAPI:
    """Needs no lifespan: what runs beside the requests, runs while somebody listens."""
    app = _Api(parts)
    app.state.service = Service(parts)
    add_handlers(app)
    for subject in _SUBJECTS:
        app.router.routes.extend(subject.router.routes)
    app.router.routes.append(Mount(FILES, routes=list(parts.routes)))
    return app
