"""An MQTT 5 broker inside the demo: iotcore (rumqttd), on the loopback interface only.

Its defaults listen on every interface and never acknowledge more than 20 KB; the file below changes both.
"""

import subprocess
import sys
import time
from contextlib import closing
from pathlib import Path
from socket import AF_INET, SOCK_STREAM, create_connection, socket
from typing import Self

_CONFIG = """\
id = 0

[router]
id = 0
max_connections = 64
max_outgoing_packet_count = 200
max_segment_size = 104857600
max_segment_count = 10

[v5.1]
name = "v5"
listen = "127.0.0.1:{port}"
next_connection_delay_ms = 1

[v5.1.connections]
connection_timeout_ms = 60000
max_payload_size = 1048576
max_inflight_count = 200
dynamic_filters = true
"""


def free_port() -> int:
    """A TCP port that nobody listens on now."""
    with closing(socket(AF_INET, SOCK_STREAM)) as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class EmbeddedBroker:
    """Runs in a child process; `with` starts and ends it. Raises RuntimeError when it does not come up."""

    def __init__(self, folder: Path, port: int, start_timeout_s: float = 15.0) -> None:
        self.port = port
        self._timeout_s = start_timeout_s
        self._config = folder / "broker.toml"
        self._log = folder / "broker.log"
        self._config.write_text(_CONFIG.format(port=port))
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(  # noqa: S603  our own interpreter and file
                [sys.executable, "-m", "iotcore", "--config", str(self._config), "--log-level", "CRITICAL"],
                stdout=log,
                stderr=subprocess.STDOUT,
            )
        deadline_s = time.monotonic() + self._timeout_s
        while time.monotonic() < deadline_s and self._process.poll() is None:
            try:
                create_connection(("127.0.0.1", self.port), timeout=1.0).close()
            except OSError:
                time.sleep(0.02)
            else:
                return self
        self.__exit__()
        raise RuntimeError(f"the embedded broker did not start, see {self._log}")

    def __exit__(self, *_exc: object) -> None:
        if self._process is not None:
            self._process.terminate()
            try:
                self._process.wait(5)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
