"""Telemetry messages from what was measured; nothing here touches the world."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from agent.core.outgoing import Outgoing
from agent.loops.start import Milestone
from agent.loops.stats import Interval
from agent.ports import HostFacts, SpoolDepth
from schemas.base import Wire
from schemas.status import ModelInfo
from schemas.telemetry import (
    CameraCounters,
    CoreCounters,
    HostTelemetry,
    InspectionTelemetry,
    Latency,
    NpuTelemetry,
    SpoolTelemetry,
    StartTelemetry,
)
from schemas.topics import Topics


@dataclass(frozen=True, slots=True)
class CameraFacts:
    """Since start."""

    state: str
    captured: int
    inspected: int
    dropped: int
    failed: int
    reconnects: int
    missed: int


@dataclass(frozen=True, slots=True)
class Measured:
    """All that one telemetry tick tells."""

    at: datetime
    snapshot: Interval
    cameras: Mapping[str, CameraFacts]
    model: ModelInfo | None
    segmenter_restarts: int
    depth: SpoolDepth
    published: int
    host: HostFacts
    start_ms: Mapping[str, float]


def messages(measured: Measured, topics: Topics, boot_id: str, agent_version: str) -> list[Outgoing]:
    """One message a group; each expires after twice the interval that it covers."""
    groups: dict[str, Wire] = {
        "inspection": _inspection(measured, boot_id),
        "spool": _spool(measured, boot_id),
        "host": _host(measured, boot_id, agent_version),
    }
    expiry_s = max(1, round(2 * measured.snapshot.interval_s))
    return [
        Outgoing(topics.telemetry(group), message.to_json(), qos=0, expiry_s=expiry_s)
        for group, message in groups.items()
    ]


def _inspection(measured: Measured, boot_id: str) -> InspectionTelemetry:
    snapshot = measured.snapshot
    return InspectionTelemetry(
        boot_id=boot_id,
        time=measured.at,
        interval_s=max(snapshot.interval_s, 0.001),
        cameras={
            name: CameraCounters(
                state=facts.state,
                captured=facts.captured,
                inspected=facts.inspected,
                dropped=facts.dropped,
                failed=facts.failed,
                reconnects=facts.reconnects,
                missed_triggers=facts.missed,
                rate_hz=round(snapshot.rate_hz(f"camera.{name}"), 3),
            )
            for name, facts in measured.cameras.items()
        },
        latency_ms={
            stage: Latency(
                count=latency.count,
                p50=round(latency.p50_ms, 3),
                p95=round(latency.p95_ms, 3),
                p99=round(latency.p99_ms, 3),
                max=round(latency.max_ms, 3),
            )
            for stage, latency in snapshot.stages.items()
        },
        results_by_evaluation={
            name.removeprefix("evaluation."): count
            for name, count in snapshot.counts.items()
            if name.startswith("evaluation.")
        },
        segmenter_restarts=measured.segmenter_restarts,
        cores=cores(snapshot),
        model=measured.model,
    )


def cores(snapshot: Interval) -> dict[str, CoreCounters]:
    return {
        name: CoreCounters(
            state=facts.state,
            inspected=facts.inspected,
            faults=facts.faults,
            restarts=facts.restarts,
            p50_ms=None if facts.p50_ms is None else round(facts.p50_ms, 3),
        )
        for name, facts in snapshot.cores.items()
    }


def _spool(measured: Measured, boot_id: str) -> SpoolTelemetry:
    depth = measured.depth
    return SpoolTelemetry(
        boot_id=boot_id,
        time=measured.at,
        pending=depth.pending,
        pending_results=depth.pending_results,
        oldest_s=round(max(0.0, depth.oldest_s), 3),
        used_bytes=depth.used_bytes,
        dropped_telemetry=depth.dropped_telemetry,
        dead=depth.dead,
        published=measured.published,
    )


def _host(measured: Measured, boot_id: str, agent_version: str) -> HostTelemetry:
    host = measured.host
    npu = host.npu
    return HostTelemetry(
        boot_id=boot_id,
        time=measured.at,
        agent_version=agent_version,
        cpu_percent=host.cpu_percent,
        memory_bytes=host.memory_bytes,
        children_memory_bytes=host.children_memory_bytes,
        memory_free_bytes=host.memory_free_bytes,
        temperature_c=host.temperature_c,
        disk_free_bytes=host.disk_free_bytes,
        disk_total_bytes=host.disk_total_bytes,
        clock_synced=host.clock_synced,
        clock_offset_ms=host.clock_offset_ms,
        npu=NpuTelemetry(load_percent=list(npu.load_percent), frequency_hz=npu.frequency_hz, driver=npu.driver)
        if npu
        else None,
        uptime_s=host.uptime_s,
        start_to_first_result_ms=measured.start_ms.get(Milestone.FIRST_RESULT),
        start=StartTelemetry.of(measured.start_ms),
    )
