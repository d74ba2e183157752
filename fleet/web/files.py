"""The registry over HTTP: what a board and a mirror download. Nothing here is secret, all of it is signed or digested.

Paths below `files/` and `bundles/` never change their content, so any cache may keep them for ever; an object store
that holds the same folder can take this application's place.
"""

import hashlib
import re
from pathlib import Path

from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import FileResponse, PlainTextResponse, Response
from starlette.routing import Route

FOR_EVER = "public, max-age=31536000, immutable"
SHORT = "public, max-age=15"
NOT_KEPT = "no-cache"
METADATA_NAME = re.compile(r"(\d{1,9}\.(root|targets|snapshot)|timestamp)\.json")
DIGEST = re.compile(r"[0-9a-f]{64}")
_MOST_METADATA_BYTES = 16_000_000


def files_app(folder: Path) -> Starlette:
    return Starlette(routes=file_routes(folder))


def file_routes(folder: Path) -> list[Route]:
    """`metadata/`, `files/` and `bundles/` of a registry's folder."""

    async def metadata(request: Request) -> Response:
        name = request.path_params["name"]
        if not METADATA_NAME.fullmatch(name):
            return missing()
        content = await run_in_threadpool(_read, folder / "metadata" / name)
        return missing() if content is None else metadata_response(request, name, content)

    async def file(request: Request) -> Response:
        sha256 = request.path_params["sha256"]
        if not DIGEST.fullmatch(sha256):
            return missing()
        return await run_in_threadpool(content_response, request, folder / "files", sha256, sha256)

    async def bundle(request: Request) -> Response:
        sha256, path = request.path_params["sha256"], request.path_params["path"]
        if not DIGEST.fullmatch(sha256) or not is_plain(path):
            return missing()
        tag = hashlib.sha256(f"{sha256}/{path}".encode()).hexdigest()
        return await run_in_threadpool(content_response, request, folder / "bundles" / sha256, path, tag)

    return [
        Route("/metadata/{name}", metadata, methods=["GET"]),
        Route("/files/{sha256}", file, methods=["GET"]),
        Route("/bundles/{sha256}/{path:path}", bundle, methods=["GET"]),
    ]


def is_plain(path: str) -> bool:
    """Relative, without a way out, of characters that may stand in a file name."""
    parts = path.split("/")
    return path.isprintable() and "\\" not in path and not any(part in {"", ".", ".."} for part in parts)


def content_response(request: Request, folder: Path, name: str, tag: str) -> Response:
    """A file that never changes, in whole or in ranges. `tag` stands for its content. Links below `folder` are not
    followed.
    """
    path = folder / name
    try:
        about = path.lstat()
        is_file = path.is_file() and path.resolve() == folder.resolve() / name
    except (OSError, ValueError):
        return missing()
    if not is_file:
        return missing()
    headers = {"ETag": f'"{tag}"', "Cache-Control": FOR_EVER, "X-Content-Type-Options": "nosniff"}
    if _has(request, tag):
        return Response(status_code=304, headers=headers)
    return FileResponse(path, headers=headers, media_type="application/octet-stream", stat_result=about)


def metadata_response(request: Request, name: str, content: bytes) -> Response:
    """The timestamp changes, all other versions of metadata are final."""
    tag = hashlib.sha256(content).hexdigest()
    headers = {"ETag": f'"{tag}"', "Cache-Control": SHORT if name == "timestamp.json" else FOR_EVER}
    if _has(request, tag):
        return Response(status_code=304, headers=headers)
    return Response(content, headers=headers, media_type="application/json")


def missing() -> Response:
    """Not to be remembered: the next root version is asked for until it is there."""
    return PlainTextResponse("not found\n", 404, {"Cache-Control": NOT_KEPT})


def _has(request: Request, tag: str) -> bool:
    said = request.headers.get("if-none-match", "")
    return tag in {each.strip().removeprefix("W/").strip('"') for each in said.split(",")}


def _read(path: Path) -> bytes | None:
    try:
        if path.is_symlink():
            return None
        with path.open("rb") as file:
            content = file.read(_MOST_METADATA_BYTES + 1)
    except OSError:
        return None
    return content if len(content) <= _MOST_METADATA_BYTES else None
