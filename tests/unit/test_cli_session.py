"""`rkfleet login` and what it keeps; users, tokens, the audit."""

import json
import os
import re
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from fleet.cli import session as kept
from fleet.cli.session import DEFAULT_SERVER, Session
from fleet.cli.users import Role as RoleOfCommands
from fleet.core.access import Role
from fleet.errors import Permanent
from tests.unit.cli_kit import PASSWORD, World, world

TOKEN = "rkf_" + "a" * 43
OTHER = "rkf_" + "b" * 43


@pytest.fixture(scope="module")
def fleet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    with world(tmp_path_factory.mktemp("world")) as made:
        yield made


@pytest.fixture
def home(tmp_path: Path) -> dict[str, str]:
    return {"XDG_CONFIG_HOME": str(tmp_path)}


def file_of(home: dict[str, str]) -> Path:
    return Path(home["XDG_CONFIG_HOME"]) / "rkfleet" / "server.toml"


def test_the_roles_are_those_of_the_server() -> None:
    assert [each.value for each in RoleOfCommands] == [each.value for each in Role]


def test_a_login_is_kept_for_its_user_alone(home: dict[str, str]) -> None:
    old = os.umask(0)
    try:
        file = kept.keep(Session("https://fleet.example", TOKEN), home)
    finally:
        os.umask(old)
    assert file == file_of(home)
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert stat.S_IMODE(file.parent.stat().st_mode) == 0o700
    assert [each.name for each in file.parent.iterdir()] == ["server.toml"]
    assert kept.session(home) == Session("https://fleet.example", TOKEN)


def test_a_login_is_kept_whole_or_as_it_was(home: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    file = kept.keep(Session("https://fleet.example", TOKEN), home)

    def full(_: int) -> None:
        raise OSError("the disk is full")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="full"):
        kept.keep(Session("https://other.example", OTHER), home)
    assert kept.session(home).token == TOKEN
    assert [each.name for each in file.parent.iterdir()] == ["server.toml"]


@pytest.mark.parametrize(
    ("env", "server", "token"),
    [
        pytest.param({}, "https://fleet.example", TOKEN, id="as kept"),
        pytest.param({"RKFLEET_TOKEN": OTHER}, "https://fleet.example", OTHER, id="another token"),
        pytest.param({"RKFLEET_SERVER": "https://x.example"}, "https://x.example", "", id="a token is for its server"),
        pytest.param({"RKFLEET_SERVER": "https://fleet.example/"}, "https://fleet.example", TOKEN, id="the same"),
        pytest.param({"RKFLEET_SERVER": "http://x", "RKFLEET_TOKEN": OTHER}, "http://x", OTHER, id="both"),
    ],
)  # fmt: skip
def test_the_environment_goes_before_what_is_kept(
    home: dict[str, str], env: dict[str, str], server: str, token: str
) -> None:
    kept.keep(Session("https://fleet.example", TOKEN), home)
    assert kept.session({**home, **env}) == Session(server, token)


def test_without_anything_it_is_the_local_server(home: dict[str, str]) -> None:
    assert kept.session(home) == Session(DEFAULT_SERVER)


def test_a_token_is_not_shown_by_accident() -> None:
    assert TOKEN not in repr(Session("http://x", TOKEN))


@pytest.mark.parametrize("text", ["", "server = 7", "not toml", 'server = "x"\ntoken = "secret"', "\x00"])
def test_a_damaged_file_is_told_and_can_be_left_behind(fleet: World, home: dict[str, str], text: str) -> None:
    file_of(home).parent.mkdir()
    file_of(home).write_text(text)
    file_of(home).chmod(0o600)
    with pytest.raises(Permanent, match=r"logout|no token"):
        kept.session(home)
    assert fleet.run("logout", XDG_CONFIG_HOME=home["XDG_CONFIG_HOME"]).exit_code == 0
    assert not file_of(home).exists()


def test_a_file_that_others_may_read_is_not_used(home: dict[str, str]) -> None:
    kept.keep(Session("http://x", TOKEN), home).chmod(0o644)
    with pytest.raises(Permanent, match="chmod 600"):
        kept.session(home)


