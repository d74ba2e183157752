"""What all commands share: what reaches a terminal, help, and how quick it is."""

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import click
import pytest
import typer.main
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from typer.testing import CliRunner

from fleet.cli import app
from fleet.cli.client import ago, as_filter, moment, one_node, seconds
from fleet.cli.output import clean, fail, show, table
from fleet.core.roster import parse
from tests.contract.asgi_server import serving
from tests.unit.fleet_board import T0, node


@pytest.mark.parametrize(
    ("said", "shown"),
    [
        ("plain", "plain"),
        ("ümlaut 漢", "ümlaut 漢"),
        ("\x1b[2J", "\\x1b[2J"),
        ("\x9b31m", "\\x9b31m"),
        ("a\tb\nc\rd", "a\\tb\\nc\\rd"),
        ("\u202egnp.exe", "\\u202egnp.exe"),
        ("\u2066\u200b", "\\u2066\\u200b"),
        ("\u2028", "\\u2028"),
        ("\ud800", "\\ud800"),
        ("\x7f\x08\x00", "\\x7f\\x08\\x00"),
        (7, "7"),
    ],
)
def test_what_is_no_text_is_written_out(said: object, shown: str) -> None:
    assert clean(said) == shown


def test_lines_stay_lines_where_that_is_meant() -> None:
    assert clean("site=x\n  ^\x1b", keep_lines=True) == "site=x\n  ^\\x1b"


@pytest.mark.parametrize("is_terminal", [True, False])
def test_no_markup_and_no_escape_comes_through(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, *, is_terminal: bool
) -> None:
    if is_terminal:
        monkeypatch.setenv("FORCE_COLOR", "1")
    hostile = "[link=http://x]a[/link] :smile: \x1b]8;;x\x07"
    show({}, hostile, as_json=False)
    show({}, table(hostile, ["a"], [[hostile]]), as_json=False)
    show({"a": hostile + "\u202e"}, "", as_json=True)
    with pytest.raises(typer.Exit):
        fail(hostile, as_json=False)
    said = capsys.readouterr()
    colours = re.compile(r"\x1b\[[0-9;]*m")
    for text in (said.out, said.err):
        left = colours.sub("", text)
        assert "\x1b" not in left
        assert "\x07" not in left
        assert "\u202e" not in left
        assert "[link=http://x]a[/link] :smile: \\x1b]8;;x\\x07" in left


def test_tables_in_pipes_are_columns_without_a_frame(capsys: pytest.CaptureFixture[str]) -> None:
    show({}, table("Title", ["a", "b"], [["x" * 300, "y"], ["z", 1]]), as_json=False)
    assert capsys.readouterr().out.splitlines() == ["a" + " " * 301 + "b", "x" * 300 + "  y", "z" + " " * 301 + "1"]


def commands() -> Iterator[tuple[str, click.Command]]:
    def walk(words: list[str], command: click.Command) -> Iterator[tuple[str, click.Command]]:
        children = getattr(command, "commands", None)
        if children is None:
            yield " ".join(words), command
        for name, child in (children or {}).items():
            yield from walk([*words, name], child)

    return walk([], typer.main.get_command(app))  # type: ignore[arg-type]


GROUPS = {"login", "logout", "whoami", "password", "nodes", "rollout", "results", "cmd", "job", "events", "alarms",
          "audit", "users", "tokens"}  # fmt: skip
OURS = [words for words, _ in commands() if words.split()[0] in GROUPS]
"""Those that speak to a server."""


@pytest.mark.parametrize("words", OURS)
def test_every_command_explains_itself_with_an_example(words: str) -> None:
    ended = CliRunner().invoke(app, [*words.split(), "--help"])
    assert ended.exit_code == 0
    assert f"$ rkfleet {words}" in ended.stdout
    assert words == "rollout example" or "--json" in ended.stdout


@pytest.mark.parametrize("words", OURS)
def test_every_command_is_in_the_manual(words: str) -> None:
    assert re.search(rf"`rkfleet {words}\b", Path("docs/commands.md").read_text())


def test_nothing_heavy_is_imported_for_help() -> None:
    code = (
        "import sys, fleet.cli.nodes, fleet.cli.rollout, fleet.cli.results, fleet.cli.cmd, fleet.cli.job, "
        "fleet.cli.audit, fleet.cli.users, fleet.cli.tokens, fleet.cli.events, fleet.cli.login\n"
        "print([name for name in ('httpx', 'pyarrow', 'sqlalchemy', 'tuf', 'fastapi', 'uvicorn', 'numpy') "
        "if name in sys.modules])"
    )
    # The package itself brings the other groups' modules in, which see to themselves.
    ours = "import sys, types\nfleet = types.ModuleType('fleet.cli')\nfleet.__path__ = ['fleet/cli']\n"
    ours += "sys.modules['fleet.cli'] = fleet\n"
    done = subprocess.run([sys.executable, "-c", ours + code], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.strip() == "[]"


def test_errors_of_scripts_are_json() -> None:
    env = {"RKFLEET_SERVER": "ftp://x", "RKFLEET_TOKEN": "rkf_" + "a" * 43}
    ended = CliRunner().invoke(app, ["nodes", "list", "--json"], env=env)
    assert ended.exit_code == 1
    assert json.loads(ended.stderr) == {
        "error": "ftp://x is no address of a server, like https://fleet.example:8870",
        "exitCode": 1,
    }


@pytest.mark.parametrize(
    ("text", "time"),
    [
        ("90s", "2026-03-06T11:58:30.000Z"),
        ("1d", "2026-03-05T12:00:00.000Z"),
        ("2026-03-06", "2026-03-06T00:00:00.000Z"),
        ("2026-03-06T01:00:00+01:00", "2026-03-06T00:00:00.000Z"),
        (None, None),
    ],
)
def test_times_are_ago_or_in_utc(text: str | None, time: str | None) -> None:
    assert moment(text, T0) == time


def test_durations_and_ages_are_read_and_said() -> None:
    assert (seconds("90s"), seconds("2h")) == (90, 7200)
    with pytest.raises(typer.BadParameter):
        seconds("2 hours")
    said = [ago(text, T0) for text in ("2026-03-06T11:59:00Z", "2026-03-06T10:30:00Z", "2026-03-01T12:00:00Z", "never")]
    assert said == ["60 s", "90 min", "5 d", "never"]


@pytest.mark.parametrize("target", ["plant1/board-001", "a.b:c/d_e", "x", "site=a/b", "a/b/c", "", "a /b"])
def test_a_board_is_told_from_a_filter(target: str) -> None:
    is_board = target in {"plant1/board-001", "a.b:c/d_e"}
    assert (one_node(target) is not None) == is_board
    if is_board:
        site, name = target.split("/")
        assert str(parse(as_filter(target)))
        assert parse(as_filter("plant1/board-001")).matches(node(1), T0)
        assert (site in as_filter(target), name in as_filter(target)) == (True, True)
    else:
        assert as_filter(target) == target


@pytest.mark.parametrize("answer", ["{}", "[]", "7", "null", '{"nodes": [7]}'])
def test_an_answer_of_another_kind_of_server_is_told_as_such(answer: str) -> None:
    async def other(_: Request) -> Response:
        return Response(answer, media_type="application/json")

    with serving(Starlette(routes=[Route("/{rest:path}", other)])) as web:
        env = {"RKFLEET_SERVER": web.url, "RKFLEET_TOKEN": "rkf_" + "a" * 43}
        ended = CliRunner().invoke(app, ["nodes", "list"], env=env)
    assert ended.exit_code == 1
    assert "of this version" in ended.stderr
