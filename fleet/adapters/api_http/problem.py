"""Answers that are no success, and addresses that do not answer, as errors with a text that says what to do."""

import json
import ssl
from collections.abc import Iterator
from typing import Any

import httpx

from fleet.errors import ErrorCode, FleetError, Permanent, Retryable

MOST_PROBLEMS = 20
_CODES = {
    404: ErrorCode.NOT_FOUND,
    409: ErrorCode.CONFLICT,
    413: ErrorCode.INVALID,
    422: ErrorCode.INVALID,
    500: ErrorCode.INTERNAL,
}
_MAY_PASS = frozenset({429, 502, 503, 504})
MOST_DELAY_S = 3600.0


class Rejected(Permanent):
    """The server has answered, and not with yes. `status` is HTTP's."""

    def __init__(self, status: int, text: str) -> None:
        super().__init__(_CODES.get(status, ErrorCode.INVALID), text)
        self.status = status


def rejection(status: int, headers: httpx.Headers, body: bytes) -> FleetError:
    """From an answer with a status of 300 and above. Source: RFC 9457, with `pointed` and `problems` of our own."""
    problem = _object(body)
    text = "\n".join(_lines(status, problem))
    if status in _MAY_PASS:
        return Retryable(ErrorCode.UNAVAILABLE, text, delay_s=_delay_s(headers))
    if 300 <= status < 400:
        text = (
            f"redirected to {headers.get('location', 'nowhere')}: give that address to `rkfleet login`, if you trust it"
        )
    return Rejected(status, text)


def unreachable(server: str, error: httpx.TransportError) -> FleetError:
    """`server` is the address that was tried."""
    if isinstance(error, httpx.UnsupportedProtocol):
        return Permanent(ErrorCode.INVALID, f"{server} is no address of a server")
    if _is_certificate(error):
        text = f"{server} shows a certificate that is not trusted ({error}); SSL_CERT_FILE names a CA of your own"
        return Permanent(ErrorCode.UNAVAILABLE, text)
    if isinstance(error, httpx.ConnectTimeout | httpx.ConnectError):
        why = "no answer in time" if isinstance(error, httpx.ConnectTimeout) else str(error)
        return Retryable(
            ErrorCode.UNAVAILABLE,
            f"no server at {server} ({why}); is `rkfleet serve` running there? RKFLEET_SERVER or `rkfleet login` "
            "name another",
        )
    why = "it took too long" if isinstance(error, httpx.TimeoutException) else f"the connection broke: {error}"
    return Retryable(ErrorCode.UNAVAILABLE, f"{server} gave no whole answer: {why}")


def _is_certificate(error: BaseException | None) -> bool:
    for _ in range(8):
        if error is None:
            return False
        if isinstance(error, ssl.SSLCertVerificationError):
            return True
        error = error.__cause__ or error.__context__
    return False


def _object(body: bytes) -> dict[str, Any]:
    try:
        read = json.loads(body)
    except (ValueError, RecursionError):
        return {}
    return read if isinstance(read, dict) else {}


def _lines(status: int, problem: dict[str, Any]) -> Iterator[str]:
    """What is wrong; where the server points at a spot, the text with the caret; each field that is wrong."""
    detail = str(problem.get("detail") or problem.get("title") or f"the server answered with status {status}")
    pointed = problem.get("pointed")
    if isinstance(pointed, str):
        if detail not in pointed:
            yield detail
        yield from pointed.split("\n")
    else:
        yield detail
    problems = problem.get("problems")
    spots = [each for each in problems if isinstance(each, dict)] if isinstance(problems, list) else []
    for each in spots[:MOST_PROBLEMS]:
        where, text = each.get("at") or "document", str(each.get("text", ""))
        if not detail.endswith(f"{where}: {text}"):
            yield f"  {where}: " + text.replace("\n", "\n    ")
    if len(spots) > MOST_PROBLEMS:
        yield f"  and {len(spots) - MOST_PROBLEMS} more"


def _delay_s(headers: httpx.Headers) -> float:
    """Retry-After in seconds; its form with a date is not used by our server."""
    text = headers.get("retry-after", "")
    return min(float(text), MOST_DELAY_S) if text.isascii() and text.isdigit() else 1.0