def test_login_keeps_a_token_and_logout_ends_it(fleet: World, home: dict[str, str]) -> None:
    said = fleet.run("login", fleet.url, role=None, stdin=f"operator\n{PASSWORD}\n", **home)
    assert said.exit_code == 0, said.output
    assert f"Logged in at {fleet.url} as operator (operator), until 20" in said.stdout
    assert PASSWORD not in said.output
    token = kept.session(home).token
    assert token not in said.output
    assert "rights: audit, command" in fleet.text("whoami", role=None, **home)
    assert fleet.read("whoami", role=None, **home)["name"] == "operator"
    assert fleet.read("logout", role=None, **home) == {"wasLoggedIn": True}
    assert "Nobody" in fleet.text("logout", role=None, **home)
    ended = fleet.run("whoami", role=None, RKFLEET_TOKEN=token, **home)
    assert (ended.exit_code, "rkfleet login" in ended.stderr) == (4, True)


def test_passwords_come_from_stdin_or_the_environment_for_scripts(fleet: World, home: dict[str, str]) -> None:
    words = ("login", "--name", "viewer")
    assert fleet.read(*words, "--password-stdin", role=None, stdin=f"{PASSWORD}\n", **home)["role"] == "viewer"
    assert fleet.read(*words, role=None, RKFLEET_PASSWORD=PASSWORD, **home)["name"] == "viewer"


def test_a_token_is_kept_after_it_was_tried(fleet: World, home: dict[str, str]) -> None:
    said = fleet.read("login", fleet.url, "--token-stdin", role=None, stdin=fleet.tokens[Role.ADMIN] + "\n", **home)
    assert said["name"] == "admin"
    assert kept.session(home) == Session(fleet.url, fleet.tokens[Role.ADMIN])
    for bad, code in ((OTHER, 4), ("rkf_short", 1), ("", 2)):
        assert fleet.run("login", fleet.url, "--token-stdin", role=None, stdin=bad, **home).exit_code == code
    assert kept.session(home).token == fleet.tokens[Role.ADMIN]
    assert fleet.run("logout", role=None, **home).exit_code == 0
    assert fleet.read("whoami")["name"] == "admin", "a token that was made for longer is not ended"


def test_a_wrong_password_keeps_nothing(fleet: World, home: dict[str, str]) -> None:
    ended = fleet.run("login", "--name", "viewer", "--password-stdin", role=None, stdin="wrong password\n", **home)
    assert ended.exit_code == 4
    assert ended.stderr.strip() == "the name or the password is wrong"
    assert not file_of(home).exists()


@pytest.mark.parametrize("words", [["--token-stdin", "--name", "ada"], ["--token-stdin", "--password-stdin"]])
def test_a_login_is_by_one_thing(fleet: World, words: list[str]) -> None:
    assert fleet.run("login", *words, stdin="x\n").exit_code == 2


def test_a_way_that_others_can_read_is_warned_of(fleet: World, home: dict[str, str]) -> None:
    away = fleet.url.replace("127.0.0.1", "127.0.0.2")
    ended = fleet.run("login", away, "--token-stdin", role=None, stdin=TOKEN, **home)
    assert ended.exit_code == 5
    assert f"no server at {away}" in ended.stderr
    assert "is not encrypted" in ended.stderr


def test_one_changes_ones_own_password(fleet: World) -> None:
    fleet.text("users", "add", "bo", RKFLEET_NEW_PASSWORD=PASSWORD)
    token = fleet.read("tokens", "create", "tests", "--user", "bo")["token"]
    new = {"RKFLEET_NEW_PASSWORD": "another long password"}
    wrong = fleet.run("password", role=None, RKFLEET_TOKEN=token, RKFLEET_PASSWORD="not it", **new)
    assert wrong.exit_code == 4
    assert fleet.read("password", role=None, RKFLEET_TOKEN=token, RKFLEET_PASSWORD=PASSWORD, **new) == {"changed": True}
    asked = fleet.run(
        "password", role=None, RKFLEET_TOKEN=token, stdin=f"another long password\n{PASSWORD}\n{PASSWORD}\n"
    )
    assert asked.exit_code == 0, asked.output


def test_users_are_added_and_changed(fleet: World) -> None:
    said = fleet.run("users", "add", "ada", "--role", "operator", stdin=f"{PASSWORD}\n{PASSWORD}\n")
    assert said.exit_code == 0
    assert PASSWORD not in said.output
    assert fleet.read("users", "add", "mes", "--no-password")["role"] == "viewer"
    assert fleet.run("users", "add", "ada", "--no-password").exit_code == 4
    assert "ada: admin, active." in fleet.text("users", "change", "ada", "--role", "admin")
    assert not fleet.read("users", "change", "ada", "--locked")["isActive"]
    row = next(row for row in fleet.text("users", "list").splitlines() if row.startswith("ada"))
    assert row.split()[:3] == ["ada", "admin", "locked"]
    fleet.text("users", "change", "ada", "--password-stdin", "--active", stdin="yet another password\n")
    assert {"ada", "mes"} <= {each["name"] for each in fleet.read("users", "list")["users"]}


