"""Nodes, and what they shall run."""

from datetime import datetime
from typing import Annotated, Any, Self

from pydantic import Field

from fleet.core.roster import Health, Node, health
from fleet.core.roster.health import FLAP_WINDOW_S
from fleet.ports import Desired
from schemas.alarm import Alarm
from schemas.base import Id, Strict, UtcTime, Wire
from schemas.command import Failure, Reply
from schemas.state import Phase, ReportedConfig
from schemas.status import Info, Status
from schemas.telemetry import HostTelemetry, InspectionTelemetry, SpoolTelemetry

_ONE_LINE = r"^[^\x00-\x1f\x7f]*$"


class HealthView(Wire):
    """`reasons` say why it is not `ok`."""

    state: Health
    reasons: list[str]


class ReportedModelView(Wire):
    """By the board's last report. `name`, `version` and `sha256` are of the model that inspects, null in a gap."""

    name: str | None
    version: str | None
    sha256: str | None
    phase: Phase
    progress: float | None
    observed_generation: int
    last_error: Failure | None
    measured: dict[str, float]


class NodeView(Wire):
    """`id` is site and node with a slash between. What the board has not told yet is null."""

    id: str
    site: str
    node: str
    group: str
    labels: dict[str, str]
    line: str | None
    soc: str | None
    agent_version: str | None
    last_seen: UtcTime | None
    is_online: bool
    is_simulated: bool | None
    health: HealthView
    model: ReportedModelView | None
    alarms: list[Alarm]

    @classmethod
    def of(cls, node: Node, now: datetime) -> Self:
        return cls.model_construct(**_fields(node, now))


class TelemetryView(Wire):
    inspection: InspectionTelemetry | None
    host: HostTelemetry | None
    spool: SpoolTelemetry | None


class DesiredView(Wire):
    """What a node shall run. `isSent`: the broker has it. `rolloutId` is `by-hand` outside of rollouts."""

    node: str
    generation: int
    name: str
    version: str
    manifest_sha256: str
    is_revert: bool
    is_sent: bool
    rollout_id: str
    set_at: UtcTime

    @classmethod
    def of(cls, desired: Desired) -> Self:
        order = desired.order
        return cls(
            node=str(order.node),
            generation=order.generation,
            name=order.model.name,
            version=order.model.version,
            manifest_sha256=order.model.manifest_sha256,
            is_revert=order.is_revert,
            is_sent=desired.is_sent,
            rollout_id=desired.rollout_id,
            set_at=desired.set_at,
        )


class NodeDetail(NodeView):
    """`births` are the latest times at which it came online, by the server's clock."""

    status: Status | None
    info: Info | None
    config: ReportedConfig | None
    telemetry: TelemetryView
    births: list[UtcTime]
    desired: DesiredView | None

    @classmethod
    def whole(cls, node: Node, desired: Desired | None, now: datetime) -> Self:
        return cls.model_construct(
            **_fields(node, now),
            status=node.status,
            info=node.info,
            config=node.config,
            telemetry=_telemetry(node),
            births=list(node.births),
            desired=None if desired is None else DesiredView.of(desired),
        )  # fmt: skip


def _fields(node: Node, now: datetime) -> dict[str, Any]:
    """Not validated again: every part was when it came."""
    info = node.info
    return {
        "id": str(node.id),
        "site": node.id.site,
        "node": node.id.node,
        "group": node.group,
        "labels": dict(node.labels),
        "line": info.station.line if info else None,
        "soc": info.soc if info else None,
        "agent_version": info.agent_version if info else None,
        "last_seen": node.last_seen,
        "is_online": node.is_online,
        "is_simulated": info.is_simulated if info else None,
        "health": _health(node, now),
        "model": _model(node),
        "alarms": [alarm for _, alarm in sorted(node.alarms.items())],
    }


def _telemetry(node: Node) -> TelemetryView:
    groups: dict[str, Any] = {group: node.telemetry.get(group) for group in ("inspection", "host", "spool")}
    return TelemetryView.model_construct(**groups)


def _model(node: Node) -> ReportedModelView | None:
    report = node.model
    if report is None:
        return None
    return ReportedModelView.model_construct(
        name=report.name,
        version=report.version,
        sha256=report.sha256,
        phase=report.phase,
        progress=report.progress,
        observed_generation=report.observed_generation,
        last_error=report.last_error,
        measured=report.measured,
    )


def _health(node: Node, now: datetime) -> HealthView:
    state = health(node, now)
    reasons: list[str] = []
    match state:
        case Health.OFFLINE if node.status is None:
            reasons = ["has never come online"]
        case Health.OFFLINE:
            ended = node.status is not None and node.status.reason == "shutdown"
            reasons = ["was shut down" if ended else "the connection was lost"]
        case Health.SILENT:
            silent_s = None if node.last_seen is None else (now - node.last_seen).total_seconds()
            reasons = ["has not been heard yet" if silent_s is None else f"nothing was heard for {silent_s:.0f} s"]
        case Health.FLAPPING:
            reasons = [f"has come online again and again within {FLAP_WINDOW_S / 60:.0f} minutes"]
    alarms = [f"{code}: {alarm.sources[0].text}" for code, alarm in sorted(node.alarms.items())]
    return HealthView.model_construct(state=state, reasons=reasons + alarms)


class NodePage(Wire):
    """`next` is `after` of the next page; null on the last."""

    nodes: list[NodeView]
    next: str | None


class LabelChange(Strict):
    """A label that is null is taken away; a group that is left out or null stays, an empty one is none."""

    labels: dict[Id, Annotated[str, Field(max_length=256, pattern=_ONE_LINE)] | None] = Field(
        default_factory=dict, max_length=64
    )
    group: Annotated[str, Field(max_length=128, pattern=_ONE_LINE)] | None = None


class ModelChoice(Strict):
    name: Id
    version: Id


class NodeReply(Wire):
    """`reply` is null where none came in time."""

    node: str
    reply: Reply | None


class NodeReplies(Wire):
    replies: list[NodeReply]
