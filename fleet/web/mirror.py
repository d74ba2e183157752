"""The mirror's paths, the same as the registry's."""

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from fleet.adapters.mirror_http import Away, Mirror, Pending
from fleet.web.files import DIGEST, METADATA_NAME, content_response, is_plain, metadata_response, missing

_AGAIN_AFTER_S = "5"


def mirror_app(mirror: Mirror) -> Starlette:
    """Answers 503 with Retry-After while a file is on its way, and 502 where upstream cannot be had."""

    def metadata(request: Request) -> Response:
        name = request.path_params["name"]
        content = mirror.metadata(name) if METADATA_NAME.fullmatch(name) else None
        return missing() if content is None else metadata_response(request, name, content)

    def file(request: Request) -> Response:
        sha256 = request.path_params["sha256"]
        path = mirror.file(sha256) if DIGEST.fullmatch(sha256) else None
        return missing() if path is None else content_response(request, path.parent, path.name, sha256)

    def bundle(request: Request) -> Response:
        sha256, name = request.path_params["sha256"], request.path_params["path"]
        path = mirror.of_bundle(sha256, name) if DIGEST.fullmatch(sha256) and is_plain(name) else None
        return missing() if path is None else content_response(request, path.parent, path.name, path.name)

    return Starlette(
        routes=[
            Route("/metadata/{name}", metadata, methods=["GET"]),
            Route("/files/{sha256}", file, methods=["GET"]),
            Route("/bundles/{sha256}/{path:path}", bundle, methods=["GET"]),
            Route("/health", _health, methods=["GET"]),
        ],
        exception_handlers={Pending: _pending, Away: _away},
    )


async def _health(_request: Request) -> Response:
    return PlainTextResponse("ok\n")


async def _pending(_request: Request, _error: Exception) -> Response:
    return PlainTextResponse("on its way\n", 503, {"Retry-After": _AGAIN_AFTER_S})


async def _away(_request: Request, error: Exception) -> Response:
    headers = {"Retry-After": _AGAIN_AFTER_S, "Cache-Control": "no-cache"}
    return PlainTextResponse(f"upstream: {error}\n", 502, headers)
