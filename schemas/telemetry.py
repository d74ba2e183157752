"""`telemetry/{group}`: how the board does, every few seconds. QoS 0: newest wins."""

from collections.abc import Mapping
from enum import StrEnum
from typing import Literal, Self

from pydantic import Field

from schemas.base import Id, UtcTime, Wire
from schemas.status import ModelInfo


class Latency(Wire):
    """In ms, over the interval."""

    count: int = Field(ge=0)
    p50: float
    p95: float
    p99: float
    max: float


class CameraCounters(Wire):
    """Since start of the agent, but for the rate, which is over the interval."""

    state: str
    captured: int = Field(ge=0)
    inspected: int = Field(ge=0)
    dropped: int = Field(ge=0)
    failed: int = Field(ge=0)
    reconnects: int = Field(ge=0)
    missed_triggers: int = Field(default=0, ge=0)
    rate_hz: float = Field(ge=0)


class CoreState(StrEnum):
    LOADING = "loading"
    """No model is loaded."""
    WORKING = "working"
    FAILING = "failing"
    """The last frame or load was a fault."""
    OUT = "out"
    """Slow or broken, and gets no frames; it is tried now and then."""


class CoreCounters(Wire):
    """Since start of the agent, but for `p50Ms`, which is the median time of inference of a frame over the interval.

    `restarts` counts the starts of its child process after the first of each model.
    """

    state: CoreState
    inspected: int = Field(ge=0)
    faults: int = Field(ge=0)
    restarts: int = Field(ge=0)
    p50_ms: float | None = None


class InspectionTelemetry(Wire):
    """`telemetry/inspection`."""

    schema_id: Literal["rkfleet.telemetry.inspection/1"] = Field(
        default="rkfleet.telemetry.inspection/1", alias="schema"
    )
    boot_id: Id
    time: UtcTime
    interval_s: float = Field(gt=0)
    cameras: dict[str, CameraCounters]
    latency_ms: dict[str, Latency]
    results_by_evaluation: dict[str, int]
    segmenter_restarts: int = Field(ge=0)
    cores: dict[str, CoreCounters] = Field(default_factory=dict)
    """By lane, such as `core-0`."""
    model: ModelInfo | None = None


class SpoolTelemetry(Wire):
    """`telemetry/spool`."""

    schema_id: Literal["rkfleet.telemetry.spool/1"] = Field(default="rkfleet.telemetry.spool/1", alias="schema")
    boot_id: Id
    time: UtcTime
    pending: int = Field(ge=0)
    pending_results: int = Field(ge=0)
    oldest_s: float = Field(ge=0)
    used_bytes: int = Field(ge=0)
    dropped_telemetry: int = Field(ge=0)
    dead: int = Field(ge=0)
    published: int = Field(ge=0)


class NpuTelemetry(Wire):
    load_percent: list[float]
    frequency_hz: int | None = None
    driver: str | None = None


class StartTelemetry(Wire):
    """When each phase of the start was over, in ms since the start of the process; what is not over is left out.

    Broker, camera and model come up at the same time. `imported`: interpreter, libraries and settings are there.
    """

    imported_ms: float | None = None
    stores_ms: float | None = None
    broker_connected_ms: float | None = None
    camera_opened_ms: float | None = None
    """The first of them."""
    model_loaded_ms: float | None = None
    """On the first core."""
    first_result_ms: float | None = None

    @classmethod
    def of(cls, reached_ms: Mapping[str, float]) -> Self:
        return cls.model_validate({f"{name}_ms": at_ms for name, at_ms in reached_ms.items()})


class HostTelemetry(Wire):
    """`telemetry/host`. What the machine does not tell is left out."""

    schema_id: Literal["rkfleet.telemetry.host/1"] = Field(default="rkfleet.telemetry.host/1", alias="schema")
    boot_id: Id
    time: UtcTime
    agent_version: str
    cpu_percent: float | None = None
    memory_bytes: int
    children_memory_bytes: int
    memory_free_bytes: int | None = None
    temperature_c: dict[str, float] = Field(default_factory=dict)
    disk_free_bytes: int | None = None
    disk_total_bytes: int | None = None
    clock_synced: bool | None = None
    clock_offset_ms: float | None = None
    npu: NpuTelemetry | None = None
    uptime_s: float | None = None
    start_to_first_result_ms: float | None = None
    """Since the start of the process."""
    start: StartTelemetry | None = None
