"""An application behind a real web server, on a thread."""

import http.client
import socket
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

import uvicorn
from starlette.applications import Starlette


@dataclass(frozen=True, slots=True)
class Said:
    status: int
    headers: Mapping[str, str]
    body: bytes


@dataclass(frozen=True, slots=True)
class Web:
    port: int

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def get(self, target: str, method: str = "GET", **headers: str) -> Said:
        """`target` goes out as it is, whatever a tidy client would make of it."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        try:
            connection.request(method, target, headers={name.replace("_", "-"): text for name, text in headers.items()})
            answer = connection.getresponse()
            return Said(answer.status, {k.lower(): v for k, v in answer.getheaders()}, answer.read())
        finally:
            connection.close()


@contextmanager
def serving(app: Starlette) -> Iterator[Web]:
    config = uvicorn.Config(app, log_level="critical", lifespan="off", ws="none")
    listener = socket.create_server(("127.0.0.1", 0))  # listens at once: whoever comes early waits
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, args=([listener],), name="asgi")
    thread.start()
    try:
        yield Web(listener.getsockname()[1])
    finally:
        server.should_exit = True
        thread.join(20)
        listener.close()
