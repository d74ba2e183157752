"""Results: found, counted, exported."""

from collections.abc import Callable, Iterable, Iterator
from itertools import chain
from typing import Annotated, Literal

from fastapi import Query
from fastapi.responses import Response, StreamingResponse
from pydantic import Field
from starlette.types import Receive, Scope, Send

from fleet import ports
from fleet.core.access import Right
from fleet.ports import StoredResult
from fleet.web.body import JSON
from fleet.web.guard import needs, routes_of
from fleet.web.routes.asked import Line, RowNumber
from fleet.web.routes.asked import Query as Strictly
from fleet.web.service import Api
from fleet.web.views.results import ResultPage, Shares, ShareView, document, page
from schemas.base import UtcTime
from schemas.recipe import Evaluation

router = routes_of("results")
JSONL = "application/jsonl"
_BATCH = 200
"""Results of 16 KB: some 3 MB in memory for each export."""
_CHUNK_BYTES = 64 << 10


class Which(Strictly):
    """All that are given must hold; `until` is outside; `class`: a defect of it is in the result."""

    since: UtcTime | None = None
    until: Annotated[UtcTime | None, Field(description="Before this time.")] = None
    site: Line | None = None
    node: Line | None = None
    line: Line | None = None
    camera: Line | None = None
    part: Line | None = None
    lot: Line | None = None
    class_: Annotated[Line | None, Field(alias="class", description="With a defect of this class.")] = None
    evaluation: Literal["UNDEFINED", "OK", "NOT_OK", "NOT_DECIDABLE"] | None = None

    def query(self) -> ports.Query:
        return ports.Query(
            since=self.since,
            until=self.until,
            site=self.site,
            node=self.node,
            line=self.line,
            camera=self.camera,
            part=self.part,
            lot=self.lot,
            class_name=self.class_,
            evaluation=None if self.evaluation is None else Evaluation[self.evaluation],
        )


class WhichPage(Which):
    limit: Annotated[int, Field(ge=1, le=1000)] = 100
    after_row: Annotated[RowNumber, Field(description="Those that arrived after this row.")] = 0
    newest_first: Annotated[bool, Field(description="Instead of in order of arrival.")] = False


class WhichShares(Which):
    by: Literal["site", "node", "line", "camera", "part", "lot", "class", "model", "hour", "day"]
    limit: Annotated[int, Field(ge=1, le=10_000)] = 1000


class WhichExport(Which):
    format: Literal["jsonl"] = "jsonl"


SENT = "-Sent"
"""Ends the names of schemas of what boards have sent, in the OpenAPI document: what they left out is left out."""
_FOUND = needs(Right.READ)
_FOUND["responses"][200] = {
    "description": "A page",
    "content": {JSON: {"schema": {"$ref": f"#/components/schemas/{ResultPage.__name__}{SENT}"}}},
}


@router.get("/results", response_class=Response, **_FOUND)
def find_results(asked: Annotated[WhichPage, Query()], api: Api) -> Response:
    """A page of them, each with its row."""
    found = api.parts.results.find(
        asked.query(), limit=asked.limit, after_row=asked.after_row, newest_first=asked.newest_first
    )
    is_more = len(found) == asked.limit and not asked.newest_first
    return Response(page(found, found[-1].row if is_more else None), media_type=JSON)


@router.get("/results/stats", **needs(Right.READ))
def count_results(asked: Annotated[WhichShares, Query()], api: Api) -> Shares:
    """By one thing; with `class` a result counts once under each class that it shows."""
    shares = api.parts.results.stats(asked.query(), asked.by, asked.limit)
    return Shares(shares=[ShareView.of(share, asked.by) for share in shares])


_EXPORTED = needs(Right.READ)
_EXPORTED["responses"][200] = {
    "description": "One result a line, as the board has sent it.",
    "content": {JSONL: {"schema": {"type": "string"}}},
}


@router.get("/results/export", response_class=StreamingResponse, **_EXPORTED)
def export_results(asked: Annotated[WhichExport, Query()], api: Api) -> Response:
    """All, in order of arrival, one a line. A stream that breaks off was not whole."""
    api.exports.take()
    try:
        # What fails at once is an answer, not a stream that breaks off.
        found = api.parts.results.export(asked.query(), _BATCH)
        first = next(found, None)
    except BaseException:
        api.exports.give()
        raise
    rows = chain([] if first is None else [first], found)
    return Export(_lines(rows), api.exports.give)


class Export(StreamingResponse):
    """`done` is called when it is over, however it ends."""

    def __init__(self, lines: Iterator[bytes], done: Callable[[], None]) -> None:
        super().__init__(lines, media_type=JSONL)
        self._done = done

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await super().__call__(scope, receive, send)
        finally:
            self._done()


def _lines(rows: Iterable[StoredResult]) -> Iterator[bytes]:
    """Some together: each chunk is a message and a change of threads."""
    waiting: list[bytes] = []
    size = 0
    for row in rows:
        line = document(row) + b"\n"
        waiting.append(line)
        size += len(line)
        if size >= _CHUNK_BYTES:
            yield b"".join(waiting)
            waiting, size = [], 0
    if waiting:
        yield b"".join(waiting)
