"""The demonstration: a broker, an agent in a process of its own, and a reader that plays the MES."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from queue import Empty

from pydantic import ValidationError

from fleet.adapters.broker_iotcore import EmbeddedBroker, free_port
from fleet.adapters.subscriber_paho import Received, Subscriber
from fleet.core.tally import Tally
from schemas.alarm import Alarm
from schemas.result import Result
from schemas.status import Info, Presence, Status
from schemas.telemetry import HostTelemetry, InspectionTelemetry
from schemas.topics import BadTopic, parse

SITE, NODE = "demo", "board-1"
FIRST_RESULT_WITHIN_S = 60.0
STOP_WITHIN_S = 10.0
ALL_RECEIVED_WITHIN_S = 15.0


class DemoFailed(Exception):
    """With a text that says what to do."""


@dataclass(frozen=True, slots=True)
class Plan:
    """`source` is empty for synthetic boards, else a folder, a video file or an rtsp URL."""

    seconds: float
    source: str
    bundle: Path
    out: Path


@dataclass(slots=True)
class Seen:
    """What the reader knows, from messages alone."""

    tally: Tally = field(default_factory=Tally)
    latest: Result | None = None
    exhibits: list[Result] = field(default_factory=list)
    info: Info | None = None
    goodbye: Status | None = None
    inspection: InspectionTelemetry | None = None
    measured: InspectionTelemetry | None = None
    """The interval with the most results."""
    host: HostTelemetry | None = None
    memory_bytes: int = 0
    children_memory_bytes: int = 0
    alarms: dict[str, Alarm] = field(default_factory=dict)
    malformed: int = 0

    def take(self, message: Received) -> None:
        try:
            self._sort(message)
        except (ValidationError, BadTopic):
            self.malformed += 1

    def _sort(self, message: Received) -> None:
        topic = parse(message.topic)
        match topic.family, topic.name:
            case "result", _:
                self._result(Result.model_validate_json(message.payload))
            case "status", _:
                status = Status.model_validate_json(message.payload)
                self.goodbye = status if status.presence is Presence.OFFLINE else None
            case "info", _:
                self.info = Info.model_validate_json(message.payload)
            case "telemetry", "inspection":
                self.inspection = InspectionTelemetry.model_validate_json(message.payload)
                if self.measured is None or _results(self.inspection) >= _results(self.measured):
                    self.measured = self.inspection
            case "telemetry", "host":
                self.host = HostTelemetry.model_validate_json(message.payload)
                self.memory_bytes = max(self.memory_bytes, self.host.memory_bytes)
                self.children_memory_bytes = max(self.children_memory_bytes, self.host.children_memory_bytes)
            case "alarm", code if message.payload:
                self.alarms[code] = Alarm.model_validate_json(message.payload)
            case "alarm", code:
                self.alarms.pop(code, None)

    def _result(self, result: Result) -> None:
        if self.tally.add(result):
            self.latest = result
            if result.evidence and result.defects:
                self.exhibits.append(result)


def _results(telemetry: InspectionTelemetry) -> int:
    return sum(telemetry.results_by_evaluation.values())


def run(plan: Plan, show: Callable[[Seen, float], None]) -> Seen:
    """Run the demonstration for `seconds` from the first result; `show` gets what is known, several times a second.

    Errors: DemoFailed when the agent does not start or inspects nothing.
    """
    plan.out.mkdir(parents=True, exist_ok=True)
    port = free_port()
    with EmbeddedBroker(plan.out, port):
        reader = Subscriber("127.0.0.1", port, "mes", f"rkfleet/v1/{SITE}/{NODE}/#")
        reader.start()
        seen = Seen()
        agent = _start_agent(plan, port)
        try:
            _watch(agent, reader, seen, plan, show)
        finally:
            _stop_agent(agent)
        _drain(reader, seen)
        reader.stop()
    return seen


def settings(plan: Plan, port: int) -> str:
    """The agent's settings file."""
    kind, source = _kind(plan.source)
    camera = f'kind = "{kind}"'
    if source:
        camera += f"\nsource = {_quoted(source)}"
    if kind in {"synthetic", "folder"}:
        camera += "\nsource_rate_hz = 10.0\nseed = 5"
    return f"""\
# Written by `rkfleet demo`.
log_level = "INFO"

[station]
enterprise = "acme"
site = "{SITE}"
area = "smt"
line = "line-1"
node = "{NODE}"

[broker]
port = {port}

[model]
bundle = {_quoted(str(plan.bundle.resolve()))}
target = "cpu"
threads = {max(1, min(4, os.cpu_count() or 1))}

[storage]
data_dir = "data"
evidence_interval_s = 0.5

[telemetry]
interval_s = 1.0

[[camera]]
id = "top"
{camera}

[camera.trigger]
kind = "continuous"
rate_hz = 10.0
"""


def _kind(source: str) -> tuple[str, str]:
    if not source:
        return "synthetic", ""
    if "://" in source:
        return "rtsp", source
    path = Path(source).resolve()
    return ("folder" if path.is_dir() else "video"), str(path)


def _quoted(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'


def _start_agent(plan: Plan, port: int) -> subprocess.Popen[bytes]:
    config = plan.out / "agent.toml"
    config.write_text(settings(plan, port))
    with (plan.out / "agent.log").open("wb") as log:
        return subprocess.Popen(  # noqa: S603  our own agent
            [sys.executable, "-m", "agent.cli", "run", "--config", str(config)], stdout=log, stderr=subprocess.STDOUT
        )


def _watch(
    agent: subprocess.Popen[bytes], reader: Subscriber, seen: Seen, plan: Plan, show: Callable[[Seen, float], None]
) -> None:
    began_s = time.monotonic()
    first_s: float | None = None
    while first_s is None or time.monotonic() - first_s < plan.seconds:
        with suppress(Empty):
            seen.take(reader.inbox.get(timeout=0.2))
        now_s = time.monotonic()
        if first_s is None and seen.tally.received:
            first_s = now_s
        if agent.poll() is not None:
            raise DemoFailed(f"the agent ended with {agent.returncode}; see {plan.out / 'agent.log'}")
        if first_s is None and now_s - began_s > FIRST_RESULT_WITHIN_S:
            raise DemoFailed(f"no result within {FIRST_RESULT_WITHIN_S:.0f} s; see {plan.out / 'agent.log'}")
        show(seen, plan.seconds if first_s is None else max(0.0, plan.seconds - (now_s - first_s)))


def _stop_agent(agent: subprocess.Popen[bytes]) -> None:
    if agent.poll() is None:
        agent.send_signal(signal.SIGTERM)
    try:
        agent.wait(STOP_WITHIN_S)
    except subprocess.TimeoutExpired:
        agent.kill()
        agent.wait()


def _drain(reader: Subscriber, seen: Seen) -> None:
    """Until the goodbye is here and every result that it counts, or the time is over."""
    deadline_s = time.monotonic() + ALL_RECEIVED_WITHIN_S
    while time.monotonic() < deadline_s:
        goodbye = seen.goodbye
        if goodbye is not None and not seen.tally.missing(goodbye.boot_id, goodbye.last_sequence_number or 0):
            return
        with suppress(Empty):
            seen.take(reader.inbox.get(timeout=0.2))
