"""What `rkfleet-agent selftest` finds out about a board, in a file that can be sent to others: it holds no secrets."""

from enum import StrEnum
from typing import Literal

from pydantic import Field

from schemas.base import Id, Text, UtcTime, Wire
from schemas.job import Percentiles
from schemas.status import ModelInfo
from schemas.target import Target


class Outcome(StrEnum):
    OK = "ok"
    LOOK = "look"
    """It works, but somebody should look at it, or it could not be judged."""
    FAILED = "failed"


class Finding(Wire):
    """`text` says what was found and, where it is not `ok`, what to do."""

    what: Id
    outcome: Outcome
    text: Text


class BoardFacts(Wire):
    """None where the machine does not tell."""

    agent_version: str
    python_version: str
    machine: str
    kernel: str
    cpus: int | None = None
    soc: str | None = None
    target: Target
    npu_driver: str | None = None
    npu_load_told: bool
    npu_frequency_told: bool


class CoreFacts(Wire):
    """One core working alone. `leastAgreement` is that of the worst golden frame (mean IoU, 0 to 1)."""

    load_ms: float
    golden_frames: int
    least_agreement: float
    calls: int
    rate_hz: float
    call_ms: Percentiles


class TogetherFacts(Wire):
    """All cores at once. `ratio`: their rate over the sum of their rates alone."""

    seconds: float
    calls: int
    rate_hz: float
    ratio: float
    call_ms: Percentiles


class Sample(Wire):
    """`atS` counts from the start of the work on all cores."""

    at_s: float
    temperature_c: dict[str, float] = Field(default_factory=dict)
    npu_frequency_hz: int | None = None
    npu_load_percent: list[float] = Field(default_factory=list)
    memory_bytes: int
    children_memory_bytes: int


class Trend(Wire):
    """A line through the samples of the second half, by least squares."""

    start_bytes: int
    end_bytes: int
    mb_per_hour: float


class CameraFacts(Wire):
    """`rateHz` as delivered, whatever the settings ask for."""

    width_px: int
    height_px: int
    layout: str
    frames: int
    rate_hz: float


class SpoolFacts(Wire):
    """Time of one durable row, on the disk of `storage.data_dir`."""

    rows: int
    commit_ms: Percentiles


class SelfTest(Wire):
    """The whole report. What was not come to, or does not work, is left out; `findings` tell why."""

    schema_id: Literal["rkfleet.selftest/1"] = Field(default="rkfleet.selftest/1", alias="schema")
    time: UtcTime
    seconds: float
    asked_seconds: float
    is_ended_early: bool
    is_agent_running: bool
    ok: bool
    board: BoardFacts
    model: ModelInfo | None = None
    cores: dict[str, CoreFacts] = Field(default_factory=dict)
    together: TogetherFacts | None = None
    samples: list[Sample] = Field(default_factory=list)
    memory: Trend | None = None
    children_memory: Trend | None = None
    cameras: dict[str, CameraFacts] = Field(default_factory=dict)
    broker_connect_ms: float | None = None
    broker_round_trip_ms: Percentiles | None = None
    spool: SpoolFacts | None = None
    clock_synced: bool | None = None
    clock_offset_ms: float | None = None
    findings: list[Finding]
