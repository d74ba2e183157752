"""An application behind uvicorn, on a thread."""

import logging
import socket
import threading

import uvicorn
from starlette.types import ASGIApp

from fleet.errors import ErrorCode, Permanent

log = logging.getLogger(__name__)
_GRACE_S = 1
"""For requests under way at the end; live views would go on for ever."""


class HttpServer:
    def __init__(self, app: ASGIApp, host: str, port: int) -> None:
        """Listens at once, `start` answers. Errors: Permanent(INVALID) for an address that cannot be listened on."""
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        try:
            self._listener = socket.create_server((host, port), family=family, backlog=2048)
        except (OSError, UnicodeError) as error:
            raise Permanent(ErrorCode.INVALID, f"cannot listen on {host}:{port}: {error}") from error
        self.port = int(self._listener.getsockname()[1])
        config = uvicorn.Config(
            app,
            log_config=None,
            access_log=False,
            lifespan="off",
            ws="none",
            server_header=False,
            timeout_graceful_shutdown=_GRACE_S,
        )
        self._server = uvicorn.Server(config)
        self._thread = threading.Thread(target=self._run, name="web", daemon=True)

    def start(self) -> None:
        self._thread.start()

    @property
    def is_alive(self) -> bool:
        return self._thread.is_alive()

    def stop(self, timeout_s: float) -> None:
        self._server.should_exit = True
        if self._thread.is_alive():
            self._thread.join(timeout_s)
        self._listener.close()

    def _run(self) -> None:
        try:
            self._server.run([self._listener])
        except SystemExit as error:  # how uvicorn tells that it could not start
            log.error("the web server has ended: %s", error)
