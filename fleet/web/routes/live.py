"""What happens, as it happens: server-sent events."""

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Callable
from typing import Annotated

from fastapi import Header, Query
from fastapi.responses import Response
from pydantic import Field
from sse_starlette import EventSourceResponse, ServerSentEvent
from sse_starlette.sse import SendTimeoutError
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.types import Receive, Scope, Send

from fleet.core.access import Right
from fleet.errors import ErrorCode
from fleet.web.guard import authenticate, needs, routes_of
from fleet.web.live import Listener
from fleet.web.problem import invalid, later
from fleet.web.routes.asked import Query as Strictly
from fleet.web.service import Api, Service
from fleet.web.watch import Change, Kind

_LAST = "The row of the last result that was heard."
_RETRY_MS = 2000
_REMEMBERED = 10_000
"""Results sent again that the live view may tell once more, as it looks at the database in its own time."""
router = routes_of("live")
_LIVE = needs(Right.READ)
_LIVE["responses"][200] = {
    "description": "Events `node`, `rollout`, `result`, `event`; the data are as elsewhere, in one line.",
    "content": {"text/event-stream": {"schema": {"type": "string"}}},
}


class LiveQuery(Strictly):
    kinds: Annotated[str, Field(max_length=100, description="With commas between; all where none is given.")] = ""


@router.get("/live", response_class=EventSourceResponse, **_LIVE)
async def listen(
    asked: Annotated[LiveQuery, Query()],
    request: Request,
    api: Api,
    last_event_id: Annotated[
        str | None, Header(alias="Last-Event-ID", max_length=18, pattern=r"^[0-9]*$", description=_LAST)
    ] = None,
) -> Response:
    """The stream begins with a comment: from then on nothing is missed. Results go on after `Last-Event-ID`, their row;
    of all else read the whole again after an interruption. Who reads too slowly is cut off.
    """
    kinds = _kinds(asked.kinds)
    if api.live.is_full:
        raise later(503, ErrorCode.UNAVAILABLE, "too many live views at once", 5)
    row = int(last_event_id) if last_event_id and Kind.RESULT in kinds else None
    listener = await api.live.join(kinds, is_replaying=row is not None)
    return LiveView(_events(api, request, listener, row), api, lambda: api.live.leave(listener))


class LiveView(EventSourceResponse):
    """`done` is called when it is over, however it ends."""

    def __init__(self, events: AsyncIterator[ServerSentEvent], api: Service, done: Callable[[], None]) -> None:
        settings = api.parts.settings
        super().__init__(
            events,
            ping=settings.live_heartbeat_s,
            ping_message_factory=lambda: ServerSentEvent(comment="alive"),
            send_timeout=settings.live_send_timeout_s,
            sep="\n",
        )
        self._done = done

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await super().__call__(scope, receive, send)
        except SendTimeoutError:
            return  # it does not read: nobody is there to be told
        finally:
            self._done()


def _kinds(text: str) -> frozenset[Kind]:
    names = [name.strip() for name in text.split(",") if name.strip()] or list(Kind)
    if unknown := [name for name in names if name not in set(Kind)]:
        raise invalid(f"kinds: there is no {unknown[0]!r}; there are {', '.join(Kind)}")
    return frozenset(Kind(name) for name in names)


async def _events(
    api: Service, request: Request, listener: Listener, row: int | None
) -> AsyncIterator[ServerSentEvent]:
    yield ServerSentEvent(comment="listening", retry=_RETRY_MS)
    replayed: deque[int] = deque(maxlen=_REMEMBERED)
    if row is not None:
        async for change in api.live.replay(listener, row):
            replayed.append(change.row)
            yield _event(change)
    known = frozenset(replayed)
    clock, header, beat_s = asyncio.get_running_loop(), request.headers.get("authorization", ""), _beat_s(api)
    looked_at = clock.time()
    while not listener.is_cut:
        for change in await listener.take(beat_s):
            if change.row not in known:
                yield _event(change)
        if clock.time() - looked_at >= beat_s:
            looked_at = clock.time()
            who = await run_in_threadpool(authenticate, api.parts, header)
            if who is None or not who.may(Right.READ):
                return


def _beat_s(api: Service) -> float:
    return api.parts.settings.live_heartbeat_s


def _event(change: Change) -> ServerSentEvent:
    return ServerSentEvent(change.data, event=change.kind.value, id=str(change.row) if change.row else None)
