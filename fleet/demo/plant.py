"""What surrounds the boards of the demonstration: a broker, a signed registry, and the server, each as in a factory."""

import os
import secrets
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from fleet.adapters.api_http import ApiHttp
from fleet.adapters.broker_iotcore import EmbeddedBroker, free_port
from fleet.adapters.registry_tuf import KeyRing, Published, Registry
from fleet.demo.board import Plan, Provision
from fleet.errors import FleetError

SERVER_WITHIN_S = 60.0
STOP_WITHIN_S = 10.0
_HASTE = {"RKFLEET_SERVE_CONTROLLER__TICK_S": "0.3", "RKFLEET_SERVE_CONTROLLER__SETTLE_S": "1"}
"""A demonstration has no hour to wait."""


class DemoFailed(Exception):
    """With a text that says what to do."""


@dataclass(frozen=True, slots=True)
class Plant:
    """`log` is the server's."""

    api: ApiHttp
    registry: Registry
    provision: Provision
    log: Path

    def publish(self, bundle: Path) -> Published:
        return self.registry.publish(bundle, datetime.now(UTC))


@contextmanager
def running(plan: Plan) -> Iterator[Plant]:
    """Errors: DemoFailed when the server does not come up, RuntimeError when the broker does not."""
    broker_port, port = free_port(), free_port()
    passphrase = secrets.token_urlsafe(16)
    folder, keys = plan.out / "registry", plan.out / "registry-keys"
    registry = Registry(folder, KeyRing(keys, {}, lambda _what: passphrase))
    root = registry.init(datetime.now(UTC), root_keys=1, threshold=1)
    url = f"http://127.0.0.1:{port}"
    provision = Provision(broker_port, f"{url}/registry/metadata", root, folder / "controller-keys.json")
    log = plan.out / "server.log"
    with EmbeddedBroker(plan.out, broker_port):
        server = _serve(plan, broker_port, port, passphrase)
        try:
            with ApiHttp(url, _admin_token(plan.out / "server", server, log)) as api:
                _await_ready(api, server, log)
                around = Plant(api, registry, provision, log)
                around.publish(plan.installed)  # a rollout takes boards back only to what the registry has
                yield around
        finally:
            _stop(server)


def _serve(plan: Plan, broker_port: int, port: int, passphrase: str) -> subprocess.Popen[bytes]:
    command = [
        *(sys.executable, "-m", "fleet.cli", "serve"),
        *("--data", str(plan.out / "server")),
        *("--broker", f"127.0.0.1:{broker_port}"),
        *("--listen", f"127.0.0.1:{port}"),
        *("--registry", str(plan.out / "registry")),
    ]
    with (plan.out / "server.log").open("wb") as log:
        return subprocess.Popen(  # noqa: S603  our own server
            command,
            stdout=log,
            stderr=subprocess.STDOUT,
            env={**os.environ, **_HASTE, "RKFLEET_KEY_PASSPHRASE": passphrase},
        )


def _admin_token(data: Path, server: subprocess.Popen[bytes], log: Path) -> str:
    path = data / "admin-token"
    _until(lambda: path.is_file() and bool(path.read_text().strip()), server, log)
    return path.read_text().strip()


def _await_ready(api: ApiHttp, server: subprocess.Popen[bytes], log: Path) -> None:
    def is_ready() -> bool:
        try:
            api.get("/me")
        except FleetError:
            return False
        return True

    _until(is_ready, server, log)


def _until(is_true: Callable[[], bool], server: subprocess.Popen[bytes], log: Path) -> None:
    deadline_s = time.monotonic() + SERVER_WITHIN_S
    while not is_true():
        if server.poll() is not None:
            raise DemoFailed(f"the server ended with {server.returncode}; see {log}")
        if time.monotonic() > deadline_s:
            raise DemoFailed(f"the server is not ready after {SERVER_WITHIN_S:.0f} s; see {log}")
        time.sleep(0.1)


def _stop(server: subprocess.Popen[bytes]) -> None:
    if server.poll() is None:
        server.send_signal(signal.SIGTERM)
    try:
        server.wait(STOP_WITHIN_S)
    except subprocess.TimeoutExpired:
        server.kill()
        server.wait()
