"""Every message with its topic, direction and delivery: what the JSON Schemas and the AsyncAPI document come from."""

from dataclasses import dataclass
from typing import Literal

from pydantic import BaseModel

from schemas.alarm import Alarm, Event
from schemas.command import CancelUpdate, Lot, Ping, Rebirth, Replay, Reply
from schemas.envelope import ControllerKeys, Envelope
from schemas.job import (
    BenchmarkDocument,
    BenchmarkOutput,
    CollectDocument,
    CollectedPicture,
    CollectOutput,
    InspectDocument,
    InspectOutput,
    JobExecution,
    JobRequest,
    LogsDocument,
    LogsOutput,
    RestartDocument,
    RestartOutput,
)
from schemas.manifest import Manifest
from schemas.recipe import Recipe
from schemas.registry import ModelTarget
from schemas.result import Result
from schemas.selftest import SelfTest
from schemas.state import DesiredConfig, DesiredModel, ReportedConfig, ReportedModel
from schemas.status import Info, Status
from schemas.telemetry import HostTelemetry, InspectionTelemetry, SpoolTelemetry


@dataclass(frozen=True, slots=True)
class Delivery:
    """`expiry` is in words: it depends on settings."""

    qos: Literal[0, 1]
    retain: bool
    expiry: str


STATE = Delivery(qos=1, retain=True, expiry="never")
RESULT = Delivery(qos=1, retain=False, expiry="never")
COMMAND = Delivery(qos=1, retain=False, expiry="30 to 300 s")
TELEMETRY = Delivery(qos=0, retain=False, expiry="twice the interval")


@dataclass(frozen=True, slots=True)
class Entry:
    """`address` is below `rkfleet/v1/{site}/{node}/`; empty for the response topic."""

    name: str
    model: type[BaseModel]
    address: str
    direction: Literal["board sends", "board receives"]
    delivery: Delivery
    summary: str


MESSAGES: tuple[Entry, ...] = (
    Entry("status", Status, "status", "board sends", STATE, "Birth and will."),
    Entry("info", Info, "info", "board sends", STATE, "What the board is and runs."),
    Entry("desired-model", DesiredModel, "desired/model", "board receives", STATE, "Which model should run."),
    Entry(
        "desired-config", DesiredConfig, "desired/config", "board receives", STATE, "Which configuration should run."
    ),
    Entry(
        "reported-model",
        ReportedModel,
        "reported/model",
        "board sends",
        STATE,
        "Which model runs, and how far a change is.",
    ),
    Entry(
        "reported-config",
        ReportedConfig,
        "reported/config",
        "board sends",
        STATE,
        "Which configuration runs, and how far a change is.",
    ),
    Entry("cmd-ping", Ping, "cmd/ping", "board receives", COMMAND, "Is the control loop alive?"),
    Entry("cmd-rebirth", Rebirth, "cmd/rebirth", "board receives", COMMAND, "Publish status, info and alarms again."),
    Entry(
        "cmd-replay",
        Replay,
        "cmd/replay",
        "board receives",
        COMMAND,
        "Publish results of a range again, to fill a gap.",
    ),
    Entry(
        "cmd-cancel-update",
        CancelUpdate,
        "cmd/cancel-update",
        "board receives",
        COMMAND,
        "Take back a desired model that is not committed.",
    ),
    Entry("cmd-lot", Lot, "cmd/lot", "board receives", COMMAND, "A lot begins or ends."),
    Entry(
        "reply",
        Reply,
        "",
        "board sends",
        COMMAND,
        "Answer to a command, on its response topic with its correlation data.",
    ),
    Entry(
        "job-request",
        JobRequest,
        "job/{jobId}/request",
        "board receives",
        Delivery(qos=1, retain=False, expiry="the deadline"),
        "One-shot work.",
    ),
    Entry(
        "job-status",
        JobExecution,
        "job/{jobId}/status",
        "board sends",
        Delivery(qos=1, retain=True, expiry="7 days"),
        "How far a job is.",
    ),
    Entry("result", Result, "result/{camera}", "board sends", RESULT, "One inspection."),
    Entry(
        "telemetry-inspection",
        InspectionTelemetry,
        "telemetry/inspection",
        "board sends",
        TELEMETRY,
        "Rates, drops and latencies.",
    ),
    Entry("telemetry-spool", SpoolTelemetry, "telemetry/spool", "board sends", TELEMETRY, "What waits to be sent."),
    Entry(
        "telemetry-host",
        HostTelemetry,
        "telemetry/host",
        "board sends",
        TELEMETRY,
        "Memory, temperature, disk, clock, NPU.",
    ),
    Entry(
        "event",
        Event,
        "event/{code}",
        "board sends",
        Delivery(qos=1, retain=False, expiry="7 days"),
        "Something happened.",
    ),
    Entry(
        "alarm", Alarm, "alarm/{code}", "board sends", STATE, "Something needs somebody; an empty payload clears it."
    ),
)

DOCUMENTS: dict[str, type[BaseModel]] = {
    "signed": Envelope,
    "controller-keys": ControllerKeys,
    "registry-target": ModelTarget,
    "manifest": Manifest,
    "recipe": Recipe,
    "job-inspect-document": InspectDocument,
    "job-inspect-output": InspectOutput,
    "job-collect-document": CollectDocument,
    "job-collect-output": CollectOutput,
    "job-benchmark-document": BenchmarkDocument,
    "job-benchmark-output": BenchmarkOutput,
    "job-logs-document": LogsDocument,
    "job-logs-output": LogsOutput,
    "job-restart-document": RestartDocument,
    "job-restart-output": RestartOutput,
    "collected-picture": CollectedPicture,
    "selftest": SelfTest,
}
"""What is published as JSON Schema and is no message."""
