"""HTTP PUT against a real server: honest ones, and faulty ones in the ways that servers are."""

import base64
import logging
import socket
import ssl
import subprocess
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Literal

import pytest

from agent.adapters.uploader_http import HttpUploader, UploadOptions
from agent.core.backoff import Backoff
from agent.errors import Permanent, Retryable
from schemas.codes import FailureCode

LONG_S = 20.0
QUICK = UploadOptions(attempts=3, timeout_s=LONG_S, backoff=Backoff(0.001, 0.002))


@dataclass(frozen=True, slots=True)
class Put:
    path: str
    headers: Mapping[str, str]
    body: bytes


@dataclass(slots=True)
class PutServer:
    """Answers with the statuses of `script` in turn, 201 afterwards. `how`: honest, or what it does in place of it."""

    script: list[int] = field(default_factory=list)
    how: Literal["honest", "silent", "closes", "nonsense", "drips", "refuses unread"] = "honest"
    puts: list[Put] = field(default_factory=list)
    connections: int = 0
    reached: threading.Event = field(default_factory=threading.Event)
    over: threading.Event = field(default_factory=threading.Event)
    url: str = ""


class _Handler(BaseHTTPRequestHandler):
    timeout = LONG_S
    server: "_Server"

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002  the name in the library
        """Silence."""

    def do_PUT(self) -> None:
        script = self.server.script
        script.connections += 1
        try:
            if script.how == "refuses unread":
                self._status(403)
            else:
                self._answer(script, self.rfile.read(int(self.headers["Content-Length"])))
        except OSError:
            return  # the client has gone

    def _answer(self, script: PutServer, body: bytes) -> None:
        script.reached.set()
        if script.how == "silent":
            script.over.wait(LONG_S)
        elif script.how == "nonsense":
            self.wfile.write(b"\0\xff not HTTP\r\n" * 9)
        elif script.how == "drips":
            while not script.over.wait(0.02):
                self.wfile.write(b"H")
        elif script.how == "honest":
            headers = {name.lower(): value for name, value in self.headers.items()}
            script.puts.append(Put(self.path, headers, body))
            self._status(script.script.pop(0) if script.script else 201)

    def _status(self, status: int) -> None:
        self.send_response(status)
        self.send_header("Location", "http://127.0.0.1:9/elsewhere")
        self.end_headers()


class _Server(ThreadingHTTPServer):
    daemon_threads = False

    def __init__(self, script: PutServer) -> None:
        self.script = script
        super().__init__(("127.0.0.1", 0), _Handler)

    def handle_error(self, request: object, client_address: object) -> None:
        """Clients that go away are what is tested."""


@contextmanager
def put_server(tls: ssl.SSLContext | None = None, **options: object) -> Iterator[PutServer]:
    script = PutServer(**options)  # type: ignore[arg-type]
    server = _Server(script)
    if tls is not None:
        server.socket = tls.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
    script.url = f"{'https' if tls else 'http'}://{'localhost' if tls else '127.0.0.1'}:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    try:
        yield script
    finally:
        script.over.set()
        server.shutdown()
        server.server_close()
        thread.join()


def stop_when_reached(server: PutServer, stop: threading.Event) -> None:
    def wait() -> None:
        if server.reached.wait(LONG_S):
            stop.set()

    threading.Thread(target=wait).start()


def put(url: str, name: str = "a.png", content: bytes = b"picture", options: UploadOptions = QUICK) -> None:
    HttpUploader(options, lambda: 0.5).put(url, name, content, threading.Event())


@pytest.mark.parametrize(
    ("base", "name", "path", "kind"),
    [
        ("", "a.png", "/a.png", "image/png"),
        ("/", "a.json", "/a.json", "application/json"),
        ("/x/y/", "top.1:2.png", "/x/y/top.1%3A2.png", "image/png"),
        ("/x?sig=a%2Fb&v=1", "a.png", "/x/a.png?sig=a%2Fb&v=1", "image/png"),
        ("/x", "../../etc", "/x/..%2F..%2Fetc", "application/octet-stream"),
    ],
)
def test_a_file_arrives_whole_below_the_url(base: str, name: str, path: str, kind: str) -> None:
    content = bytes(range(256)) * 4000
    with put_server() as server:
        put(server.url + base, name, content)
    (got,) = server.puts
    assert (got.path, got.body) == (path, content)
    assert got.headers["content-type"] == kind
    assert got.headers["content-length"] == str(len(content))
    assert "authorization" not in got.headers


def test_an_empty_file_arrives_too() -> None:
    with put_server() as server:
        put(server.url, content=b"")
    assert server.puts[0].body == b""


