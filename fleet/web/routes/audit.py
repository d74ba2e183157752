"""Who has done what."""

from typing import Annotated

from fastapi import Query
from pydantic import Field

from fleet.core.access import Right
from fleet.web.guard import needs, routes_of
from fleet.web.routes.asked import Query as Strictly
from fleet.web.routes.asked import RowNumber
from fleet.web.service import Api
from fleet.web.views.access import Records, RecordView, Verified

router = routes_of("audit")


class AuditQuery(Strictly):
    after: Annotated[RowNumber, Field(description="`next` of the page before.")] = 0
    limit: Annotated[int, Field(ge=1, le=1000)] = 100


@router.get("/audit", **needs(Right.AUDIT))
def list_records(asked: Annotated[AuditQuery, Query()], api: Api) -> Records:
    """In order, after a number."""
    found = api.parts.audit.records(asked.after, asked.limit)
    following = found[-1].number if len(found) == asked.limit else None
    return Records(records=[RecordView.of(record) for record in found], next=following)


@router.get("/audit/verify", **needs(Right.AUDIT))
def verify_records(api: Api) -> Verified:
    """Reads the whole chain; one at a time."""
    with api.verifications.one():
        return Verified.of(api.parts.audit.verify())
