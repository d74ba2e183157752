"""One node: the newest message of each kind that it has sent, and what the operator says of it."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime

from schemas.alarm import Alarm
from schemas.base import Sha256
from schemas.state import Phase, ReportedConfig, ReportedModel
from schemas.status import Info, Presence, Status
from schemas.telemetry import HostTelemetry, InspectionTelemetry, SpoolTelemetry

Telemetry = InspectionTelemetry | HostTelemetry | SpoolTelemetry


@dataclass(frozen=True, slots=True, order=True)
class NodeId:
    """Unique in the fleet."""

    site: str
    node: str

    def __str__(self) -> str:
        return f"{self.site}/{self.node}"


@dataclass(frozen=True, slots=True)
class RunningModel:
    """`sha256` is that of the bundle's manifest."""

    name: str
    version: str
    sha256: Sha256


@dataclass(frozen=True, slots=True)
class Node:
    """`last_seen` and `births` are by the fleet's clock, all else by the board's.

    `group` and `labels` are the operator's and change by no message. `past_boots` are boot ids that a newer one has
    replaced, `births` the times of the latest births; both are bounded.
    """

    id: NodeId
    group: str = ""
    labels: Mapping[str, str] = field(default_factory=dict)
    last_seen: datetime | None = None
    births: tuple[datetime, ...] = ()
    past_boots: tuple[str, ...] = ()
    status: Status | None = None
    info: Info | None = None
    model: ReportedModel | None = None
    config: ReportedConfig | None = None
    telemetry: Mapping[str, Telemetry] = field(default_factory=dict)
    alarms: Mapping[str, Alarm] = field(default_factory=dict)

    @property
    def is_online(self) -> bool:
        return self.status is not None and self.status.presence is Presence.ONLINE

    @property
    def running(self) -> RunningModel | None:
        """The model that inspects, by the board's last report; None where it is not known, or in a declared gap."""
        report = self.model
        if report is None or report.name is None or report.version is None or report.sha256 is None:
            return None
        return RunningModel(report.name, report.version, report.sha256)

    @property
    def settled(self) -> RunningModel | None:
        """As `running`, where no update is under way: in probation the one that inspects is not proved yet."""
        return self.running if self.model is not None and self.model.phase.is_end else None

    @property
    def phase(self) -> Phase | None:
        return self.model.phase if self.model else None

    @property
    def observed_generation(self) -> int:
        return self.model.observed_generation if self.model else 0

    @property
    def inspection(self) -> InspectionTelemetry | None:
        found = self.telemetry.get("inspection")
        return found if isinstance(found, InspectionTelemetry) else None
