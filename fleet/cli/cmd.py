"""`rkfleet cmd`: one question to a board, or to many, and their answers."""

from collections.abc import Mapping, Sequence
from enum import StrEnum
from typing import Annotated, Any

import typer

from fleet.cli.client import EXIT_CODES, connected, dig, node_path, one_node
from fleet.cli.output import AsJson, Exit, show, table

app = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode=None,
    help="Questions that a board answers at once. TARGET is a board (site/node), or a filter in quotes that names at "
    "most 200.\n\nExit code 0 when every board has said yes, 1 when one said no, 5 when one did not answer in time.\n\n"
    f"{EXIT_CODES}",
)
Target = Annotated[str, typer.Argument(help="A board (site/node), or a filter in quotes.", metavar="TARGET")]
Timeout = Annotated[float, typer.Option("--timeout", min=0.1, max=30, help="Seconds to wait for the answers.")]
_TIMEOUT_S = 5.0
_MOST = 2**53 - 1


class Lot(StrEnum):
    OPEN = "open"
    CLOSED = "closed"


@app.command()
def ping(target: Target, *, timeout_s: Timeout = _TIMEOUT_S, as_json: AsJson = False) -> None:
    """Is the agent's control loop alive?

    $ rkfleet cmd ping plant1/board-7

    $ rkfleet cmd ping 'line=smt-2' --timeout 10
    """
    _ask(target, "ping", {}, timeout_s, as_json=as_json)


@app.command()
def rebirth(target: Target, *, timeout_s: Timeout = _TIMEOUT_S, as_json: AsJson = False) -> None:
    """Have status, info and all alarms published again.

    $ rkfleet cmd rebirth plant1/board-7
    """
    _ask(target, "rebirth", {}, timeout_s, as_json=as_json)


@app.command()
def replay(
    target: Annotated[str, typer.Argument(help="The board.", metavar="SITE/NODE")],
    boot_id: Annotated[str, typer.Argument(help="`bootId` of the results.")],
    first: Annotated[int, typer.Argument(min=1, max=_MOST, help="The first `sequenceNumber`.")],
    last: Annotated[int, typer.Argument(min=1, max=_MOST, help="The last one.")],
    *,
    as_json: AsJson = False,
) -> None:
    """Have results published again, as far as the board still has them. The server does so by itself for gaps.

    $ rkfleet cmd replay plant1/board-7 6f1c2a 100 250
    """
    if one_node(target) is None:
        raise typer.BadParameter(f"{target!r} is no board: a boot belongs to one, site/node")
    if last < first:
        raise typer.BadParameter("LAST is before FIRST")
    fields = {"bootId": boot_id, "firstSequenceNumber": first, "lastSequenceNumber": last}
    _ask(target, "replay", fields, _TIMEOUT_S, as_json=as_json)


@app.command("cancel-update")
def cancel_update(
    target: Target,
    generation: Annotated[int, typer.Argument(min=1, max=_MOST, help="Of the desired model.")],
    *,
    timeout_s: Timeout = _TIMEOUT_S,
    as_json: AsJson = False,
) -> None:
    """Take an update back that is not committed. Boards of a rollout: `rkfleet rollout abort`.

    $ rkfleet cmd cancel-update plant1/board-7 12
    """
    _ask(target, "cancel-update", {"generation": generation}, timeout_s, as_json=as_json)


@app.command()
def lot(
    target: Target,
    lot_id: Annotated[str, typer.Argument(help="The lot.")],
    state: Annotated[Lot, typer.Argument(help="What it is now.")],
    *,
    timeout_s: Timeout = _TIMEOUT_S,
    as_json: AsJson = False,
) -> None:
    """A lot begins or ends: updates that wait for the end of a lot wait while any is open.

    $ rkfleet cmd lot 'line=smt-1' L-17 open
    """
    _ask(target, "lot", {"lotId": lot_id, "state": state.value}, timeout_s, as_json=as_json)


def _ask(target: str, name: str, fields: Mapping[str, Any], timeout_s: float, *, as_json: bool) -> None:
    body = {"name": name, "fields": fields, "timeoutS": timeout_s}
    with connected(as_json=as_json) as api:
        if one_node(target) is not None:
            answers = [api.send("POST", node_path(target, "commands"), body)]
        else:
            answers = api.send("POST", "/commands", {"filter": target, **body})["replies"]
    rows = [[each["node"], *_words(each["reply"])] for each in answers]
    show({"replies": answers}, table(name, ["board", "answer", ""], rows), as_json=as_json)
    _end(answers)


def _words(reply: Any) -> tuple[str, str]:
    if reply is None:
        return "none in time", ""
    if not reply["ok"]:
        return "no", f"{dig(reply, 'failure', 'code')}: {dig(reply, 'failure', 'text')}"
    return "ok", " ".join(f"{name}={value}" for name, value in (reply.get("output") or {}).items())


def _end(answers: Sequence[Mapping[str, Any]]) -> None:
    if any(each["reply"] is not None and not each["reply"]["ok"] for each in answers):
        raise typer.Exit(Exit.FAILED)
    if any(each["reply"] is None for each in answers):
        raise typer.Exit(Exit.UNREACHABLE)
