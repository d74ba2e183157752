"""Messages of a board, for tests of the fleet."""

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from fleet.core.rollout import ModelRef
from fleet.core.roster import Heard, Node, NodeId, RunningModel
from schemas.result import Result
from schemas.state import Phase, ReportedModel
from schemas.status import Info, Location, Presence, Status
from schemas.target import Target
from schemas.telemetry import InspectionTelemetry

T0 = datetime(2026, 3, 6, 12, tzinfo=UTC)
OLD = ModelRef(name="pcb", version="1.0", manifest_sha256="a" * 64)
NEW = ModelRef(name="pcb", version="2.0", manifest_sha256="b" * 64)


def at(seconds: float) -> datetime:
    return T0 + timedelta(seconds=seconds)


def node_id(number: int = 1, site: str = "plant1") -> NodeId:
    return NodeId(site, f"board-{number:03d}")


def status(
    presence: str = "online", seq: int = 1, boot: str = "boot1", reason: str = "birth", seconds: float = 0.0
) -> Status:
    time = None if reason == "will" else at(seconds - 1)
    return Status(presence=Presence(presence), session_seq=seq, boot_id=boot, reason=reason, time=time)  # type: ignore[arg-type]


def info(node: NodeId, **changes: Any) -> Info:
    base = Info(
        station=Location(site=node.site, node=node.node, line="smt-1"),
        agent_version="0.4.0",
        python_version="3.11.2",
        platform="linux",
        soc="rk3588",
        target=Target.RK3588,
        npu_cores=3,
        boot_id="boot1",
        started_at=T0,
        is_simulated=False,
        cameras=[],
        capabilities=[],
        time=T0,
    )
    return base.model_copy(update=changes)


def report(
    phase: Phase = Phase.COMMITTED, generation: int = 0, model: ModelRef | None = OLD, seconds: float = 0.0, **more: Any
) -> ReportedModel:
    return ReportedModel(
        observed_generation=generation,
        phase=phase,
        time=at(seconds),
        name=model.name if model else None,
        version=model.version if model else None,
        sha256=model.manifest_sha256 if model else None,
        **more,
    )


def heard(node: NodeId, message: Any, seconds: float = 0.0, *, name: str = "", is_retained: bool = False) -> Heard:
    family: dict[Any, str] = {
        Status: "status",
        Info: "info",
        ReportedModel: "reported",
        InspectionTelemetry: "telemetry",
    }
    return Heard(node, family.get(type(message), "event"), name, message, at(seconds), is_retained)


def node(number: int = 1, model: ModelRef = OLD, **changes: Any) -> Node:
    key = node_id(number, changes.pop("site", "plant1"))
    fields = {"status": status(), "info": info(key), "model": report(model=model), "last_seen": T0, **changes}
    return Node(key, **fields)


def running(model: ModelRef) -> RunningModel:
    return RunningModel(model.name, model.version, model.manifest_sha256)


def telemetry(seconds: float, model: ModelRef, counts: dict[str, int]) -> InspectionTelemetry:
    example = json.loads(Path("schemas/examples/telemetry-inspection.json").read_text())
    example["time"], example["resultsByEvaluation"] = at(seconds).isoformat(), counts
    example["model"] |= {"name": model.name, "version": model.version}
    return InspectionTelemetry.model_validate(example)


def result(number: int, *, key: NodeId | None = None, boot: str = "boot1", **changes: Any) -> Result:
    example = Result.model_validate_json(Path("schemas/examples/result.json").read_bytes())
    key = key or node_id()
    station = example.station.model_copy(update={"site": key.site, "node": key.node})
    base = {"result_id": f"{key.node}.{boot}.{number}", "sequence_number": number, "boot_id": boot, "station": station}
    return example.model_copy(update={**base, "creation_time": at(number), **changes})
