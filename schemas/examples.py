"""One example of each message, true to the models: what `make gen` writes to `schemas/examples/`."""

from datetime import UTC, datetime, timedelta

from schemas.alarm import Alarm, AlarmSeverity, AlarmSource, Event
from schemas.base import Strict, Wire
from schemas.codes import FailureCode
from schemas.command import CancelUpdate, Lot, Ping, Rebirth, Replay, Reply
from schemas.job import InspectOutput, JobExecution, JobRequest, JobStatus, JobType
from schemas.manifest import Severity
from schemas.recipe import Evaluation
from schemas.result import (
    Box,
    Clock,
    Defect,
    ImageInfo,
    ProcessingTimes,
    Quality,
    QualityStatus,
    Result,
    ResultState,
    Rle,
    Station,
    Summary,
)
from schemas.state import DesiredConfig, DesiredModel, Phase, PhaseTime, ReportedConfig, ReportedModel
from schemas.status import CameraInfo, Info, Location, ModelInfo, Presence, Status
from schemas.target import Target
from schemas.telemetry import (
    CameraCounters,
    CoreCounters,
    CoreState,
    HostTelemetry,
    InspectionTelemetry,
    Latency,
    NpuTelemetry,
    SpoolTelemetry,
)

_T = datetime(2026, 1, 31, 6, 0, 0, 250_000, tzinfo=UTC)
_BOOT = "b6f1c7d2e9a04c55"
_SHA = "5f2c" * 16
_PLACE = {"enterprise": "acme", "site": "berlin", "area": "smt", "line": "line-3", "cell": "aoi-1", "node": "board-42"}
_MODEL = ModelInfo(name="pcb-unet", version="1.1.0", sha256=_SHA, generation=2, runtime="rknn",
                   runtime_version="2.3.2", driver_version="0.9.8", target=Target.RK3588)  # fmt: skip
_DEFECT = Defect(
    defect_id=1, class_id=2, class_name="short", severity=Severity.CRITICAL, score=0.9312, area_px=12,
    bbox=Box(x=100, y=200, width=3, height=4), polygon=[(100, 200), (102, 200), (102, 203), (100, 203)],
    rle=Rle(size=(720, 960), counts=[72_200, 4, 716, 4, 716, 4, 617_556]),
)  # fmt: skip

