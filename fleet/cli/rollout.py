"""`rkfleet rollout`: a model to many boards, in waves."""

from collections.abc import Mapping
from enum import StrEnum
from typing import Annotated, Any

import typer

from fleet.cli.client import EXIT_CODES, as_filter, connected, read_text, when
from fleet.cli.output import AsJson, note, show, table
from fleet.cli.rollout_example import EXAMPLE
from fleet.cli.rollout_view import counts, headline, shown
from fleet.cli.rollout_watch import follow, rollout_path

app = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode=None,
    help=f"Rollouts: a model to many boards, in waves, with gates; see docs/rollouts.md.\n\n{EXIT_CODES}",
)
Id = Annotated[str, typer.Argument(help="The rollout; `rkfleet rollout list` shows them.", metavar="ID")]
Reason = Annotated[str, typer.Option("--reason", help="Why; others will read it.")]
_MOST_BYTES = 1 << 20


class OnAbort(StrEnum):
    KEEP = "keep"
    REVERT = "revert"


@app.command()
def example() -> None:
    """Print a rollout to begin with, every field explained.

    $ rkfleet rollout example > better-solder.yaml
    """
    typer.echo(EXAMPLE, nl=False)


@app.command()
def create(
    file: Annotated[str, typer.Argument(help="The rollout in YAML or JSON; - is stdin.", metavar="FILE")],
    *,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Show which board would be in which wave; change nothing.")
    ] = False,
    allow_empty: Annotated[bool, typer.Option("--allow-empty", help="Create it though no board is named now.")] = False,
    watch_it: Annotated[
        bool, typer.Option("--watch", help="Watch it until its end; exit code 0 if it finishes.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Create a rollout; it begins at once, or at its start time.

    $ rkfleet rollout create better-solder.yaml --dry-run

    $ rkfleet rollout create better-solder.yaml --watch
    """  # fmt: skip
    with connected(as_json=as_json) as api:
        text = read_text(file, _MOST_BYTES)
        if dry_run:
            _show_placements(api.post_text("/rollouts", text, "application/yaml", {"dryRun": True}), as_json=as_json)
            return
        made = api.post_text("/rollouts", text, "application/yaml", {"allowEmpty": True} if allow_empty else None)
        if not (watch_it and as_json):
            show(
                made,
                f"{shown(made, with_members=False)}\n`rkfleet rollout watch {made['id']}` follows it.",
                as_json=as_json,
            )
        if watch_it:
            follow(api, made["id"], as_json=as_json)


@app.command("list")
def list_rollouts(
    *,
    limit: Annotated[int, typer.Option(min=1, max=1000, help="At most so many, the newest first.")] = 50,
    as_json: AsJson = False,
) -> None:
    """Rollouts, the newest first.

    $ rkfleet rollout list
    """
    with connected(as_json=as_json) as api:
        document = api.get("/rollouts", {"limit": limit})
        rows = [
            [each["id"], each["name"], f"{each['model']['name']} {each['model']['version']}", each["state"],
             counts(each.get("members") or {}), when(each["createdAt"]), each["createdBy"]]
            for each in document["rollouts"]
        ]  # fmt: skip
        columns = ["id", "name", "model", "state", "boards", "created", "by"]
        show(document, table("Rollouts", columns, rows), as_json=as_json)


@app.command("show")
def show_rollout(
    rollout: Id,
    *,
    members: Annotated[bool, typer.Option("--members", help="Every board, not only those with an error.")] = False,
    as_json: AsJson = False,
) -> None:
    """Waves, gates, and what went wrong.

    $ rkfleet rollout show better-solder-4f1c2a77 --members
    """
    with connected(as_json=as_json) as api:
        document = api.get(rollout_path(rollout))
        show(document, shown(document, with_members=members), as_json=as_json)


@app.command()
def watch(rollout: Id, *, as_json: AsJson = False) -> None:
    """Follow a rollout to its end: waves as bars, counts, gates. One line a change where nobody watches.

    Exit code 0 when it has FINISHED, 1 when it was STOPPED. --json prints the whole rollout at each change.

    $ rkfleet rollout watch better-solder-4f1c2a77 && echo done
    """
    with connected(as_json=as_json) as api:
        follow(api, rollout, as_json=as_json)


@app.command()
def pause(rollout: Id, *, reason: Reason = "", as_json: AsJson = False) -> None:
    """Start nothing new; what is under way goes on, and rules that abort still do.

    $ rkfleet rollout pause better-solder-4f1c2a77 --reason "line 2 is being cleaned"
    """
    _act(rollout, "pause", {"reason": reason}, as_json=as_json)


@app.command()
def resume(rollout: Id, *, as_json: AsJson = False) -> None:
    """Go on; a rule that has paused the rollout is overruled.

    $ rkfleet rollout resume better-solder-4f1c2a77
    """
    _act(rollout, "resume", None, as_json=as_json)


@app.command()
def abort(
    rollout: Id,
    *,
    reason: Reason = "",
    on_abort: Annotated[
        OnAbort | None, typer.Option("--on-abort", help="Keep the new model, or go back; else as the file says.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """End it: nothing new is started, and boards go back, or keep what they have.

    $ rkfleet rollout abort better-solder-4f1c2a77 --reason "false alarms" --on-abort keep
    """
    _act(rollout, "abort", {"reason": reason, **({"onAbort": on_abort.value} if on_abort else {})}, as_json=as_json)


@app.command()
def confirm(
    rollout: Id, wave: Annotated[str, typer.Argument(help="The wave that waits.")], *, as_json: AsJson = False
) -> None:
    """Let a wave begin that waits for confirmation.

    $ rkfleet rollout confirm better-solder-4f1c2a77 rest
    """
    _act(rollout, "confirm", {"wave": wave}, as_json=as_json)


@app.command()
def retry(
    rollout: Id,
    target: Annotated[
        str, typer.Argument(help="A board (site/node), or a filter in quotes.", metavar="TARGET")
    ] = "all",
    *,
    as_json: AsJson = False,
) -> None:
    """Try boards again that have failed.

    $ rkfleet rollout retry better-solder-4f1c2a77

    $ rkfleet rollout retry better-solder-4f1c2a77 'site=plant1 and line=smt-2'
    """
    _act(rollout, "retry", {"filter": as_filter(target)}, as_json=as_json)


def _act(rollout: str, action: str, body: Mapping[str, Any] | None, *, as_json: bool) -> None:
    with connected(as_json=as_json) as api:
        document = api.send("POST", rollout_path(rollout, action), body)
        show(document, headline(document), as_json=as_json)


def _show_placements(answer: Any, *, as_json: bool) -> None:
    placements = answer["placements"]
    rows = [[each["wave"], each["node"], "has it already" if each["hasModel"] else ""] for each in placements]
    words = table(f"Boards: {len(rows)}; none is told anything yet", ["wave", "board", ""], rows)
    show(answer, words if rows else "The target names no board that is there now.", as_json=as_json)
    if as_json:
        return
    if rows:
        show(None, "; ".join(f"wave {name}: {count} boards" for name, count in answer["waves"].items()), as_json=False)
    for other, count in answer["taken"].items():
        note(f"{count} of them would be taken from rollout {other}, which then counts and reverts them no more")
