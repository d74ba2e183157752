"""What the commands that speak to a server share: the connection, errors as exit codes, targets, times."""

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, NoReturn

import typer

from fleet.cli.output import Exit, fail
from fleet.cli.session import Session, session
from fleet.errors import ErrorCode, FleetError, Permanent, Retryable

if TYPE_CHECKING:
    from fleet.adapters.api_http import ApiHttp

EXIT_CODES = (
    "Exit codes: 1 failed, 2 wrong command line, 3 not found, 4 refused (not logged in, a right is missing, the state "
    "does not allow it), 5 no answer (trying again may help)."
)
_NODE = re.compile(r"([A-Za-z0-9._:-]+)/([A-Za-z0-9._:-]+)")
_AGO = re.compile(r"(\d{1,6})([smhd])")
_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}
_PAGE = 500


@contextmanager
def told(*, as_json: bool, is_login: bool = False) -> Iterator[None]:
    """Errors end the command with their text and exit code."""
    try:
        yield
    except FleetError as error:
        _end(error, as_json=as_json, is_login=is_login)
    except OSError as error:
        if isinstance(error, BrokenPipeError):
            raise  # `| head` has seen enough
        fail(": ".join(str(part) for part in (error.filename, error.strerror or error) if part), as_json=as_json)


@contextmanager
def connected(*, as_json: bool, to: Session | None = None, is_patient: bool = False) -> Iterator["ApiHttp"]:
    """The server of the session. `is_patient` sits out a restart of it, half a minute long."""
    from fleet.adapters.api_http import ApiHttp, ApiLimits  # noqa: PLC0415  httpx is slow to import

    with told(as_json=as_json, is_login=to is not None):
        at = to or session()
        if not at.token and to is None:
            text = f"not logged in at {at.server}: `rkfleet login {at.server}`, or give RKFLEET_TOKEN"
            fail(text, Exit.REFUSED, as_json=as_json)
        with ApiHttp(at.server, at.token, ApiLimits(tries=10 if is_patient else 3)) as api:
            try:
                yield api
            except (KeyError, TypeError, AttributeError) as error:
                # Commands read documents as the API of their own version has them.
                text = f"{api.server} answers otherwise than an rkfleet server of this version does ({error!r})"
                fail(text, Exit.FAILED, as_json=as_json)


def _end(error: FleetError, *, as_json: bool, is_login: bool) -> NoReturn:
    from fleet.adapters.api_http import Rejected  # noqa: PLC0415  httpx is slow to import

    if isinstance(error, Retryable):
        fail(error.text, Exit.UNREACHABLE, as_json=as_json)
    if not isinstance(error, Rejected):
        fail(error.text, Exit.FAILED, as_json=as_json)
    text, code = error.text, Exit.FAILED
    if error.status == 401:
        hint = "" if is_login else "\nThe server does not know you (any more): `rkfleet login`"
        text, code = text + hint, Exit.REFUSED
    elif error.status == 403:
        text, code = f"{text}\n`rkfleet whoami` shows the rights that you have", Exit.REFUSED
    elif error.status == 409:
        code = Exit.REFUSED
    elif error.status == 404:
        code = Exit.NOT_FOUND
    fail(text, code, as_json=as_json)


def one_node(target: str) -> tuple[str, str] | None:
    """(site, node); None for a filter. No text is both."""
    found = _NODE.fullmatch(target)
    return (found[1], found[2]) if found else None


def as_filter(target: str) -> str:
    """A node's name as the filter that names it alone."""
    found = one_node(target)
    return target if found is None else f'site="{found[0]}" and node="{found[1]}"'


def node_path(target: str, *more: str) -> str:
    """Raises typer.BadParameter for what is no site/node."""
    from fleet.adapters.api_http import path  # noqa: PLC0415  httpx is slow to import

    found = one_node(target)
    if found is None:
        raise typer.BadParameter(f"{target!r} is no board: write site/node, like plant1/board-7")
    return path("nodes", *found, *more)


def pages(api: "ApiHttp", target: str, key: str, params: Mapping[str, Any], most: int) -> Iterator[Any]:
    """Entries under `key`, page by page, at most `most` of them."""
    after: str | None = None
    while most > 0:
        answer = api.get(target, {**params, "limit": min(most, _PAGE), **({"after": after} if after else {})})
        yield from answer[key][:most]
        most -= len(answer[key])
        after = answer.get("next")
        if not answer[key] or after is None:
            return


def dig(document: Any, *keys: str) -> str:
    """The value at the end of `keys` as text; "" where there is none."""
    for key in keys:
        document = document.get(key) if isinstance(document, dict) else None
    if isinstance(document, bool):
        return "yes" if document else "no"
    return "" if document is None else str(document)


def moment(text: str | None, now: datetime) -> str | None:
    """`2h` ago, a date, or a time, in UTC where no zone is given; as ISO 8601. Raises typer.BadParameter."""
    if text is None:
        return None
    try:
        if found := _AGO.fullmatch(text):
            at = now - timedelta(**{_UNITS[found[2]]: int(found[1])})
        else:
            at = datetime.fromisoformat(text)
            at = at.replace(tzinfo=UTC) if at.tzinfo is None else at.astimezone(UTC)
    except (ValueError, OverflowError):
        problem = f"{text!r} is no time: write 2h (ago), 2026-03-06, or 2026-03-06T16:00:00Z"
        raise typer.BadParameter(problem) from None
    return at.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def seconds(text: str) -> float:
    """Of `90s`, `10m`, `2h`, `1d`. Raises typer.BadParameter."""
    found = _AGO.fullmatch(text)
    if found is None:
        raise typer.BadParameter(f"{text!r} is no duration: write 90s, 10m, 2h or 1d")
    return timedelta(**{_UNITS[found[2]]: int(found[1])}).total_seconds()


def when(text: str) -> str:
    """`2026-03-06 16:00:00` of an ISO time, for tables."""
    return text[:19].replace("T", " ") if re.match(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d", text) else text


def ago(text: str, now: datetime) -> str:
    """How long before `now`, in one unit; as it is where it is no time."""
    try:
        passed = (now - datetime.fromisoformat(text)).total_seconds()
    except (ValueError, TypeError):
        return text
    for most, unit, name in ((120, 1, "s"), (7200, 60, "min"), (172_800, 3600, "h")):
        if passed < most:
            return f"{max(0, passed) / unit:.0f} {name}"
    return f"{passed / 86_400:.0f} d"


def now() -> datetime:
    return datetime.now(UTC)


def read_text(source: str, most_bytes: int) -> bytes:
    """A file, or `-` for stdin. Raises Permanent for more than `most_bytes`."""
    import sys  # noqa: PLC0415  the standard input of the moment, which tests replace
    from pathlib import Path  # noqa: PLC0415

    if source == "-":
        text = sys.stdin.buffer.read(most_bytes + 1)
    else:
        with Path(source).open("rb") as opened:
            text = opened.read(most_bytes + 1)
    if len(text) > most_bytes:
        raise Permanent(ErrorCode.INVALID, f"{source} has more than {most_bytes >> 10} KB")
    return text