EXAMPLES: dict[str, Wire | Strict] = {
    "status": Status(presence=Presence.ONLINE, session_seq=17, boot_id=_BOOT, time=_T, reason="birth"),
    "info": Info(
        station=Location(**_PLACE), agent_version="0.1.0", python_version="3.11.9", platform="linux-aarch64",
        soc="rk3588", target=Target.RK3588, npu_cores=3, boot_id=_BOOT, started_at=_T, is_simulated=False,
        cameras=[CameraInfo(id="top", kind="rtsp", trigger="continuous", width_px=960, height_px=720)],
        model=_MODEL, capabilities=["desired/model", "cmd/ping", "job/inspect"], time=_T,
    ),
    "desired-model": DesiredModel(generation=3, name="pcb-unet", version="1.2.0", manifest_sha256=_SHA,
                                  urls=["http://models.example/pcb-unet/1.2.0"]),
    "desired-config": DesiredConfig(generation=2, config={"telemetry": {"interval_s": 30}}),
    "reported-model": ReportedModel(observed_generation=3, phase=Phase.PROBATION, time=_T,
                                    name="pcb-unet", version="1.2.0", sha256=_SHA,
                                    measured={"selfTestAgreement": 0.97},
                                    phases=[PhaseTime(phase=Phase.PROBATION, time=_T)]),
    "reported-config": ReportedConfig(observed_generation=2, phase=Phase.COMMITTED, time=_T, sha256=_SHA),
    "cmd-ping": Ping(command_id="ping-1"),
    "cmd-rebirth": Rebirth(command_id="rebirth-1"),
    "cmd-replay": Replay(command_id="gap-4711", boot_id=_BOOT, first_sequence_number=1200, last_sequence_number=1210),
    "cmd-cancel-update": CancelUpdate(command_id="stop-3", generation=3),
    "cmd-lot": Lot(command_id="lot-17-begins", lot_id="L-17", state="open"),
    "reply": Reply(command_id="gap-4711", ok=True, time=_T, output={"found": 10, "missing": [[1204, 1204]]}),
    "job-request": JobRequest(job_id="inspect-991", type=JobType.INSPECT, deadline=_T + timedelta(seconds=30),
                              document={"camera": "top", "partId": "SN-0007"}),
    "job-status": JobExecution(job_id="inspect-991", status=JobStatus.SUCCEEDED, queued_at=_T, started_at=_T,
                               last_updated_at=_T, version_number=3, status_details=InspectOutput(
                                   result_id="0d9f5b1e6c3a4d70", camera="top", evaluation="NOT_OK", defect_count=1,
                               ).model_dump(by_alias=True)),
    "result": Result(
        result_id="0d9f5b1e6c3a4d70", part_id="SN-0007", station=Station(**_PLACE, camera="top"),
        internal_recipe_id="default", is_simulated=False, creation_time=_T, boot_id=_BOOT, sequence_number=1201,
        result_state=ResultState.COMPLETED, result_evaluation=Evaluation.NOT_OK,
        reasons=["short: 1 found, 0 allowed"],
        processing_times=ProcessingTimes(
            start_time=_T, end_time=_T + timedelta(milliseconds=41), acquisition_duration=33.1,
            processing_duration=40.9, stages={"prepare": 1.2, "segment": 37.9, "regions": 0.9, "judge": 0.1},
        ),
        model=_MODEL,
        image=ImageInfo(id="top.88213.20260131T060000250000", width=960, height=720, frame_id=88_213, capture_time=_T,
                        pixel_size_mm=0.02),
        defects=[_DEFECT],
        summary=Summary(defect_count=1, listed_count=1, max_score=0.9312, total_area_px=12),
        quality=Quality(status=QualityStatus.GOOD), clock=Clock(synced=True, offset_ms=0.4),
    ),
    "telemetry-inspection": InspectionTelemetry(
        boot_id=_BOOT, time=_T, interval_s=10,
        cameras={"top": CameraCounters(state="live", captured=600, inspected=300, dropped=300, failed=0, reconnects=0,
                                       rate_hz=5.0)},
        latency_ms={"segment": Latency(count=50, p50=37.1, p95=39.5, p99=41.0, max=44.2)},
        results_by_evaluation={"OK": 40, "NOT_OK": 9, "NOT_DECIDABLE": 1}, segmenter_restarts=2,
        cores={"core-0": CoreCounters(state=CoreState.WORKING, inspected=291, faults=0, restarts=0, p50_ms=37.1),
               "core-1": CoreCounters(state=CoreState.OUT, inspected=6, faults=3, restarts=2)},
        model=_MODEL,
    ),
    "telemetry-spool": SpoolTelemetry(boot_id=_BOOT, time=_T, pending=2, pending_results=2, oldest_s=0.1,
                                      used_bytes=1_048_576, dropped_telemetry=0, dead=0, published=301),
    "telemetry-host": HostTelemetry(
        boot_id=_BOOT, time=_T, agent_version="0.1.0", cpu_percent=31.5, memory_bytes=58_000_000,
        children_memory_bytes=140_000_000, memory_free_bytes=2_100_000_000, temperature_c={"npu-thermal": 54.2},
        disk_free_bytes=20_000_000_000, disk_total_bytes=32_000_000_000, clock_synced=True, clock_offset_ms=0.4,
        npu=NpuTelemetry(load_percent=[61, 0, 0], frequency_hz=1_000_000_000, driver="0.9.8"), uptime_s=86_400,
        start_to_first_result_ms=830,
    ),
    "event": Event(event_id="e-1", code=FailureCode.CAMERA_LOST, severity=AlarmSeverity.CRITICAL, source="top",
                   kind="raised", text="no picture for 3.0 s", time=_T),
    "alarm": Alarm(code=FailureCode.CAMERA_LOST, severity=AlarmSeverity.CRITICAL, since=_T,
                   sources=[AlarmSource(source="top", text="no picture for 3.0 s", since=_T)]),
}  # fmt: skip
