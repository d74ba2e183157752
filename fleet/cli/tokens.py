"""`rkfleet tokens`: what programs log in with."""

from typing import Annotated, Any

import typer

from fleet.cli.client import EXIT_CODES, connected, dig, when
from fleet.cli.output import AsJson, note, show, table
from fleet.cli.users import ROLES, Role

app = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode=None,
    help=f"Tokens: what programs log in with (RKFLEET_TOKEN).\n\n{ROLES}\n\n{EXIT_CODES}",
)
OfUser = Annotated[str | None, typer.Option("--user", help="Another user's; else yours.")]


@app.command("list")
def list_tokens(*, user: OfUser = None, as_json: AsJson = False) -> None:
    """Tokens: what they may, until when, when they were last used. The secrets themselves are kept nowhere.

    $ rkfleet tokens list --user mes
    """
    with connected(as_json=as_json) as api:
        found = api.get("/tokens", {"user": user})
        rows = [
            [each["id"], each["user"], each["role"], each["description"], when(dig(each, "createdAt")),
             "revoked" if each.get("revokedAt") else when(dig(each, "expiresAt")) or "never",
             when(dig(each, "lastUsedAt")) or "never"]
            for each in found["tokens"]
        ]  # fmt: skip
        columns = ["id", "user", "role", "for", "created", "expires", "used"]
        show(found, table("Tokens", columns, rows), as_json=as_json)


@app.command()
def create(
    description: Annotated[str, typer.Argument(help="What it is for.")],
    *,
    role: Annotated[Role, typer.Option(help="What it may do; never more than its user.")] = Role.VIEWER,
    days: Annotated[
        int | None, typer.Option("--expires-days", min=1, max=3650, help="Else it does not expire.")
    ] = None,
    user: OfUser = None,
    as_json: AsJson = False,
) -> None:
    """Make a token. It is shown this once, alone on stdout, so that a pipe can take it.

    $ rkfleet tokens create "the MES" --expires-days 365 > mes-token
    """
    body: dict[str, Any] = {"role": role.value, "description": description}
    body |= {"expiresInDays": days} if days is not None else {}
    body |= {"user": user} if user is not None else {}
    with connected(as_json=as_json) as api:
        made = api.send("POST", "/tokens", body)
        note(f"Token {made['id']}; whoever has it may what a {role.value} may. It is not shown again.", as_json=as_json)
        show(made, str(made["token"]), as_json=as_json)


@app.command()
def revoke(
    token: Annotated[str, typer.Argument(help="Its id, from `list`.", metavar="ID")], *, as_json: AsJson = False
) -> None:
    """End a token, at once and for good.

    $ rkfleet tokens revoke t-4f1c
    """
    from fleet.adapters.api_http import path  # noqa: PLC0415  httpx is slow to import

    if token.startswith("rkf_"):
        raise typer.BadParameter(
            "that is the token itself, which others can see now: give its id, from `rkfleet tokens list`"
        )
    with connected(as_json=as_json) as api:
        api.send("DELETE", path("tokens", token))
        show({"revoked": token}, f"{token} opens nothing any more.", as_json=as_json)
