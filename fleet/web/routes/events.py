"""What has happened: told by boards, and by the fleet itself."""

from datetime import timedelta
from typing import Annotated

from fastapi import Query
from pydantic import Field

from fleet.core.access import Right
from fleet.web.guard import needs, routes_of
from fleet.web.routes.asked import Query as Strictly
from fleet.web.service import Api
from fleet.web.views.events import EventPage, EventView
from schemas.base import UtcTime

_MS = timedelta(milliseconds=1)
router = routes_of("events")


class EventsQuery(Strictly):
    limit: Annotated[int, Field(ge=1, le=1000)] = 100
    before: Annotated[UtcTime | None, Field(description="`next` of the page before.")] = None


@router.get("/events", **needs(Right.READ))
def list_events(asked: Annotated[EventsQuery, Query()], api: Api) -> EventPage:
    """The newest first."""
    found = api.parts.roster.events(asked.limit, asked.before)
    following = None
    if len(found) == asked.limit:
        # Others of the last millisecond may be on the next page, unless the whole page is of one.
        following = found[-1].at if found[0].at == found[-1].at else found[-1].at + _MS
    return EventPage(events=[EventView.of(event) for event in found], next=following)
