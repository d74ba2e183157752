"""Errors as `application/problem+json` (RFC 9457), in one form for whatever went wrong."""

import logging
import math
from collections.abc import Mapping
from enum import StrEnum
from http import HTTPStatus
from typing import Any

from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from fleet.core.rollout import Refused
from fleet.core.roster import FilterError
from fleet.errors import Conflict, ErrorCode, FleetError, LeaseLost, NotFound, Retryable
from schemas.base import Wire

MEDIA_TYPE = "application/problem+json"
_log = logging.getLogger(__name__)


class ProblemCode(StrEnum):
    """Of the API itself; others are ErrorCode. Codes are added, never renamed."""

    UNAUTHENTICATED = "unauthenticated"
    FORBIDDEN = "forbidden"
    MALFORMED = "malformed"
    METHOD_NOT_ALLOWED = "method-not-allowed"
    TOO_SLOW = "too-slow"
    TOO_LARGE = "too-large"
    MEDIA_TYPE = "media-type"
    TOO_MANY = "too-many"


class Spot(Wire):
    """`at` is the path of a field, such as `waves.0.percent`, or the name of a parameter."""

    at: str
    text: str


class Problem(Wire):
    """`at` and `pointed` are of filters: the position, and the text with a caret below it. `problems` are of documents
    and parameters.
    """

    type: str = "about:blank"
    title: str
    status: int
    detail: str
    code: str
    at: int | None = None
    pointed: str | None = None
    problems: list[Spot] | None = None


class ApiError(Exception):
    """An answer that is a problem."""

    def __init__(
        self, status: int, code: ErrorCode | ProblemCode, detail: str, *, headers: Mapping[str, str] | None = None,
        problems: list[Spot] | None = None,
    ) -> None:  # fmt: skip
        super().__init__(detail)
        self.problem = Problem(
            title=HTTPStatus(status).phrase, status=status, detail=detail, code=code.value, problems=problems
        )
        self.headers = dict(headers or {})


def invalid(detail: str, problems: list[Spot] | None = None) -> ApiError:
    return ApiError(422, ErrorCode.INVALID, detail, problems=problems)


def later(status: int, code: ErrorCode | ProblemCode, detail: str, delay_s: float) -> ApiError:
    return ApiError(status, code, detail, headers={"Retry-After": str(max(1, math.ceil(delay_s)))})


def response(error: ApiError) -> Response:
    return Response(error.problem.to_json(), error.problem.status, error.headers, MEDIA_TYPE)


def documented(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """For the OpenAPI document."""
    content = {MEDIA_TYPE: {"schema": {"$ref": "#/components/schemas/Problem"}}}
    return {status: {"description": HTTPStatus(status).phrase, "content": content} for status in statuses}


def spots(errors: list[Any]) -> list[Spot]:
    """Of pydantic's errors, without what was given: that may be a password, and of any size."""
    return [Spot(at=".".join(str(part) for part in each["loc"])[:200], text=_text(each)) for each in errors[:50]]


def _text(error: Mapping[str, Any]) -> str:
    return str(error["msg"]).removeprefix("Value error, ")[:2000].encode("utf-8", "replace").decode()


def from_fleet(error: FleetError) -> ApiError:
    if isinstance(error, Retryable):
        return later(503, error.code, error.text, error.delay_s)
    if isinstance(error, NotFound):
        return ApiError(404, error.code, error.text)
    if isinstance(error, Conflict | LeaseLost):
        return ApiError(409, error.code, error.text)
    if error.code is ErrorCode.INVALID:
        return invalid(error.text)
    _log.error("%s: %s", error.code, error.text)
    return ApiError(500, error.code, error.text)


def from_filter(error: FilterError) -> ApiError:
    made = invalid(error.problem)
    made.problem = made.problem.model_copy(update={"at": error.at, "pointed": error.pointed})
    return made


_OF_STATUS: dict[int, ErrorCode | ProblemCode] = {
    400: ProblemCode.MALFORMED,
    404: ErrorCode.NOT_FOUND,
    415: ProblemCode.MEDIA_TYPE,
    405: ProblemCode.METHOD_NOT_ALLOWED,
    413: ProblemCode.TOO_LARGE,
}


def _from_http(error: HTTPException) -> ApiError:
    code = _OF_STATUS.get(error.status_code, ErrorCode.INVALID)
    return ApiError(error.status_code, code, str(error.detail), headers=error.headers)


def _from_validation(error: RequestValidationError) -> ApiError:
    """Where the parameter stands (path, query, body) is left out: its name says it."""
    found = [{**each, "loc": each["loc"][1:] or each["loc"]} for each in error.errors()]
    made = spots(found)
    return invalid(f"{made[0].at}: {made[0].text}" if made else "the request is not valid", made)


def add_handlers(app: FastAPI) -> None:
    """For every error that is foreseen, and for those that are not: of these the server's log has the trace."""

    async def answer(_: Request, error: Exception) -> Response:
        return response(_problem(error))

    for kind in (ApiError, FleetError, FilterError, Refused, RequestValidationError, HTTPException, Exception):
        app.add_exception_handler(kind, answer)


def _problem(error: Exception) -> ApiError:
    made = ApiError(500, ErrorCode.INTERNAL, "something went wrong here; the server's log has more")
    match error:
        case ApiError():
            made = error
        case FleetError():
            made = from_fleet(error)
        case FilterError():
            made = from_filter(error)
        case Refused():
            made = ApiError(409, ErrorCode.CONFLICT, str(error))
        case RequestValidationError():
            made = _from_validation(error)
        case HTTPException():
            made = _from_http(error)
    return made
