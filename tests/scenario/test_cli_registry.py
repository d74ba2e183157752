"""`rkfleet registry` and `rkfleet mirror` as people and scripts call them."""

import json
import os
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from fleet.cli import app
from tests.contract.asgi_server import serving
from tests.contract.tuf_world import PASSPHRASE, keys_in_environment
from tests.scenario.bundle import make_bundle

KEYS = keys_in_environment()


class Shell:
    def __init__(self, folder: Path, env: dict[str, str] | None = None) -> None:
        self.folder = folder
        self.env = {"RKFLEET_KEY_PASSPHRASE": PASSPHRASE, **(KEYS if env is None else env)}

    def run(self, command: str, *words: str, keys: bool = True, stdin: str | None = None) -> Result:
        where = ["--dir", str(self.folder / "registry"), *(["--keys", str(self.folder / "keys")] if keys else [])]
        return CliRunner().invoke(app, ["registry", command, *words, *where], env=self.env, input=stdin)

    def read(self, command: str, *words: str, keys: bool = True) -> Any:
        result = self.run(command, *words, "--json", keys=keys)
        assert result.exit_code == 0, result.output
        return json.loads(result.stdout)


@pytest.fixture
def shell(tmp_path: Path) -> Shell:
    made = Shell(tmp_path)
    made.read("init")
    return made


def test_the_life_of_a_model_in_commands(shell: Shell, tmp_path: Path) -> None:
    bundle = make_bundle(tmp_path / "bundle")
    done = shell.read("publish", str(bundle))
    assert done["isNew"]
    assert done["isLive"]
    assert (tmp_path / "registry" / done["path"] / "manifest.json").is_file()
    listed = shell.read("list", keys=False)
    assert [model["version"] for model in listed["models"]] == ["1.0.0"]
    assert {role["role"]: role["threshold"] for role in listed["roles"]}["root"] == 2
    assert not shell.read("refresh")["renewed"]
    assert shell.read("refresh", "--targets")["renewed"]
    made = shell.read("rotate", "timestamp")
    assert made["key"] in str(shell.read("list", keys=False))
    shell.read("revoke", "--key", made["key"])
    assert made["key"] not in str(shell.read("list", keys=False))
    shell.read("revoke", "probe", "1.0.0")
    assert shell.read("list", keys=False)["models"] == []


@pytest.mark.parametrize(
    ("words", "code"),
    [
        (("init",), 4),
        (("init", "--root-keys", "2", "--threshold", "3"), 1),
        (("publish", "/nowhere"), 1),
        (("revoke", "probe", "7"), 3),
        (("revoke", "--key", "4f3c"), 3),
        (("revoke", "probe"), 2),
        (("rotate", "everything"), 1),
    ],
)
def test_what_cannot_be_ends_with_a_code_and_one_sentence(shell: Shell, words: tuple[str, ...], code: int) -> None:
    result = shell.run(*words, *(["--json"] if code != 2 else []))
    assert result.exit_code == code
    assert "Traceback" not in result.output
    if code != 2:
        said = json.loads(result.stderr)
        assert said["exitCode"] == code
        assert said["error"]


def test_the_passphrase_is_asked_for_where_the_environment_has_none(tmp_path: Path) -> None:
    shell = Shell(tmp_path, {})
    del shell.env["RKFLEET_KEY_PASSPHRASE"]
    words = ("--root-keys", "1", "--threshold", "1")
    assert shell.run("init", *words, stdin=f"{PASSPHRASE}\nanother thing\n").exit_code != 0
    result = shell.run("init", *words, stdin=f"{PASSPHRASE}\n{PASSPHRASE}\n")
    assert result.exit_code == 0, result.output
    bundle = make_bundle(tmp_path / "bundle")
    assert shell.run("publish", str(bundle), stdin="not the passphrase\n").exit_code == 1
    assert shell.run("publish", str(bundle), stdin=f"{PASSPHRASE}\n").exit_code == 0


def test_the_mirror_serves_what_the_registry_has(shell: Shell, tmp_path: Path) -> None:
    from fleet.web.files import files_app

    done = shell.read("publish", str(make_bundle(tmp_path / "bundle")))
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    with serving(files_app(tmp_path / "registry")) as upstream:
        command = [
            sys.executable,
            "-m",
            "fleet.cli",
            "mirror",
            "--from",
            upstream.url,
            "--dir",
            str(tmp_path / "mirror"),
        ]
        process = subprocess.Popen([*command, "--port", str(port)], env=dict(os.environ))
        try:
            _wait_for(port, process)
            url = f"http://127.0.0.1:{port}/{done['path']}/manifest.json"
            with urllib.request.urlopen(url, timeout=20) as answer:
                assert json.loads(answer.read())["name"] == "probe"
        finally:
            process.terminate()
            process.wait(20)


def _wait_for(port: int, process: subprocess.Popen[bytes]) -> None:
    deadline_s = time.monotonic() + 30
    while time.monotonic() < deadline_s and process.poll() is None:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
        except OSError:
            time.sleep(0.05)
        else:
            return
    pytest.fail("the mirror does not answer")


@pytest.mark.parametrize("command", ["init", "publish", "list", "refresh", "rotate", "revoke"])
def test_each_command_shows_an_example(command: str) -> None:
    result = CliRunner().invoke(app, ["registry", command, "--help"])
    assert result.exit_code == 0
    assert f"rkfleet registry {command}" in result.output
