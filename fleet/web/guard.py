"""Who asks, and whether they may: looked at before the body is read. A route without a right does not exist."""

from collections.abc import Callable, Coroutine
from datetime import timedelta
from typing import Any

from fastapi import APIRouter
from fastapi.routing import APIRoute
from pydantic.alias_generators import to_camel
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response

from fleet.core.access import Principal, Right, principal, token_digest
from fleet.errors import NotFound, Retryable
from fleet.web.body import JSON, Read, media_type, parse_json, read
from fleet.web.parts import ApiParts
from fleet.web.problem import ApiError, ProblemCode, documented
from fleet.web.service import Service

BASE = "/api/v1"
_MARK = "x-rkfleet-right"
PUBLIC = "none"
_USED_EVERY = timedelta(minutes=1)
_WITH_BODY = frozenset({"POST", "PUT", "PATCH"})


def needs(right: Right | None, *statuses: int, body: bool = False) -> dict[str, Any]:
    """Arguments of a route. `right` None: anybody, without a token. `statuses` are failures of its own; `body`: it
    reads one.
    """
    common = {400, 414, 422, 503, *statuses}
    common |= {401, 403} if right is not None else set()
    common |= {408, 413, 415} if body else set()
    return {
        "openapi_extra": {
            _MARK: PUBLIC if right is None else right.value,
            "security": [] if right is None else [{"token": []}],
        },
        "responses": documented(*sorted(common)),
    }


class GuardedRoute(APIRoute):
    """Raises TypeError for a route that was made without `needs`."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        handle = super().get_route_handler()
        mark = (self.openapi_extra or {}).get(_MARK)
        if mark is None:
            raise TypeError(f"{self.path}: say who may do it")
        right = None if mark == PUBLIC else Right(mark)

        async def guarded(request: Request) -> Response:
            service: Service = request.app.state.service
            if right is not None:
                request.state.principal = await run_in_threadpool(authorize, service.parts, request, right)
            if any("\0" in text for pair in request.query_params.multi_items() for text in pair):
                raise ApiError(400, ProblemCode.MALFORMED, "a parameter holds NUL")
            return await handle(await self._read(request, service.parts))

        return guarded

    async def _read(self, request: Request, parts: ApiParts) -> Request:
        if request.method not in _WITH_BODY:
            return request
        content = await read(request, parts.settings.most_body_bytes, parts.settings.body_timeout_s)
        document = None
        if content and self.body_field is not None:
            if media_type(request) != JSON:
                raise ApiError(415, ProblemCode.MEDIA_TYPE, f"the body is {JSON} here")
            document = await run_in_threadpool(parse_json, content)
        return Read(request.scope, request.receive, content, document)


def routes_of(tag: str, prefix: str = BASE) -> APIRouter:
    """Routes of one subject. In the OpenAPI document they have the names of their functions."""
    return APIRouter(
        prefix=prefix,
        route_class=GuardedRoute,
        tags=[tag],
        generate_unique_id_function=lambda route: to_camel(route.name),
    )


def authorize(parts: ApiParts, request: Request, right: Right) -> Principal:
    """Raises ApiError: 401 where it is not known who asks, 403 where they may not."""
    found = authenticate(parts, request.headers.get("authorization", ""))
    if found is None:
        text = "a token is needed: Authorization: Bearer rkf_..., which must be neither expired nor revoked"
        raise ApiError(401, ProblemCode.UNAUTHENTICATED, text, headers={"WWW-Authenticate": "Bearer"})
    if not found.may(right):
        raise ApiError(403, ProblemCode.FORBIDDEN, f"this needs the right {right.value!r}, which {found.user} has not")
    return found


def authenticate(parts: ApiParts, header: str) -> Principal | None:
    scheme, _, text = header.partition(" ")
    digest = token_digest(text.strip()) if scheme.lower() == "bearer" else None
    token = parts.users.token(digest) if digest else None
    if token is None:
        return None
    now = parts.now()
    try:
        found = principal(parts.users.user(token.user), token, now)
    except NotFound:
        return None
    if found is not None and (token.last_used_at is None or now - token.last_used_at > _USED_EVERY):
        _used(parts, token.id)
    return found


def _used(parts: ApiParts, token_id: str) -> None:
    try:
        parts.users.used(token_id, parts.now())
    except Retryable:
        return  # for people's eyes alone: no reason to refuse a request that only reads
