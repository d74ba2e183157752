"""The outermost layer: bounds before anything is read, headers on every answer of the API, counters."""

import time
from collections.abc import MutableMapping
from typing import Any

from prometheus_client import Counter, Histogram
from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from fleet.web.body import too_large
from fleet.web.parts import ApiParts
from fleet.web.problem import ApiError, ProblemCode, response

_HEADERS = {
    "Cache-Control": "no-store",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
    "Cross-Origin-Resource-Policy": "same-origin",
}


class Edge:
    """An ASGI middleware. What says by itself how long it may be kept, as the registry's files do, is left so."""

    def __init__(self, app: ASGIApp, parts: ApiParts) -> None:
        self._app = app
        self._settings = parts.settings
        self._requests = Counter(
            "rkfleet_http_requests", "Requests by route and status.", ("method", "route", "status"),
            registry=parts.metrics,
        )  # fmt: skip
        self._seconds = Histogram(
            "rkfleet_http_request_seconds", "Until the answer begins.", ("method", "route"), registry=parts.metrics
        )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        began = time.monotonic()

        async def sending(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in _HEADERS.items():
                    headers.setdefault(name, value)
                self._count(scope, message["status"], time.monotonic() - began)
            await send(message)

        refused = self._refused(scope)
        answer = self._app if refused is None else response(refused)
        await answer(scope, receive, sending)

    def _refused(self, scope: Scope) -> ApiError | None:
        target = len(scope.get("raw_path") or scope["path"].encode()) + len(scope["query_string"])
        if target > self._settings.most_target_bytes:
            text = f"path and query have at most {self._settings.most_target_bytes} bytes"
            return ApiError(414, ProblemCode.TOO_LARGE, text)
        said = dict(scope["headers"]).get(b"content-length", b"0")
        # More digits than that are no length, whatever they are.
        if not said.isdigit() or len(said) > 18 or int(said) > self._settings.most_body_bytes:
            return too_large(self._settings.most_body_bytes)
        return None

    def _count(self, scope: MutableMapping[str, Any], status: int, seconds: float) -> None:
        """By the route's template: what a caller writes in a path must not grow the memory."""
        route = getattr(scope.get("route"), "path", "other")
        method = scope["method"] if scope["method"] in _METHODS else "other"
        self._requests.labels(method, route, status).inc()
        self._seconds.labels(method, route).observe(seconds)


_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
