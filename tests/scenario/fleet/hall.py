"""A server in a process of its own, its broker, registry and database, and boards around it."""

import json
import os
import signal
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from fleet.adapters.db import Database, DbRollouts, upgrade
from fleet.adapters.registry_tuf import KeyRing, Registry, ask_nobody
from fleet.core.rollout import ModelRef
from schemas.envelope import ControllerKeys
from tests.contract.brokers import BrokerProcess, Iotcore
from tests.contract.tuf_world import keys_in_environment
from tests.scenario.bundle import make_bundle
from tests.scenario.fleet.boards import Board, Habits, wait

OLD = ModelRef(name="probe", version="1.0.0", manifest_sha256="0" * 64)
PACE = """
[ingest]
quiet_s = 0.2
[controller]
lease_s = 3.0
tick_s = 0.2
settle_s = 0.2
replay_turn_s = 0.3
replay_settle_s = 0.3
replay_again_s = 1.0
"""


class Nursery:
    """One for all tests of a session: see nursery.py."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.scenario.fleet.nursery"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self._line() == "ready"

    def start(self, arguments: Sequence[str], environ: Mapping[str, str], log: Path) -> int:
        """Returns the process id."""
        return self._ask({"do": "start", "arguments": list(arguments), "environ": dict(environ), "log": str(log)})

    def wait(self, pid: int) -> int:
        """Returns the exit code; -9 of one that was killed."""
        return self._ask({"do": "wait", "pid": pid})

    def close(self) -> None:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        self._process.wait(10)
        self._process.stdout.close()

    def _ask(self, document: dict[str, Any]) -> int:
        assert self._process.stdin is not None
        self._process.stdin.write(f"{json.dumps(document)}\n")
        self._process.stdin.flush()
        return int(self._line())

    def _line(self) -> str:
        assert self._process.stdout is not None
        return self._process.stdout.readline().strip()


@dataclass
class Server:
    """`said` is what it announced when it had started."""

    nursery: Nursery
    arguments: list[str]
    environ: Mapping[str, str]
    log_path: Path
    said: dict[str, Any] = field(default_factory=dict)
    pid: int | None = None
    _skip: int = 0

    def start(self, *, wait_until_started: bool = True) -> None:
        assert self.pid is None
        self._skip = self.log_path.stat().st_size if self.log_path.exists() else 0
        self.pid = self.nursery.start(["serve", "--json", *self.arguments], self.environ, self.log_path)
        if wait_until_started:
            wait(self.has_started, "the server has started")

    def has_started(self) -> bool:
        for line in self.log_path.read_text()[self._skip :].splitlines() if self.log_path.exists() else ():
            said = json.loads(line) if line.startswith("{") and line.endswith("}") else {}
            if said.get("event") == "started":
                self.said = said
                return True
        return False

    def kill(self) -> None:
        self._end(signal.SIGKILL)

    def stop(self) -> int:
        return self._end(signal.SIGTERM)

    def _end(self, how: signal.Signals) -> int:
        pid, self.pid = self.pid, None
        assert pid is not None
        os.kill(pid, how)
        return self.nursery.wait(pid)

    @property
    def log(self) -> str:
        return self.log_path.read_text()[-6000:]


@dataclass
class Hall:
    folder: Path
    broker: BrokerProcess
    registry: Registry
    environ: Mapping[str, str]
    models: dict[str, ModelRef]
    nursery: Nursery
    boards: list[Board] = field(default_factory=list)
    servers: list[Server] = field(default_factory=list)
    postgres_url: str = ""

    @property
    def url(self) -> str:
        return self.postgres_url or f"sqlite:///{self.folder / 'fleet.db'}"

    def database(self) -> Database:
        made = Database(self.url)
        upgrade(made)
        return made

    def keys(self) -> ControllerKeys:
        return ControllerKeys.model_validate_json((self.registry.folder / "controller-keys.json").read_bytes())

    def add_boards(self, count: int, habits: Habits | None = None) -> list[Board]:
        address = (self.broker.host, self.broker.port)
        made = [Board(len(self.boards) + n + 1, address, habits or Habits(keys=self.keys()), OLD) for n in range(count)]
        self.boards += made
        for board in made:
            board.start()
        return made

    def settings(self, more: str = PACE) -> Path:
        path = self.folder / "serve.toml"
        path.write_text(
            f'data = "data"\ndatabase = "{self.url}"\n[broker]\nport = {self.broker.port}\n[web]\nport = 0\n'
            f'[registry]\nfolder = "registry"\n{more}'
        )
        return path

    def server(self, *arguments: str) -> Server:
        log = self.folder / f"server-{len(self.servers)}.log"
        made = Server(self.nursery, ["--config", str(self.settings()), *arguments], self.environ, log)
        self.servers.append(made)
        made.start()
        return made

    def rollout(self, rollout_id: str) -> Any:
        database = Database(self.url)
        try:
            return DbRollouts(database).load(rollout_id)
        finally:
            database.close()


@contextmanager
def hall(
    folder: Path, nursery: Nursery, *versions: str, kind: Callable[[Path], BrokerProcess] = Iotcore
) -> Iterator[Hall]:
    """With a registry that has these versions of a model."""
    environ = keys_in_environment()
    registry = Registry(folder / "registry", KeyRing(folder / "registry-keys", environ, ask_nobody({})))
    registry.init(datetime.now(UTC))
    models = {}
    for version in versions:
        done = registry.publish(make_bundle(folder / f"bundle-{version}", version), datetime.now(UTC))
        models[version] = ModelRef(name=done.name, version=version, manifest_sha256=done.manifest_sha256)
    with kind(folder / "broker") as broker:
        made = Hall(folder, broker, registry, environ, models, nursery)
        try:
            yield made
        finally:
            for server in made.servers:
                if server.pid is not None:
                    server.kill()
            for board in made.boards:
                board.stop()


class Api:
    """The server's API, with the token of its first admin."""

    def __init__(self, server: Server) -> None:
        self._url = server.said["url"]
        self._token = Path(server.said["adminToken"]).read_text().strip()

    def __call__(self, method: str, path: str, body: Any = None) -> Any:
        headers = {"Authorization": f"Bearer {self._token}", "Content-Type": "application/json"}
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(f"{self._url}{path}", data, headers, method=method)
        try:
            with urllib.request.urlopen(request, timeout=30) as answer:
                said = answer.read()
                return json.loads(said) if "json" in answer.headers["Content-Type"] else said.decode()
        except urllib.error.HTTPError as error:
            with error:
                raise AssertionError(f"{method} {path}: {error.code} {error.read().decode()}") from error

    def until(self, path: str, is_true: Callable[[Any], bool], what: str, within_s: float = 30.0) -> Any:
        found: list[Any] = []

        def look() -> bool:
            found.append(self("GET", path))
            return is_true(found[-1])

        try:
            wait(look, what, within_s)
        except AssertionError as error:
            raise AssertionError(f"{error}: {json.dumps(found[-1])[:3000]}") from error
        return found[-1]
