"""A whole agent in a process of its own, its settings, and what a reader of its messages knows."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

from paho.mqtt.client import MQTTMessage

from schemas.result import Result
from schemas.status import Status
from schemas.topics import Topics
from tests.contract.raw_client import RawClient
from tests.scenario.bundle import make_bundle, make_pictures

TOPICS = Topics("berlin", "board-1")
DEADLINE_S = 30.0

SETTINGS = """\
[station]
site = "berlin"
node = "board-1"
line = "line-1"

[broker]
port = {port}
keepalive_s = 5

[model]
bundle = "bundle"
{model}

[storage]
data_dir = "data"

[telemetry]
interval_s = 0.5

[[camera]]
id = "top"
kind = "folder"
source = "pictures"
source_rate_hz = {rate_hz}

[camera.trigger]
kind = "continuous"
rate_hz = {trigger_hz}
"""
"""One camera; `model` is the rest of its section, in TOML."""
_MODEL = 'target = "cpu"\ndeadline_s = 1.0'


@dataclass
class Station:
    """`folder` holds settings, bundle, pictures and data; `start` may be called again after `kill` or `stop`."""

    folder: Path
    port: int
    rate_hz: float = 50.0
    environ: Mapping[str, str] = field(default_factory=dict)
    truth: dict[str, list[str]] = field(default_factory=dict)
    process: subprocess.Popen[bytes] | None = None

    def __post_init__(self) -> None:
        make_bundle(self.folder / "bundle")
        self.truth = make_pictures(self.folder / "pictures")
        self.config.write_text(
            SETTINGS.format(port=self.port, rate_hz=self.rate_hz, trigger_hz=self.rate_hz, model=_MODEL)
        )

    @property
    def config(self) -> Path:
        return self.folder / "agent.toml"

    @property
    def log(self) -> str:
        return (self.folder / "agent.log").read_text(errors="replace")

    def start(self) -> None:
        assert self.process is None
        with (self.folder / "agent.log").open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "agent.cli", "run", "--config", str(self.config)],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env={**os.environ, **self.environ},
            )

    def kill(self) -> None:
        self._end(signal.SIGKILL)

    def stop(self) -> int:
        """SIGTERM; returns the exit code."""
        return self._end(signal.SIGTERM)

    def _end(self, how: signal.Signals) -> int:
        process, self.process = self.process, None
        assert process is not None
        process.send_signal(how)
        return process.wait(DEADLINE_S)

    def children(self) -> list[int]:
        """Process ids of the segmenters."""
        assert self.process is not None
        text = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text()
        threads = Path(f"/proc/{self.process.pid}/task").glob("*/children")
        return sorted({int(pid) for path in threads for pid in path.read_text().split()} | set(map(int, text.split())))

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_exc: object) -> None:
        if self.process is not None:
            self.kill()


class Mes(RawClient):
    """Reads everything of the node. Results are kept by id, as a reader must: a duplicate is no second part."""

    def __init__(self, host: str, port: int, client_id: str = "mes", session_expiry_s: int = 0) -> None:
        super().__init__(host, port, f"{TOPICS.base}/#", client_id=client_id, session_expiry_s=session_expiry_s)

    def results(self) -> dict[str, Result]:
        found: dict[str, Result] = {}
        for message in self.of("result/"):
            result = Result.model_validate_json(message.payload)
            found.setdefault(result.result_id, result)
        return found

    def of(self, prefix: str) -> list[MQTTMessage]:
        return [message for message in list(self.messages) if message.topic.startswith(f"{TOPICS.base}/{prefix}")]

    def latest(self, name: str) -> dict[str, Any] | None:
        """The last payload on a topic; None when there was none, or it was emptied."""
        messages = self.of(name)
        payload = messages[-1].payload if messages else b""
        return json.loads(payload) if payload else None

    def statuses(self) -> list[Status]:
        return [Status.model_validate_json(message.payload) for message in self.of("status")]

    def wait(self, what: str, is_true: Callable[[], bool], within_s: float = DEADLINE_S) -> None:
        """Until something is true; looks again with each message, and now and then."""
        deadline_s = time.monotonic() + within_s
        while not is_true():
            if time.monotonic() > deadline_s:
                raise AssertionError(f"not within {within_s} s: {what}")
            time.sleep(0.02)


def gaps(results: Mapping[str, Result], boot_id: str, last: int) -> list[int]:
    """Sequence numbers of a boot that nobody has seen."""
    seen = {result.sequence_number for result in results.values() if result.boot_id == boot_id}
    return sorted(set(range(1, last + 1)) - seen)
