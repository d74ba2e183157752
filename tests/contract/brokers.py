"""Real brokers for tests and scenarios, each a child process on 127.0.0.1, and a scripted one for the rest."""

import atexit
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Self

import pytest

HOST = "127.0.0.1"
_START_S = 15.0
_STOP_S = 5.0


def free_port() -> int:
    with socket.socket() as sock:
        sock.bind((HOST, 0))
        port = sock.getsockname()[1]
    assert isinstance(port, int)
    return port


def mosquitto_path() -> str | None:
    """Debian keeps it in /usr/sbin, which is not on everybody's path."""
    return shutil.which("mosquitto") or shutil.which("mosquitto", path="/usr/sbin:/usr/local/sbin")


needs_mosquitto = (
    pytest.mark.mosquitto,
    pytest.mark.skipif(mosquitto_path() is None, reason="mosquitto is not installed: apt-get install mosquitto"),
)


class BrokerProcess:
    """Starts on entering; may be stopped, killed, paused and started again on the same port."""

    name = "broker"

    def __init__(self, directory: Path, port: int | None = None) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        self.directory = directory
        self.host = HOST
        self.port = port or free_port()
        self._process: subprocess.Popen[bytes] | None = None

    def command(self) -> list[str]:
        raise NotImplementedError

    def start(self) -> None:
        log = (self.directory / f"{self.name}.log").open("ab")
        with log:
            process = subprocess.Popen(self.command(), stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        self._process = process
        atexit.register(self.kill)
        deadline_s = time.monotonic() + _START_S
        while time.monotonic() < deadline_s:
            if process.poll() is not None:
                break
            try:
                socket.create_connection((self.host, self.port), timeout=1.0).close()
            except OSError:
                time.sleep(0.02)  # the broker has no other sign that it listens
            else:
                return
        self.kill()
        raise RuntimeError(f"{self.name} does not listen: {(self.directory / f'{self.name}.log').read_text()[-2000:]}")

    def stop(self) -> None:
        """In order: what the broker keeps is written."""
        self._end(signal.SIGTERM)

    def kill(self) -> None:
        self._end(signal.SIGKILL)

    def pause(self) -> None:
        """It keeps its connections and answers nothing."""
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        assert self._process is not None
        self._process.send_signal(signal.SIGCONT)

    def _end(self, how: signal.Signals) -> None:
        process, self._process = self._process, None
        atexit.unregister(self.kill)
        if process is None:
            return
        process.send_signal(how)
        try:
            process.wait(_STOP_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait(_STOP_S)

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.kill()


_IOTCORE = """\
id = 0
[router]
id = 0
max_connections = 1000
max_outgoing_packet_count = 200
max_segment_size = 104857600
max_segment_count = 10
[v5.1]
name = "v5"
listen = "{host}:{port}"
next_connection_delay_ms = 1
[v5.1.connections]
connection_timeout_ms = 60000
max_payload_size = {max_payload_bytes}
max_inflight_count = 100
dynamic_filters = true
"""


class Iotcore(BrokerProcess):
    """Keeps nothing over a restart. Its own default takes payloads up to 20,480 bytes only, on all interfaces."""

    name = "iotcore"

    def __init__(self, directory: Path, port: int | None = None, max_payload_bytes: int = 4 * 1_048_576) -> None:
        super().__init__(directory, port)
        self._config = self.directory / "iotcore.toml"
        self._config.write_text(_IOTCORE.format(host=HOST, port=self.port, max_payload_bytes=max_payload_bytes))

    def command(self) -> list[str]:
        return [sys.executable, "-m", "iotcore", "--config", str(self._config), "--log-level", "CRITICAL"]


@dataclass(frozen=True, slots=True)
class Certificates:
    """An authority, a server for 127.0.0.1 and localhost, and one client; PEM files."""

    ca: Path
    server: Path
    server_key: Path
    client: Path
    client_key: Path


def make_certificates(directory: Path, client_name: str) -> Certificates:
    """With openssl; the client's name is its certificate's common name."""
    directory.mkdir(parents=True, exist_ok=True)
    ca, ca_key = directory / "ca.crt", directory / "ca.key"
    key = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2"]
    _openssl("req", "-x509", *key, "-keyout", str(ca_key), "-out", str(ca), "-subj", "/CN=test authority")
    names = directory / "names.cnf"
    names.write_text(f"subjectAltName=IP:{HOST},DNS:localhost\n")
    for name, subject, extra in (("server", "localhost", ["-extfile", str(names)]), ("client", client_name, [])):
        request, made = directory / f"{name}.csr", directory / f"{name}.crt"
        subject_key = directory / f"{name}.key"
        _openssl("req", *key, "-keyout", str(subject_key), "-out", str(request), "-subj", f"/CN={subject}")
        signed_by = ["-CA", str(ca), "-CAkey", str(ca_key), "-CAcreateserial", "-days", "2"]
        _openssl("x509", "-req", "-in", str(request), *signed_by, "-out", str(made), *extra)
        subject_key.chmod(0o644)  # mosquitto started by root reads it as its own user
    paths = (directory / f"{name}" for name in ("server.crt", "server.key", "client.crt", "client.key"))
    return Certificates(ca, *paths)


def _openssl(*arguments: str) -> None:
    done = subprocess.run(["openssl", *arguments], capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise RuntimeError(f"openssl {arguments[0]}: {done.stderr}")


@dataclass(frozen=True, slots=True)
class MosquittoSettings:
    """`acl` is the text of an acl file. With `tls` every client needs a certificate, whose name is its user name.
    `lines` go into the configuration as they are.
    """

    acl: str | None = None
    tls: Certificates | None = None
    lines: tuple[str, ...] = field(default=())


class Mosquitto(BrokerProcess):
    """Persistent: sessions, queues and retained messages outlive `stop` and `start`."""

    name = "mosquitto"

    def __init__(
        self, directory: Path, port: int | None = None, settings: MosquittoSettings = MosquittoSettings()
    ) -> None:
        super().__init__(directory, port)
        self._config = self.directory / "mosquitto.conf"
        self._config.write_text("\n".join(self._lines(settings)) + "\n")

    def _lines(self, settings: MosquittoSettings) -> list[str]:
        data = self.directory / "data"
        data.mkdir(exist_ok=True)
        lines = [f"listener {self.port} {HOST}", "set_tcp_nodelay true", "persistence true"]
        lines += [f"persistence_location {data}/", "max_queued_messages 100000", "user root", "log_type all"]
        if settings.tls is None:
            lines.append("allow_anonymous true")
        else:
            lines += [f"cafile {settings.tls.ca}", f"certfile {settings.tls.server}"]
            lines += [f"keyfile {settings.tls.server_key}", "require_certificate true", "use_identity_as_username true"]
        if settings.acl is not None:
            acl = self.directory / "acl"
            acl.write_text(settings.acl)
            lines.append(f"acl_file {acl}")
        return [*lines, *settings.lines]

    def command(self) -> list[str]:
        path = mosquitto_path()
        if path is None:
            pytest.skip("mosquitto is not installed: apt-get install mosquitto")
        return [path, "-c", str(self._config)]


@pytest.fixture(params=["iotcore", pytest.param("mosquitto", marks=needs_mosquitto)])
def broker(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[BrokerProcess]:
    """Each broker in turn, running."""
    kind = Iotcore if request.param == "iotcore" else Mosquitto
    with kind(tmp_path / "broker") as running:
        yield running


@pytest.fixture
def mosquitto(tmp_path: Path) -> Iterator[Mosquitto]:
    """For tests that are marked with `needs_mosquitto`."""
    with Mosquitto(tmp_path / "broker") as running:
        yield running


class ScriptedBroker:
    """Answers each connection with what `script` says: it gets the socket after CONNECT was read, on its own thread,
    and the connection is closed when it returns. For refusals and bytes that a real broker does not send on demand.
    """

    def __init__(self, script: Callable[[socket.socket], None]) -> None:
        self._script = script
        self._server = socket.create_server((HOST, 0))
        self.host = HOST
        self.port = int(self._server.getsockname()[1])
        self.connections = 0
        self.over = threading.Event()
        self._open: list[socket.socket] = []
        self._threads = [threading.Thread(target=self._accept, daemon=True)]

    def _accept(self) -> None:
        while True:
            try:
                sock, _ = self._server.accept()
            except OSError:
                return
            self.connections += 1
            self._open.append(sock)
            thread = threading.Thread(target=self._answer, args=(sock,), daemon=True)
            self._threads.append(thread)
            thread.start()

    def _answer(self, sock: socket.socket) -> None:
        with sock:
            try:
                sock.recv(65_536)
                self._script(sock)
            except OSError:
                return  # the client has gone

    def __enter__(self) -> Self:
        self._threads[0].start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.over.set()
        self._server.shutdown(socket.SHUT_RDWR)
        self._server.close()
        for sock in self._open:
            try:
                sock.shutdown(socket.SHUT_RDWR)
            except OSError:
                continue  # closed already
        for thread in self._threads:
            thread.join(_STOP_S)