@pytest.mark.parametrize(
    ("words", "code", "text"),
    [
        (["add", "Ada", "--no-password"], 1, "name"),
        (["add", "x", "--password-stdin"], 1, "at least 10"),
        (["add", "x", "--no-password", "--password-stdin"], 2, "different things"),
        (["change", "ada"], 2, "nothing to change"),
        (["change", "nobody", "--locked"], 3, "nobody"),
        (["change", "admin", "--locked"], 4, "last active admin"),
        (["add", "x", "--role", "king"], 2, "king"),
    ],
)
def test_users_that_cannot_be_end_with_a_reason(fleet: World, words: list[str], code: int, text: str) -> None:
    if words[:2] == ["change", "admin"]:
        fleet.run("users", "change", "ada", "--role", "viewer")
    ended = fleet.run("users", *words, stdin="short\n")
    assert (ended.exit_code, text in ended.stderr) == (code, True), ended.stderr


def test_a_token_is_shown_once_and_revoked(fleet: World) -> None:
    said = fleet.run("tokens", "create", "the MES", "--expires-days", "30")
    token = said.stdout.strip()
    assert re.fullmatch(r"rkf_[A-Za-z0-9_-]{43}", token)
    token_id = re.findall(r"t-[0-9a-f]+", said.stderr)[0]
    assert fleet.read("whoami", role=None, RKFLEET_TOKEN=token)["rights"] == ["read"]
    row = next(row for row in fleet.text("tokens", "list").splitlines() if token_id in row)
    assert "the MES" in row
    assert token not in fleet.run("tokens", "list", "--json").stdout
    assert fleet.read("tokens", "revoke", token_id) == {"revoked": token_id}
    assert "revoked" in next(
        row for row in fleet.text("tokens", "list", "--user", "admin").splitlines() if token_id in row
    )
    assert fleet.run("whoami", role=None, RKFLEET_TOKEN=token).exit_code == 4


def test_a_secret_on_the_command_line_is_refused(fleet: World) -> None:
    ended = fleet.run("tokens", "revoke", TOKEN)
    assert ended.exit_code == 2
    assert "give its id" in ended.stderr


def test_the_audit_is_listed_from_its_end(fleet: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fleet.cli.audit._PAGE", 3)
    for number in range(4):
        fleet.text("users", "add", f"user{number}", "--no-password")
    records = fleet.read("audit", "list", "-n", "2")["records"]
    assert [each["subject"] for each in records] == ["user2", "user3"]
    after = fleet.read("audit", "list", "--after", str(records[0]["number"]))["records"]
    assert [each["subject"] for each in after] == ["user3"]
    last = fleet.text("audit", "list", "-n", "1").splitlines()[1]
    assert "user.add" in last
    assert "role=viewer" in last


def test_a_broken_chain_is_an_exit_code(fleet: World) -> None:
    assert fleet.read("audit", "verify") == {"ok": True, "broken": None}
    assert "whole" in fleet.text("audit", "verify")
    import sqlite3

    with sqlite3.connect(fleet.folder / "fleet.db") as connection:
        tables = [name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE name LIKE 'audit%'")]
        triggers = connection.execute("SELECT name FROM sqlite_master WHERE type = 'trigger'").fetchall()
        for (name,) in triggers:
            connection.execute(f"DROP TRIGGER {name}")
        table = next(name for name in tables if "index" not in name)
        connection.execute(f"UPDATE {table} SET actor = 'mallory' WHERE number = 2")
    connection.close()
    ended = fleet.run("audit", "verify")
    assert ended.exit_code == 1
    assert "Broken at record 2" in ended.stdout
    assert not json.loads(fleet.run("audit", "verify", "--json").stdout)["ok"]


def test_who_may_not_is_told_which_right_is_missing(fleet: World) -> None:
    for words, right in ((["users", "list"], "users"), (["audit", "list"], "audit")):
        ended = fleet.run(*words, role=Role.VIEWER)
        assert (ended.exit_code, f"'{right}'" in ended.stderr) == (4, True)
