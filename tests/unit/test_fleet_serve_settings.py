"""What a server starts from: settings, its place among others, its first admin, and the commands that start it."""

import json
import os
import stat
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from fleet.adapters.db import Database, DbUsers, newest, upgrade
from fleet.cli import app
from fleet.config import Role, ServeSettings, load
from fleet.core.access import Role as UserRole
from fleet.core.access import User, token_digest
from fleet.errors import ErrorCode, Permanent
from fleet.first_admin import make_first_admin
from fleet.instance import claim
from tests.unit.fleet_board import T0

FILE = """\
data = "data"
roles = ["ingest"]
[broker]
host = "broker.example"
ca = "ca.pem"
[registry]
folder = "/srv/registry"
urls = ["https://mirror.example/m"]
"""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    made = tmp_path / "serve.toml"
    made.write_text(FILE)
    return made


def test_without_anything_one_process_has_all_roles() -> None:
    settings = load(None, {}, {})
    assert settings == ServeSettings()
    assert set(settings.roles) == set(Role)
    assert settings.database_url == f"sqlite:///{Path('rkfleet-data/fleet.db').absolute()}"


def test_file_then_environment_then_options(path: Path) -> None:
    environ = {"RKFLEET_SERVE_BROKER__HOST": "10.0.0.5", "RKFLEET_SERVE_BROKER__PORT": "8883", "RKFLEET_KEY_ROOT": "x",
               "RKFLEET_SERVE_ROLES": '["web", "ingest"]'}  # fmt: skip
    settings = load(path, environ, {"broker.port": 1884, "web.port": 0, "database": None})
    assert (settings.broker.host, settings.broker.port, settings.web.port) == ("10.0.0.5", 1884, 0)
    assert settings.roles == (Role.WEB, Role.INGEST)
    assert settings.data == path.parent / "data", "relative to the file"
    assert settings.broker.ca == path.parent / "ca.pem"
    assert settings.keys_folder == Path("/srv/registry-keys")
    assert settings.broker.has_tls


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[broker]\nhots = 'x'", r"broker\.hots: there is no such setting; did you mean host\?"),
        ("rolls = ['web']", r"rolls: there is no such setting; did you mean roles\?"),
        ("roles = ['king']", r"roles\.0: .*controller"),
        ("roles = []", "roles: "),
        ("[broker]\nport = 70000", r"broker\.port: .*65535"),
        ("[broker]\ncert = 'a'", "broker: cert and key come together"),
        ("[registry]\nurls = ['ftp://x']", r"registry\.urls\.0"),
        ("[retention]\nresults_days = 0", r"retention\.results_days"),
        ("data = [", "not TOML"),
    ],
)
def test_a_wrong_setting_is_named(path: Path, text: str, said: str) -> None:
    path.write_text(text)
    with pytest.raises(Permanent, match=said) as caught:
        load(path, {}, {})
    assert caught.value.code is ErrorCode.INVALID
    assert str(path) in caught.value.text


def test_a_wrong_variable_of_the_environment_is_an_error_too() -> None:
    with pytest.raises(Permanent, match="did you mean lease_s"):
        load(None, {"RKFLEET_SERVE_CONTROLLER__LEASES": "3"}, {})


def test_secrets_are_not_shown() -> None:
    settings = load(None, {}, {"database": "postgresql://u:geheim@h/d", "broker.password": "geheim"})
    assert "geheim" not in repr(settings)


def test_processes_that_share_a_folder_take_a_slot_each_and_a_restart_takes_its_own_again(tmp_path: Path) -> None:
    with claim(tmp_path / "data") as first, claim(tmp_path / "data") as second:
        assert first.name != second.name
        first.release()
        with claim(tmp_path / "data") as again, claim(tmp_path / "elsewhere") as other:
            assert again.name == first.name
            assert other.name not in {first.name, second.name}