def test_user_info_becomes_a_header_and_is_never_shown(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    with put_server(script=[500, 500, 404]) as server:
        url = server.url.replace("//", "//me:s%40cret@") + "/x?token=hidden"
        with pytest.raises(Permanent, match=r"/x/a\.png: answers 404") as caught:
            put(url)
    assert server.puts[0].headers["authorization"] == "Basic " + base64.b64encode(b"me:s@cret").decode()
    said = caught.value.text + caplog.text
    assert not any(secret in said for secret in ("s%40cret", "s@cret", "me:", "hidden"))


@pytest.mark.parametrize("status", [408, 429, 500, 503])
def test_what_may_pass_is_tried_again(status: int) -> None:
    with put_server(script=[status, status]) as server:
        put(server.url)
    assert len(server.puts) == 3


@pytest.mark.parametrize(
    ("status", "code"),
    [
        (401, FailureCode.NOT_AUTHORIZED),
        (403, FailureCode.NOT_AUTHORIZED),
        (404, FailureCode.UPLOAD_FAILED),
        (413, FailureCode.UPLOAD_FAILED),
        (301, FailureCode.UPLOAD_FAILED),
        (307, FailureCode.UPLOAD_FAILED),
    ],
)
def test_what_will_not_pass_is_tried_once_and_redirects_are_not_followed(status: int, code: FailureCode) -> None:
    with put_server(script=[status]) as server, pytest.raises(Permanent, match=str(status)) as caught:
        put(server.url)
    assert caught.value.code is code
    assert len(server.puts) == 1


@pytest.mark.parametrize("how", ["closes", "nonsense"])
def test_a_server_that_does_not_answer_properly_is_given_up_after_all_attempts(how: str) -> None:
    with put_server(how=how) as server, pytest.raises(Retryable, match="3 times") as caught:
        put(server.url)
    assert caught.value.code is FailureCode.UPLOAD_FAILED
    assert server.connections == 3
    assert "\0" not in caught.value.text


@pytest.mark.parametrize("how", ["silent", "drips"])
def test_a_server_that_is_silent_or_drips_is_cut(how: str) -> None:
    options = UploadOptions(attempts=2, timeout_s=0.3, backoff=Backoff(0.001, 0.002))
    began_s = time.monotonic()
    with put_server(how=how) as server, pytest.raises(Retryable, match="2 times"):
        put(server.url, options=options)
    assert time.monotonic() - began_s < LONG_S
    assert server.connections == 2


def test_a_server_that_refuses_before_it_has_read_is_heard() -> None:
    """Its answer may be lost with the connection: then it is asked again, and not taken for a success."""
    with put_server(how="refuses unread") as server, pytest.raises((Permanent, Retryable)):
        put(server.url, content=bytes(30_000_000))
    assert not server.puts


def test_nobody_there_is_retryable() -> None:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        url = f"http://127.0.0.1:{probe.getsockname()[1]}"
    with pytest.raises(Retryable, match="refused, 3 times"):
        put(url)


@pytest.mark.parametrize(
    "url",
    ["", "ftp://x/", "http://", "http://[", "http://x:99999/", "http://x:0/", "http://ä/", "http://x/\r\nEvil: 1"],
)
def test_what_is_no_url_is_refused(url: str) -> None:
    with pytest.raises(Permanent) as caught:
        put(url)
    assert caught.value.code is FailureCode.COMMAND_INVALID


def test_a_stop_ends_an_upload_that_waits_for_its_answer() -> None:
    stop = threading.Event()
    caught: list[Retryable] = []

    def upload(url: str) -> None:
        try:
            HttpUploader(QUICK).put(url, "a.png", b"x", stop)
        except Retryable as error:
            caught.append(error)

    with put_server(how="silent") as server:
        thread = threading.Thread(target=upload, args=(server.url,))
        thread.start()
        assert server.reached.wait(LONG_S)
        stop.set()
        thread.join(LONG_S)
        assert not server.over.is_set()
    assert [error.code for error in caught] == [FailureCode.CANCELED]


def test_a_stop_ends_the_pause_between_attempts() -> None:
    stop = threading.Event()
    options = UploadOptions(backoff=Backoff(3600.0, 3600.0))
    with put_server(script=[500]) as server:
        stop_when_reached(server, stop)
        with pytest.raises(Retryable) as caught:
            HttpUploader(options, lambda: 0.9).put(server.url, "a.png", b"x", stop)
    assert caught.value.code is FailureCode.CANCELED


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("tls") / "both.pem"
    command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days",
               "2", "-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost"]  # fmt: skip
    key, cert = path.with_suffix(".key"), path.with_suffix(".crt")
    try:
        subprocess.run([*command, "-keyout", key, "-out", cert], check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("needs openssl")
    path.write_bytes(key.read_bytes() + cert.read_bytes())
    return path


def test_https_checks_the_server_and_a_stop_ends_it_too(certificate: Path) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    trusting = ssl.create_default_context(cafile=str(certificate))
    with put_server(context) as server:
        with pytest.raises(Retryable, match="3 times"):
            put(server.url)
        assert not server.puts
        put(server.url, options=UploadOptions(tls=trusting))
        assert server.puts[0].body == b"picture"
        server.how = "silent"
        server.reached.clear()
        stop = threading.Event()
        stop_when_reached(server, stop)
        with pytest.raises(Retryable) as caught:
            HttpUploader(UploadOptions(tls=trusting)).put(server.url, "a.png", b"x", stop)
        assert caught.value.code is FailureCode.CANCELED
