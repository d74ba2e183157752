"""A real HTTP server with a script for each path: honest, or faulty in the ways that servers and networks are."""

import re
import socket
import ssl
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Literal
from urllib.parse import unquote, urlsplit

_BLOCK_BYTES = 1 << 16
_DEADLINE_S = 60.0


@dataclass(frozen=True, slots=True)
class Answer:
    """What one request gets.

    `announce`: a Content-Length that is not the real one. `content_range`: one that is not the real one.
    `send`: so many bytes of the body are sent, then `then` happens: "close", "stall" (nothing more, connection open),
    "drip" (a byte each 20 ms) or "endless" (zeros for ever). `raw`: these bytes in place of a whole answer.
    `ranges`: a Range of the request is honoured.
    """

    body: bytes = b""
    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)
    etag: str | None = None
    last_modified: str | None = None
    ranges: bool = True
    framing: Literal["length", "chunked", "close"] = "length"
    announce: int | None = None
    content_range: str | None = None
    send: int | None = None
    then: Literal["close", "stall", "drip", "endless"] = "close"
    raw: bytes | None = None


@dataclass(frozen=True, slots=True)
class Asked:
    path: str
    headers: Mapping[str, str]

    @property
    def start(self) -> int:
        """The first byte asked for."""
        match = re.fullmatch(r"bytes=(\d+)-", self.headers.get("range", "bytes=0-"))
        assert match is not None
        return int(match[1])


class FileServer:
    """Answers 404 where there is no script; of a script of many answers the last one is given again and again."""

    def __init__(self, tls: ssl.SSLContext | None = None) -> None:
        self.asked: list[Asked] = []
        self.stalled = threading.Event()
        """Set when an answer has come to its stall."""
        self.over = threading.Event()
        self._scripts: dict[str, list[Answer]] = {}
        self._lock = threading.Lock()
        self._server = _Server(self)
        if tls is not None:
            self._server.socket = tls.wrap_socket(self._server.socket, server_side=True, do_handshake_on_connect=False)
        host = "localhost" if tls else "127.0.0.1"
        self.url = f"{'https' if tls else 'http'}://{host}:{self._server.server_address[1]}"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,), name="file-server")
        self._thread.start()

    def script(self, path: str, *answers: Answer) -> None:
        """`path` as it stands in a URL, unquoted, with its slash."""
        with self._lock:
            self._scripts[path] = list(answers)

    def serve_folder(self, prefix: str, folder: Path) -> None:
        """All files of the folder, honestly, below `prefix`."""
        for path in sorted(folder.rglob("*")):
            if path.is_file():
                self.script(f"{prefix}/{path.relative_to(folder).as_posix()}", Answer(path.read_bytes()))

    def next_answer(self, asked: Asked) -> Answer:
        with self._lock:
            self.asked.append(asked)
            script = self._scripts.get(asked.path, [Answer(status=404)])
            return script.pop(0) if len(script) > 1 else script[0]

    def close(self) -> None:
        self.over.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


@contextmanager
def file_server(tls: ssl.SSLContext | None = None) -> Iterator[FileServer]:
    server = FileServer(tls)
    try:
        yield server
    finally:
        server.close()


class _Server(ThreadingHTTPServer):
    daemon_threads = False
    block_on_close = True

    def __init__(self, owner: FileServer) -> None:
        self.owner = owner
        super().__init__(("127.0.0.1", 0), _Handler)

    def handle_error(self, request: object, client_address: object) -> None:
        """Clients that go away are what is tested."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    timeout = _DEADLINE_S
    server: _Server

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002  the name in the library
        """Silence."""

    def do_GET(self) -> None:
        self.close_connection = True
        path = unquote(urlsplit(self.path).path)
        headers = {name.lower(): value for name, value in self.headers.items()}
        asked = Asked(path, headers)
        answer = self.server.owner.next_answer(asked)
        try:
            if answer.raw is not None:
                self.wfile.write(answer.raw)
                self._then(answer, b"")
            else:
                self._answer(answer, asked)
        except OSError:
            return  # the client has gone

    def _answer(self, answer: Answer, asked: Asked) -> None:
        status, start = answer.status, 0
        if answer.status == 200 and answer.ranges and "range" in asked.headers and self._same_version(answer, asked):
            start = asked.start
            status = 206 if start < len(answer.body) else 416
        body = answer.body[start:] if status != 416 else b""
        self.send_response(status)
        if status in {206, 416}:
            first = f"{start}-{len(answer.body) - 1}" if status == 206 else "*"
            self.send_header("Content-Range", answer.content_range or f"bytes {first}/{len(answer.body)}")
        self._send_headers(answer, len(body))
        sent = body if answer.send is None else body[: answer.send]
        self._write(answer, sent)
        if answer.framing == "chunked" and answer.send is None and answer.then == "close":
            self.wfile.write(b"0\r\n\r\n")
        self._then(answer, body[len(sent) :])

    def _send_headers(self, answer: Answer, length: int) -> None:
        fixed = {"ETag": answer.etag, "Last-Modified": answer.last_modified, **answer.headers}
        for name, value in fixed.items():
            if value is not None:
                self.send_header(name, value)
        if answer.framing == "chunked":
            self.send_header("Transfer-Encoding", "chunked")
        elif answer.framing == "length":
            self.send_header("Content-Length", str(length if answer.announce is None else answer.announce))
        self.end_headers()

    def _write(self, answer: Answer, data: bytes) -> None:
        if answer.framing == "chunked" and data:
            self.wfile.write(b"%x\r\n%b\r\n" % (len(data), data))
        else:
            self.wfile.write(data)

    def _then(self, answer: Answer, rest: bytes) -> None:
        owner = self.server.owner
        if answer.then == "stall":
            owner.stalled.set()
            owner.over.wait(_DEADLINE_S)
        while answer.then == "drip" and not owner.over.wait(0.02):
            self._write(answer, rest[:1] or b"\0")
            rest = rest[1:]
        while answer.then == "endless" and not owner.over.is_set():
            self._write(answer, bytes(_BLOCK_BYTES))

    def _same_version(self, answer: Answer, asked: Asked) -> bool:
        condition = asked.headers.get("if-range")
        return condition is None or condition in {answer.etag, answer.last_modified}


def refused_url() -> str:
    """A URL of a port on which nobody listens."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return f"http://127.0.0.1:{probe.getsockname()[1]}"