def test_a_slot_is_free_when_its_process_was_killed(tmp_path: Path) -> None:
    code = (
        "import os, pathlib, signal, sys; from fleet.instance import claim;"
        "held = claim(pathlib.Path(sys.argv[1])); print(held.name, flush=True); os.kill(os.getpid(), signal.SIGKILL)"
    )
    said = subprocess.run([sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True, check=False)
    assert said.returncode == -9
    with claim(tmp_path) as again:
        assert again.name == said.stdout.strip()


@pytest.fixture
def users(tmp_path: Path) -> DbUsers:
    database = Database(f"sqlite:///{tmp_path}/fleet.db")
    upgrade(database)
    return DbUsers(database)


def test_the_first_admin_gets_a_token_that_only_its_owner_may_read(tmp_path: Path, users: DbUsers) -> None:
    path = make_first_admin(users, tmp_path, T0)
    assert path is not None
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    digest = token_digest(path.read_text().strip())
    assert digest is not None
    token = users.token(digest)
    assert token is not None
    assert (token.user, token.role) == ("admin", UserRole.ADMIN)
    assert make_first_admin(users, tmp_path, T0) is None, "there is one now"


@pytest.mark.parametrize(
    ("known", "is_made"),
    [
        pytest.param([("admin", None)], True, id="killed before the token was stored"),
        pytest.param([("admin", "hash")], False, id="an admin with a password"),
        pytest.param([("olga", None)], False, id="another user"),
        pytest.param([("admin", None), ("olga", None)], False, id="an admin among others"),
    ],
)
def test_an_admin_is_made_where_nobody_could_get_in(
    tmp_path: Path, users: DbUsers, known: list[tuple[str, str | None]], is_made: bool
) -> None:
    for name, password_hash in known:
        users.add(User(name, UserRole.ADMIN, is_active=True, created_at=T0), password_hash)
    assert (make_first_admin(users, tmp_path, T0) is not None) == is_made


def rkfleet(*arguments: str) -> Any:
    return CliRunner().invoke(app, list(arguments))


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--role", "king"], "king"),
        (["--broker", "host:port"], "host:port"),
        (["--listen", "host:99999"], "65535"),
        (["--config", "/nowhere.toml"], "No such file"),
    ],
)
def test_serve_refuses_what_it_cannot_be_run_with(arguments: list[str], said: str) -> None:
    done = rkfleet("serve", *arguments)
    assert done.exit_code == 2
    assert said in done.output


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["--database", "mysql://h/d"], 1, "SQLite or PostgreSQL"),
        (["--registry", "{tmp}/none"], 1, "rkfleet registry init"),
        (["--listen", "203.0.113.1:80"], 1, "cannot listen"),
    ],
)
def test_serve_says_why_it_cannot_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str], code: int, said: str
) -> None:
    monkeypatch.setattr("fleet.logs.log_to_stderr", lambda *_args, **_more: None)
    monkeypatch.setattr("fleet.cli.serve._stop_on_signals", lambda _stop: None)
    given = [each.format(tmp=tmp_path) for each in arguments]
    done = rkfleet("serve", "--json", "--data", str(tmp_path / "data"), "--role", "web", *given)
    assert done.exit_code == code
    assert said in json.loads(done.output.splitlines()[-1])["error"]


def test_db_upgrade_and_check(tmp_path: Path) -> None:
    data = ["--data", str(tmp_path), "--json"]
    outdated = rkfleet("db", "check", *data)
    assert outdated.exit_code == 4
    done = rkfleet("db", "upgrade", *data)
    assert json.loads(done.output) == {"revision": newest()}
    assert rkfleet("db", "check", *data).exit_code == 0
    away = rkfleet("db", "check", "--database", f"sqlite:///{tmp_path}/no/such/folder/fleet.db")
    assert away.exit_code == 5
    assert rkfleet("db", "check", "--database", "nonsense").exit_code == 2


def test_the_environment_of_the_agent_is_not_ours() -> None:
    assert load(None, {"RKFLEET_BROKER__HOST": "elsewhere", **{k: v for k, v in os.environ.items() if k == "PATH"}}, {})
