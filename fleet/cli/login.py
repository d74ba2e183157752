"""`rkfleet login`, `logout` and `whoami`."""

from dataclasses import replace
from typing import Annotated, Any
from urllib.parse import urlsplit

import typer

from fleet.cli import session as kept
from fleet.cli.client import connected, dig, told, when
from fleet.cli.output import AsJson, note, show
from fleet.cli.secret import FromStdin, asked, first_line
from fleet.cli.session import Session
from fleet.errors import FleetError


def login(
    server: Annotated[
        str, typer.Argument(help="Its address; else RKFLEET_SERVER, else the one of the last login.")
    ] = "",
    *,
    name: Annotated[str, typer.Option("--name", help="Your user's name; asked for where it is not given.")] = "",
    password_stdin: FromStdin = False,
    token_stdin: Annotated[bool, typer.Option("--token-stdin", help="Keep a token from stdin; no password.")] = False,
    as_json: AsJson = False,
) -> None:
    """Log in, and keep the address and a token for later commands.

    They are kept in $XDG_CONFIG_HOME/rkfleet/server.toml (~/.config/rkfleet), which you alone may read. The password is
    asked for, or comes from stdin or RKFLEET_PASSWORD. RKFLEET_SERVER and RKFLEET_TOKEN need no login at all.

    $ rkfleet login https://fleet.example --name ada

    $ rkfleet login http://127.0.0.1:8870 --token-stdin < data/admin-token
    """
    if token_stdin and (name or password_stdin):
        raise typer.BadParameter("a token says by itself who you are: give --token-stdin alone")
    with told(as_json=as_json):
        at = Session(server.rstrip("/")) if server else replace(kept.session(), token="")
        if token_stdin:
            at = replace(at, token=kept.checked(first_line(), "stdin"))
    with connected(as_json=as_json, to=at) as api:
        _warn(at.server, as_json=as_json)
        if not token_stdin:
            name = name or str(typer.prompt("Name", err=True))
            secret = asked(name, from_stdin=password_stdin, variable="RKFLEET_PASSWORD")
            answer = api.send("POST", "/login", {"name": name, "password": secret})
            at = replace(at, token=kept.checked(str(answer["token"]), "the server's answer"))
            expires = dig(answer, "expiresAt")
    if token_stdin:
        expires = ""
    with connected(as_json=as_json, to=at) as api:
        me = api.get("/me")
        file = kept.keep(at)
    words = f"Logged in at {at.server} as {me['name']} ({me['role']})" + (f", until {when(expires)}" if expires else "")
    document = {"server": at.server, "name": me["name"], "role": me["role"], "expiresAt": expires or None}
    show(document, f"{words}. Kept in {file}.", as_json=as_json)


def logout(*, as_json: AsJson = False) -> None:
    """Forget the address and the token that `rkfleet login` has kept, and end the login at the server.

    $ rkfleet logout
    """
    with told(as_json=as_json):
        try:
            _end(kept.kept())
        except FleetError as error:
            note(f"The login was not ended at the server, it lasts until it expires: {error.text}", as_json=as_json)
        was_there = kept.forget()
    show({"wasLoggedIn": was_there}, "Logged out." if was_there else "Nobody was logged in.", as_json=as_json)


def password(*, as_json: AsJson = False) -> None:
    """Change your own password; it ends your logins elsewhere.

    Both are asked for, or come from RKFLEET_PASSWORD and RKFLEET_NEW_PASSWORD.

    $ rkfleet password
    """
    with connected(as_json=as_json) as api:
        old = asked("yours as it is", from_stdin=False, variable="RKFLEET_PASSWORD")
        new = asked("yours from now on", from_stdin=False, variable="RKFLEET_NEW_PASSWORD", is_new=True)
        api.send("POST", "/me/password", {"old": old, "new": new})
        show({"changed": True}, "Your password is changed.", as_json=as_json)


def whoami(*, as_json: AsJson = False) -> None:
    """Who you are at which server, and what you may do there.

    $ rkfleet whoami
    """
    with connected(as_json=as_json) as api:
        me: dict[str, Any] = api.get("/me")
        words = f"{me['name']} ({me['role']}) at {api.server}\nrights: {', '.join(sorted(me['rights']))}"
        show({"server": api.server, **me}, words, as_json=as_json)


def _end(last: Session | None) -> None:
    """A login ends; a token that was made for longer stays, as others may use it. Raises FleetError."""
    from fleet.adapters.api_http import ApiHttp, path  # noqa: PLC0415  httpx is slow to import

    if last is None:
        return
    with ApiHttp(last.server, last.token) as api:
        token_id = str(api.get("/me")["tokenId"])
        if token_id.startswith("login-"):
            api.send("DELETE", path("tokens", token_id))


def _warn(server: str, *, as_json: bool) -> None:
    parts = urlsplit(server)
    if parts.scheme == "http" and parts.hostname not in {"127.0.0.1", "::1", "localhost"}:
        note(f"{server} is not encrypted: whoever is on the way can read the password and the token", as_json=as_json)
