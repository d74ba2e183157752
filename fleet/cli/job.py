"""`rkfleet job`: one-shot work on boards."""

import json
import time
from collections.abc import Mapping, Sequence
from datetime import timedelta
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, Any

import typer

from fleet.cli.client import EXIT_CODES, as_filter, connected, dig, now, read_text, seconds, when
from fleet.cli.output import AsJson, Exit, fail, note, show, table
from fleet.errors import ErrorCode, Permanent

if TYPE_CHECKING:
    from fleet.adapters.api_http import ApiHttp

app = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode=None,
    help="One-shot work on boards: inspect a part, collect pictures, measure the model, read the log, restart. "
    f"docs/operating.md lists what each takes.\n\n{EXIT_CODES}",
)
Id = Annotated[str, typer.Argument(help="The job; `rkfleet job list` shows them.", metavar="ID")]
Wait = Annotated[bool, typer.Option("--wait", help="Wait until every board has ended; exit code 0 if all succeeded.")]
_OVER = frozenset({"SUCCEEDED", "FAILED", "TIMED_OUT", "REJECTED", "CANCELED"})
_SILENT = "UNKNOWN"
"""The server's word for a board that has not said anything yet."""
_LOOK_S = 1.0
_MOST_BYTES = 256 << 10


class JobType(StrEnum):
    INSPECT = "inspect"
    COLLECT = "collect"
    BENCHMARK = "benchmark"
    LOGS = "logs"
    RESTART = "restart"


@app.command()
def run(  # noqa: PLR0913  each is an argument of the command
    kind: Annotated[JobType, typer.Argument(help="What to do.", metavar="TYPE")],
    target: Annotated[str, typer.Argument(help="A board (site/node), or a filter in quotes.", metavar="TARGET")],
    fields: Annotated[list[str] | None, typer.Argument(help="field=value of the document; JSON or a text.")] = None,
    *,
    document: Annotated[str, typer.Option(help="A JSON file with the document; - is stdin.", metavar="FILE")] = "",
    deadline: Annotated[str, typer.Option(help="Boards that have not ended by then are TIMED_OUT.")] = "10m",
    wait: Wait = False,
    as_json: AsJson = False,
) -> None:  # fmt: skip
    """Ask boards to do something.

    $ rkfleet job run inspect plant1/board-7 camera=top partId=SN-0007 --wait

    $ rkfleet job run logs 'health!=ok' lines=500 level=WARNING --wait --json

    $ rkfleet job run collect line=smt-1 'cameras=["top"]' count=200
    """
    until = (now() + timedelta(seconds=seconds(deadline))).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    with connected(as_json=as_json, is_patient=wait) as api:
        body = {
            "filter": as_filter(target),
            "type": kind.value,
            "document": _document(document, fields),
            "deadline": until,
        }
        made = api.send("POST", "/jobs", body)
        _show(api, made, wait=wait, as_json=as_json)


@app.command("list")
def list_jobs(
    *,
    limit: Annotated[int, typer.Option(min=1, max=1000, help="At most so many, the newest first.")] = 50,
    as_json: AsJson = False,
) -> None:
    """Jobs, the newest first.

    $ rkfleet job list
    """
    with connected(as_json=as_json) as api:
        found = api.get("/jobs", {"limit": limit})
        rows = [[each["id"], each["type"], when(dig(each, "createdAt")), dig(each, "createdBy"), _counts(each)]
                for each in found["jobs"]]  # fmt: skip
        show(found, table("Jobs", ["id", "type", "created", "by", "boards"], rows), as_json=as_json)


@app.command("show")
def show_job(job: Id, *, wait: Wait = False, as_json: AsJson = False) -> None:
    """What each board has made of it.

    $ rkfleet job show logs-4f1c

    $ rkfleet job show logs-4f1c --wait --json > logs.json
    """
    with connected(as_json=as_json, is_patient=wait) as api:
        _show(api, api.get(_path(job)), wait=wait, as_json=as_json)


@app.command()
def ask(job: Id, *, wait: Wait = False, as_json: AsJson = False) -> None:
    """Ask the boards again that have said nothing: the broker may have been away. A board does it once all the same.

    $ rkfleet job ask logs-4f1c
    """
    with connected(as_json=as_json, is_patient=wait) as api:
        _show(api, api.send("POST", _path(job, "ask")), wait=wait, as_json=as_json)


@app.command()
def cancel(job: Id, *, as_json: AsJson = False) -> None:
    """End it on every board that has not ended it.

    $ rkfleet job cancel logs-4f1c
    """
    with connected(as_json=as_json) as api:
        made = api.send("POST", _path(job, "cancel"))
        show(made, f"{made['id']}: boards are told to end it; `rkfleet job show` tells what they say.", as_json=as_json)


def _path(job: str, *more: str) -> str:
    from fleet.adapters.api_http import path  # noqa: PLC0415  httpx is slow to import

    return path("jobs", job, *more)


def _document(file: str, fields: Sequence[str] | None) -> dict[str, Any]:
    """The file's, with `fields` over it."""
    made: Any = {}
    if file:
        try:
            made = json.loads(read_text(file, _MOST_BYTES))
        except (ValueError, RecursionError) as error:
            raise Permanent(ErrorCode.INVALID, f"{file} is no JSON: {error}") from None
        if not isinstance(made, dict):
            raise Permanent(ErrorCode.INVALID, f"{file} holds no JSON object")
    for each in fields or []:
        name, sign, value = each.partition("=")
        if not sign or not name:
            raise typer.BadParameter(f"{each!r} is no field: write name=value")
        made[name] = _value(value)
    return dict(made)


def _value(text: str) -> Any:
    """`partId=007` and `partId=SN-7` are texts, `count=200` is a number."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return text


def _show(api: "ApiHttp", job: Mapping[str, Any], *, wait: bool, as_json: bool) -> None:
    said = ""
    while wait and not set(job["counts"]) <= _OVER:
        if (progress := _counts(job)) != said:
            note(f"{job['id']}: {progress}", as_json=as_json)
            said = progress
        time.sleep(_LOOK_S)
        job = api.get(_path(job["id"]))
    rows = [
        [each["node"], _low(dig(each, "execution", "status") or _SILENT), when(dig(each, "execution", "lastUpdatedAt")),
         _words(each["execution"] or {})]
        for each in job["executions"]
    ]  # fmt: skip
    words = table(f"{job['id']} {job['type']}", ["board", "status", "at", ""], rows)
    show(job, words, as_json=as_json)
    if wait and set(job["counts"]) != {"SUCCEEDED"}:
        fail(f"{job['id']}: {_counts(job)}", Exit.FAILED, as_json=as_json)


def _counts(job: Mapping[str, Any]) -> str:
    return ", ".join(f"{count} {_low(status)}" for status, count in sorted(job["counts"].items())) or "no boards"


def _low(status: str) -> str:
    return "not answered" if status == _SILENT else status.replace("_", " ").lower()


def _words(execution: Mapping[str, Any]) -> str:
    if execution.get("failure"):
        return f"{dig(execution, 'failure', 'code')}: {dig(execution, 'failure', 'text')}"
    details = execution.get("statusDetails") or {}
    if isinstance(details.get("lines"), list):
        return "\n".join(map(str, details["lines"]))
    return " ".join(f"{name}={json.dumps(value)}" for name, value in details.items())
