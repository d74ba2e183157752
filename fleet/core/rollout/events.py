"""What happens to a rollout, and what is to be done about it."""

from dataclasses import dataclass
from enum import StrEnum

from fleet.core.rollout.spec import BoardPlan, ModelRef, OnAbort
from fleet.core.roster import NodeId
from schemas.state import ReportedModel
from schemas.telemetry import InspectionTelemetry


@dataclass(frozen=True, slots=True)
class Placement:
    """A board and its wave. `floor` is the highest generation that it was ever given or has reported."""

    id: NodeId
    wave: int
    floor: int = 0
    running: ModelRef | None = None


@dataclass(frozen=True, slots=True)
class Enrolled:
    """Boards belong to the rollout, at its creation or later; known ones stay as they are."""

    placements: tuple[Placement, ...]


@dataclass(frozen=True, slots=True)
class Reported:
    """The newest `reported/model` of a board, perhaps not for the first time."""

    node: NodeId
    report: ReportedModel


@dataclass(frozen=True, slots=True)
class Observed:
    """The newest `telemetry/inspection` of a board."""

    node: NodeId
    telemetry: InspectionTelemetry


@dataclass(frozen=True, slots=True)
class Ticked:
    """Time has passed."""


@dataclass(frozen=True, slots=True)
class Left:
    """Boards were taken out of the fleet."""

    nodes: tuple[NodeId, ...]


@dataclass(frozen=True, slots=True)
class Superseded:
    """Another rollout, or somebody by hand, is answerable for these boards from now on."""

    nodes: tuple[NodeId, ...]
    by: str


@dataclass(frozen=True, slots=True)
class Paused:
    by: str
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Resumed:
    """Overrules the rule that has paused it, if one has."""

    by: str


@dataclass(frozen=True, slots=True)
class Aborted:
    """`on_abort` overrides the spec."""

    by: str
    reason: str = ""
    on_abort: OnAbort | None = None


@dataclass(frozen=True, slots=True)
class Confirmed:
    """An operator lets this wave start."""

    wave: str
    by: str


@dataclass(frozen=True, slots=True)
class Retried:
    """An operator has these boards tried once more, whatever the retries of the spec."""

    nodes: tuple[NodeId, ...]
    by: str


Event = (
    Enrolled | Reported | Observed | Ticked | Left | Superseded | Paused | Resumed | Aborted | Confirmed | Retried
)  # fmt: skip


class AlertKind(StrEnum):
    STARTED = "rollout-started"
    PAUSED = "rollout-paused"
    RESUMED = "rollout-resumed"
    ABORTED = "rollout-aborted"
    STOPPED = "rollout-stopped"
    FINISHED = "rollout-finished"
    WAVE_WAITING = "wave-waiting"
    WAVE_STARTED = "wave-started"
    WAVE_SOAKING = "wave-soaking"
    WAVE_SUCCEEDED = "wave-succeeded"
    BOARD_FAILED = "board-failed"
    REVERT_FAILED = "revert-failed"


GRAVE = frozenset(
    {AlertKind.PAUSED, AlertKind.ABORTED, AlertKind.BOARD_FAILED, AlertKind.REVERT_FAILED, AlertKind.WAVE_WAITING}
)
"""Somebody should look."""


@dataclass(frozen=True, slots=True)
class SetDesired:
    """`node` shall run `model` from `generation` on; to be committed with the state, then published.

    A revert asks for neither shadow nor delay. Setting a generation that is set already changes nothing.
    """

    node: NodeId
    generation: int
    model: ModelRef
    plan: BoardPlan
    is_revert: bool = False


@dataclass(frozen=True, slots=True)
class Alert:
    """For people, and for the record."""

    kind: AlertKind
    text: str
    node: NodeId | None = None


Effect = SetDesired | Alert
