"""`rkfleet users`: who may log in, and as what."""

from enum import StrEnum
from typing import Annotated, Any

import typer

from fleet.cli.client import EXIT_CODES, connected, dig, when
from fleet.cli.output import AsJson, show, table
from fleet.cli.secret import FromStdin, asked

ROLES = (
    "Roles: viewer sees; operator also labels, asks boards, runs jobs and rollouts and reads the audit; publisher sees "
    "and publishes models; admin may everything."
)
app = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode=None,
    help=f"Users, their roles, their passwords.\n\n{ROLES}\n\nA password is asked for, or comes from stdin "
    f"(--password-stdin) or RKFLEET_NEW_PASSWORD.\n\n{EXIT_CODES}",
)
Name = Annotated[str, typer.Argument(help="The user's name: a-z, 0-9, . _ @ -")]
_VARIABLE = "RKFLEET_NEW_PASSWORD"


class Role(StrEnum):
    VIEWER = "viewer"
    OPERATOR = "operator"
    PUBLISHER = "publisher"
    ADMIN = "admin"


@app.command("list")
def list_users(*, as_json: AsJson = False) -> None:
    """All users.

    $ rkfleet users list
    """
    with connected(as_json=as_json) as api:
        found = api.get("/users")
        rows = [[each["name"], each["role"], "yes" if each["isActive"] else "locked", when(dig(each, "createdAt"))]
                for each in found["users"]]  # fmt: skip
        show(found, table("Users", ["name", "role", "active", "since"], rows), as_json=as_json)


@app.command()
def add(
    name: Name,
    *,
    role: Annotated[Role, typer.Option(help="What the user may do.")] = Role.VIEWER,
    no_password: Annotated[bool, typer.Option("--no-password", help="For programs: they get tokens.")] = False,
    password_stdin: FromStdin = False,
    as_json: AsJson = False,
) -> None:
    """Add a user.

    $ rkfleet users add ada --role operator

    $ rkfleet users add mes --no-password

    $ rkfleet tokens create "the MES" --user mes
    """
    if no_password and password_stdin:
        raise typer.BadParameter("--no-password and --password-stdin say different things")
    body: dict[str, Any] = {"name": name, "role": role.value}
    if not no_password:
        body["password"] = asked(name, from_stdin=password_stdin, variable=_VARIABLE, is_new=True)
    with connected(as_json=as_json) as api:
        made = api.send("POST", "/users", body)
        show(made, f"{name} is a user now ({role.value}).", as_json=as_json)


@app.command()
def change(
    name: Name,
    *,
    role: Annotated[Role | None, typer.Option(help="A new role.")] = None,
    active: Annotated[bool | None, typer.Option("--active/--locked", help="Who is locked gets in nowhere.")] = None,
    new_password: Annotated[bool, typer.Option("--password", help="Ask for a new password.")] = False,
    password_stdin: FromStdin = False,
    as_json: AsJson = False,
) -> None:  # fmt: skip
    """Change a user's role or password, or lock a user out.

    $ rkfleet users change ada --role admin

    $ rkfleet users change bob --locked

    $ rkfleet users change ada --password
    """
    body: dict[str, Any] = {"role": role.value} if role else {}
    if active is not None:
        body["isActive"] = active
    if new_password or password_stdin:
        body["password"] = asked(name, from_stdin=password_stdin, variable=_VARIABLE, is_new=True)
    if not body:
        raise typer.BadParameter("nothing to change: give --role, --active, --locked or --password")
    with connected(as_json=as_json) as api:
        from fleet.adapters.api_http import path  # noqa: PLC0415  httpx is slow to import

        made = api.send("PATCH", path("users", name), body)
        state = "active" if made["isActive"] else "locked"
        show(made, f"{name}: {made['role']}, {state}.", as_json=as_json)
