"""Rollouts as they stand."""

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Annotated, Self

from pydantic import Field

from fleet.core.rollout import (
    Member,
    MemberState,
    ModelRef,
    OnAbort,
    Placement,
    Rollout,
    RolloutSpec,
    RolloutState,
    WaveState,
)
from fleet.ports import RolloutSummary
from schemas.base import Id, Strict, Text, UtcTime, Wire


class SummaryView(Wire):
    """`members` are boards by state."""

    id: str
    name: str
    state: RolloutState
    model: ModelRef
    created_at: UtcTime
    created_by: str
    members: dict[MemberState, int]

    @classmethod
    def of(cls, summary: RolloutSummary) -> Self:
        return cls(
            id=summary.id,
            name=summary.name,
            state=summary.state,
            model=summary.model,
            created_at=summary.created_at,
            created_by=summary.created_by,
            members={MemberState(state): count for state, count in summary.members.items()},
        )


class Summaries(Wire):
    """Newest first."""

    rollouts: list[SummaryView]


class WaveView(Wire):
    """`members` is the number of boards, `counts` are those by state."""

    name: str
    state: WaveState
    is_confirmed: bool
    members: int
    counts: dict[MemberState, int]


class ProgressView(SummaryView):
    """Of the live view: the summary and the waves, without the boards. `elapsedS` is the rollout's own clock."""

    reason: str
    breach: str
    elapsed_s: float
    waves: list[WaveView]

    @classmethod
    def at(cls, rollout: Rollout) -> Self:
        return cls.model_construct(
            id=rollout.id,
            name=rollout.spec.name,
            state=rollout.state,
            model=rollout.spec.model,
            created_at=rollout.created_at,
            created_by=rollout.created_by,
            members=dict(Counter(member.state for member in rollout.members.values())),
            reason=rollout.reason,
            breach=rollout.breach,
            elapsed_s=rollout.elapsed_s,
            waves=waves(rollout),
        )


class MemberView(Wire):
    """`wave` is the wave's name. `isReleased`: another rollout is answerable for the board."""

    node: str
    state: MemberState
    wave: str
    generation: int
    attempts: int
    is_released: bool
    error: str
    figures: dict[str, float]


class RolloutView(Wire):
    """`breach` is the rule that has paused it. `onAbort` is set where the abort said otherwise than the spec."""

    id: str
    name: str
    state: RolloutState
    spec: RolloutSpec
    created_at: UtcTime
    created_by: str
    reason: str
    breach: str
    on_abort: OnAbort | None
    elapsed_s: float
    looked_at: UtcTime | None
    waves: list[WaveView]
    members: list[MemberView]

    @classmethod
    def of(cls, rollout: Rollout) -> Self:
        names = [wave.name for wave in rollout.spec.waves]
        members = sorted(rollout.members.values(), key=lambda member: member.id)
        return cls.model_construct(
            id=rollout.id,
            name=rollout.spec.name,
            state=rollout.state,
            spec=rollout.spec,
            created_at=rollout.created_at,
            created_by=rollout.created_by,
            reason=rollout.reason,
            breach=rollout.breach,
            on_abort=rollout.on_abort,
            elapsed_s=rollout.elapsed_s,
            looked_at=rollout.looked_at,
            waves=waves(rollout),
            members=[_member(member, names[member.wave]) for member in members],
        )


def _member(member: Member, wave: str) -> MemberView:
    return MemberView.model_construct(
        node=str(member.id),
        state=member.state,
        wave=wave,
        generation=member.generation,
        attempts=member.attempts,
        is_released=member.is_released,
        error=member.error,
        figures=member.figures,
    )


def waves(rollout: Rollout) -> list[WaveView]:
    counts: list[Counter[MemberState]] = [Counter() for _ in rollout.waves]
    for member in rollout.members.values():
        counts[member.wave][member.state] += 1
    return [
        WaveView.model_construct(
            name=spec.name,
            state=progress.state,
            is_confirmed=progress.is_confirmed,
            members=sum(count.values()),
            counts=dict(count),
        )
        for spec, progress, count in zip(rollout.spec.waves, rollout.waves, counts, strict=True)
    ]


class PlacementView(Wire):
    node: str
    wave: str
    has_model: bool
    """It runs the model already, and will be told nothing."""


class DryRun(Wire):
    """What would be: nothing was created. `waves` are boards by wave; `taken` are boards that other rollouts would
    lose, by rollout.
    """

    placements: list[PlacementView]
    waves: dict[str, int]
    taken: dict[str, int]

    @classmethod
    def of(cls, spec: RolloutSpec, placements: Iterable[Placement], taken: Mapping[str, int]) -> Self:
        names = [wave.name for wave in spec.waves]
        made = [
            PlacementView(
                node=str(each.id),
                wave=names[each.wave],
                has_model=each.running is not None and each.running.manifest_sha256 == spec.model.manifest_sha256,
            )
            for each in sorted(placements, key=lambda each: (each.wave, each.id))
        ]
        sizes = Counter(each.wave for each in made)
        return cls(placements=made, waves={name: sizes[name] for name in names}, taken=dict(taken))


class PauseRequest(Strict):
    reason: Text = ""


class AbortRequest(Strict):
    """`onAbort` overrides the spec's."""

    reason: Text = ""
    on_abort: OnAbort | None = None


class ConfirmRequest(Strict):
    wave: Id


class RetryRequest(Strict):
    """Failed boards of the rollout that match the filter; all of them where it is empty."""

    filter: Annotated[str, Field(max_length=4000)] = ""
