"""What a rollout remembers."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum

from fleet.core.rollout.metrics import NOTHING, Observation, known
from fleet.core.rollout.spec import ModelRef, OnAbort, RolloutSpec
from fleet.core.roster import NodeId


class RolloutState(StrEnum):
    READY = "READY"
    """Waits for its start time."""
    RUNNING = "RUNNING"
    PAUSED = "PAUSED"
    """Nothing is started; what is under way goes on, and rules that abort still do."""
    STOPPING = "STOPPING"
    """Aborted; boards are on their way back."""
    STOPPED = "STOPPED"
    FINISHED = "FINISHED"

    @property
    def is_over(self) -> bool:
        return self in {RolloutState.STOPPED, RolloutState.FINISHED}

    @property
    def is_live(self) -> bool:
        """Boards may still be updated."""
        return self in {RolloutState.READY, RolloutState.RUNNING, RolloutState.PAUSED}


class WaveState(StrEnum):
    SCHEDULED = "SCHEDULED"
    WAITING_FOR_CONFIRMATION = "WAITING_FOR_CONFIRMATION"
    RUNNING = "RUNNING"
    SOAKING = "SOAKING"
    SUCCEEDED = "SUCCEEDED"

    @property
    def is_begun(self) -> bool:
        return self in {WaveState.RUNNING, WaveState.SOAKING, WaveState.SUCCEEDED}


class MemberState(StrEnum):
    QUEUED = "QUEUED"
    """Waits for its wave, its turn, or its next attempt."""
    IN_PROGRESS = "IN_PROGRESS"
    """Told, and not at an end by its own report."""
    SUCCEEDED = "SUCCEEDED"
    """The board reports COMMITTED."""
    FAILED = "FAILED"
    REJECTED = "REJECTED"
    TIMED_OUT = "TIMED_OUT"
    REMOVED = "REMOVED"
    """Another rollout has taken the board over, or it has left the fleet."""
    CANCELED = "CANCELED"
    """Never told, as the rollout was aborted before its turn."""
    REVERTING = "REVERTING"
    REVERTED = "REVERTED"
    REVERT_FAILED = "REVERT_FAILED"

    @property
    def is_failure(self) -> bool:
        return self in {MemberState.FAILED, MemberState.REJECTED, MemberState.TIMED_OUT}

    @property
    def is_executed(self) -> bool:
        return self is MemberState.SUCCEEDED or self.is_failure


@dataclass(frozen=True, slots=True)
class Member:
    """One board in the rollout.

    `generation` is the last that the rollout has given it, 0 for none; `floor` the highest that anyone is known to
    have given it. `running` is the board's settled model by its own report, `previous` what it ran when first told.
    `told_s` and `retry_s` are on the rollout's clock. `has_regressed`: it had committed and does not run the model any
    more; only a retry by hand mends that. `is_released`: another rollout is answerable for it.
    """

    id: NodeId
    wave: int
    state: MemberState = MemberState.QUEUED
    generation: int = 0
    floor: int = 0
    attempts: int = 0
    running: ModelRef | None = None
    previous: ModelRef | None = None
    told_s: float = 0.0
    retry_s: float = 0.0
    has_regressed: bool = False
    is_released: bool = False
    error: str = ""
    measured: Mapping[str, float] = field(default_factory=dict)
    before: Observation = NOTHING
    after: Observation = NOTHING

    @property
    def is_counted(self) -> bool:
        """Whether it says something of the rollout: a board that had the model already does not."""
        had_it = self.state is MemberState.SUCCEEDED and self.generation == 0
        return self.state is not MemberState.REMOVED and not had_it

    @property
    def figures(self) -> dict[str, float]:
        return known(self.measured, self.before, self.after)


@dataclass(frozen=True, slots=True)
class WaveProgress:
    state: WaveState = WaveState.SCHEDULED
    is_confirmed: bool = False
    soak_until_s: float = 0.0


@dataclass(frozen=True, slots=True)
class Rollout:
    """`elapsed_s` is the rollout's own clock: it stands still while nobody looks, and jumps with no other clock.

    `recent` are (time, boards told) of the last minute by that clock, `notified` all that were ever told. `breach` is
    the rule that has paused it, `waived` are rules that an operator has overruled by resuming. `version` grows with
    each change.
    """

    id: str
    spec: RolloutSpec
    created_at: datetime
    created_by: str = ""
    state: RolloutState = RolloutState.READY
    waves: tuple[WaveProgress, ...] = ()
    members: Mapping[NodeId, Member] = field(default_factory=dict)
    elapsed_s: float = 0.0
    looked_at: datetime | None = None
    recent: tuple[tuple[float, int], ...] = ()
    notified: int = 0
    breach: str = ""
    waived: frozenset[str] = frozenset()
    on_abort: OnAbort | None = None
    reason: str = ""
    version: int = 0

    @property
    def wave(self) -> int:
        """Of the first wave that has not succeeded; as many as there are waves when all have."""
        states = [each.state for each in self.waves]
        return next((at for at, state in enumerate(states) if state is not WaveState.SUCCEEDED), len(states))

    def in_state(self, *states: MemberState) -> list[Member]:
        return [member for member in self.members.values() if member.state in states]


def new(rollout_id: str, spec: RolloutSpec, at: datetime, by: str) -> Rollout:
    """Without members: they come with Enrolled."""
    return Rollout(rollout_id, spec, at, by, waves=(WaveProgress(),) * len(spec.waves))
