"""`rkfleet nodes`: the boards as the server knows them."""

import re
from typing import Annotated, Any

import typer

from fleet.cli.client import EXIT_CODES, ago, as_filter, connected, dig, node_path, now, one_node, pages
from fleet.cli.nodes_view import shown, summary
from fleet.cli.output import AsJson, show, table

FILTERS = (
    "A filter names boards by what they are: `site=plant1 and soc=rk3588 and not group=canary`, `health!=ok`, "
    "`seen>10m`, `model=pcb-unet and version<1.2`, `label.rack=7`; `all` names every board. docs/rollouts.md has all."
)
app = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode=None,
    help=f"Boards: what they are, what they run, how they are.\n\n{FILTERS}\n\n{EXIT_CODES}",
)
Node = Annotated[str, typer.Argument(help="A board: site/node.", metavar="SITE/NODE")]
Target = Annotated[str, typer.Argument(help="A board (site/node), or a filter in quotes.", metavar="TARGET")]
_LABEL = re.compile(r"([A-Za-z0-9._:-]{1,64})(?:=(.*)|(-))", re.DOTALL)
_MOST = 100_000


@app.command("list")
def list_nodes(
    target: Target = "",
    *,
    limit: Annotated[int, typer.Option(min=1, max=_MOST, help="At most so many.")] = _MOST,
    as_json: AsJson = False,
) -> None:
    """Boards that a filter names; without one, all.

    $ rkfleet nodes list

    $ rkfleet nodes list 'site=plant1 and health!=ok'

    $ rkfleet nodes list 'seen>1h' --json
    """
    with connected(as_json=as_json) as api:
        found = list(pages(api, "/nodes", "nodes", {"filter": as_filter(target) or None}, limit))
        at = now()
        rows = [
            [node["id"], dig(node, "group"), dig(node, "health", "state"), summary(node.get("model")),
             dig(node, "model", "phase"), dig(node, "agentVersion"), ago(dig(node, "lastSeen"), at),
             len(node.get("alarms") or [])]
            for node in found
        ]  # fmt: skip
        columns = ["board", "group", "health", "model", "phase", "agent", "seen", "alarms"]
        show({"nodes": found}, table(f"Boards: {len(found)}", columns, rows), as_json=as_json)


@app.command("show")
def show_node(node: Node, *, as_json: AsJson = False) -> None:
    """All that is known of one board.

    $ rkfleet nodes show plant1/board-7

    $ rkfleet nodes show plant1/board-7 --json | jq .telemetry.host
    """
    with connected(as_json=as_json) as api:
        document = api.get(node_path(node))
        show(document, shown(document, now()), as_json=as_json)


@app.command()
def label(
    target: Target,
    labels: Annotated[list[str] | None, typer.Argument(help="name=value sets a label, name- takes it away.")] = None,
    *,
    group: Annotated[str | None, typer.Option(help="The group; an empty text takes it away.")] = None,
    as_json: AsJson = False,
) -> None:
    """Set labels and the group of a board, or of all that a filter names.

    $ rkfleet nodes label plant1/board-7 rack=7 spare- --group canary

    $ rkfleet nodes label 'site=plant1 and line=smt-2' shift=night
    """
    body: dict[str, Any] = {"labels": dict(_label(each) for each in labels or [])}
    if group is not None:
        body["group"] = group
    if not labels and group is None:
        raise typer.BadParameter("nothing to set: give labels, or --group")
    with connected(as_json=as_json) as api:
        names = [target] if one_node(target) else [
            each["id"] for each in pages(api, "/nodes", "nodes", {"filter": target}, _MOST)
        ]  # fmt: skip
        changed = [api.send("PATCH", node_path(name), body) for name in names]
        rows = [[each["id"], dig(each, "group"), _words(each.get("labels"))] for each in changed]
        words = table(f"Boards: {len(changed)}", ["board", "group", "labels"], rows)
        show({"nodes": changed}, words, as_json=as_json)


@app.command()
def remove(
    node: Node,
    *,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    as_json: AsJson = False,
) -> None:
    """Take a board out of the fleet, with its labels and alarms; its results stay.

    A board that is still connected appears again with its next message.

    $ rkfleet nodes remove plant1/board-7
    """
    where = node_path(node)
    if not yes:
        typer.confirm(f"Remove {node} from the fleet?", abort=True, err=True)
    with connected(as_json=as_json) as api:
        api.send("DELETE", where)
        show({"removed": node}, f"{node} is removed.", as_json=as_json)


@app.command("set-model")
def set_model(
    node: Node,
    name: Annotated[str, typer.Argument(help="The model's name; `rkfleet nodes models` lists them.")],
    version: Annotated[str, typer.Argument(help="Its version.")],
    *,
    as_json: AsJson = False,
) -> None:
    """Give one board a model by hand, outside of any rollout; a rollout that has the board gives it up.

    $ rkfleet nodes set-model plant1/board-7 pcb-unet 1.1.0
    """
    with connected(as_json=as_json) as api:
        desired = api.send("POST", node_path(node, "model"), {"name": name, "version": version})
        words = f"{node} is told to run {name} {version}; `rkfleet nodes show {node}` shows how far it is."
        show(desired, words, as_json=as_json)


@app.command()
def models(*, as_json: AsJson = False) -> None:
    """Models that the server offers to boards, with the digest that a rollout names.

    $ rkfleet nodes models
    """
    with connected(as_json=as_json) as api:
        document = api.get("/models")
        rows = [
            [each["name"], each["version"], " ".join(each.get("targets") or []), each["manifestSha256"]]
            for each in document["models"]
        ]
        show(document, table("Models", ["name", "version", "targets", "manifestSha256"], rows), as_json=as_json)


def _label(text: str) -> tuple[str, str | None]:
    found = _LABEL.fullmatch(text)
    if found is None:
        raise typer.BadParameter(f"{text!r} is no label: write name=value, or name- to take it away")
    return found[1], None if found[3] else found[2]


def _words(labels: Any) -> str:
    return " ".join(f"{name}={value}" for name, value in sorted((labels or {}).items()))
