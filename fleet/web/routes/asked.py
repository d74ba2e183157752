"""Parameters that several routes have."""

from typing import Annotated

from fastapi import Path
from pydantic import Field

from fleet.core.roster import Node, parse
from fleet.web.problem import invalid
from fleet.web.service import Service
from schemas.base import Strict

_ID = r"^[A-Za-z0-9._:-]+$"
Site = Annotated[str, Path(max_length=128, pattern=_ID)]
NodeName = Annotated[str, Path(max_length=128, pattern=_ID)]
Key = Annotated[str, Path(max_length=128, pattern=_ID)]
Line = Annotated[str, Field(max_length=200, pattern=r"^[^\x00-\x1f\x7f]*$")]
"""A text in one line."""
RowNumber = Annotated[int, Field(ge=0, le=2**63 - 1)]


class Query(Strict):
    """Parameters of a query: a misspelt one is an error."""


def selected(service: Service, filter_text: str, most: int) -> list[Node]:
    """Nodes that the filter names. Raises FilterError; ApiError for none, or for more than `most`."""
    chosen = parse(filter_text)
    found = chosen.select(service.parts.roster.nodes(), service.now())
    if not found:
        raise invalid("the filter names no board")
    if len(found) > most:
        raise invalid(f"the filter names {len(found)} boards: at most {most} here")
    return found
