"""Boards that are asked over the broker, several at once: each call blocks a thread for as long as the board takes."""

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import anyio
from anyio import to_thread
from pydantic import ValidationError

from fleet.core.roster import NodeId
from fleet.errors import FleetError, Retryable
from fleet.web.problem import Spot, invalid, spots
from fleet.web.service import Service
from schemas.command import COMMANDS, CommandName
from schemas.job import DOCUMENTS, JobType

_Answer = TypeVar("_Answer")
_OURS = frozenset({"commandId", "expiresAt"})
"""Fields that are set here, not by the caller."""


async def each(
    service: Service, nodes: Sequence[NodeId], ask: Callable[[NodeId], _Answer]
) -> tuple[dict[NodeId, _Answer], Retryable | None]:
    """What was answered, and why others could not be asked, where that may pass. Raises any other error, when all are
    through.
    """
    answers: dict[NodeId, _Answer] = {}
    failed: list[FleetError] = []

    async def one(node: NodeId) -> None:
        try:
            answers[node] = await to_thread.run_sync(ask, node, limiter=service.calls)
        except FleetError as error:
            failed.append(error)

    async with anyio.create_task_group() as group:
        for node in nodes:
            group.start_soon(one, node)
    for error in failed:
        if not isinstance(error, Retryable):
            raise error
    return answers, next((error for error in failed if isinstance(error, Retryable)), None)


def check_fields(name: CommandName, fields: dict[str, Any]) -> None:
    """Raises ApiError."""
    kind = COMMANDS[name]
    known = {field.alias for field in kind.model_fields.values()} - _OURS
    if unknown := sorted(set(fields) - known):
        there = ", ".join(sorted(str(each) for each in known)) or "none"
        raise invalid(f"{name} has no field {unknown[0][:100]!r}; there are: {there}")
    try:
        kind.model_validate({"commandId": "checked", **fields})
    except ValidationError as error:
        _refuse(f"not the fields of {name}", "fields", error)


def check_document(kind: JobType, document: dict[str, Any]) -> None:
    """Raises ApiError."""
    try:
        DOCUMENTS[kind].model_validate(document)
    except ValidationError as error:
        _refuse(f"not the document of {kind}", "document", error)


def _refuse(text: str, where: str, error: ValidationError) -> None:
    found = [Spot(at=f"{where}.{spot.at}", text=spot.text) for spot in spots(error.errors(include_url=False))]
    raise invalid(f"{text}: {found[0].at}: {found[0].text}", found) from None
