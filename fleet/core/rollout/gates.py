"""Rules over many boards: gates, success of a wave, abort criteria. All are shares of boards: no board counts twice."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from fleet.core.rollout.spec import AbortCriteria, Action, FailureType, Gate, Wave
from fleet.core.rollout.state import Member, MemberState, Rollout, WaveState

_EPSILON = 1e-9


class Verdict(StrEnum):
    HOLDS = "holds"
    PENDING = "pending"
    BROKEN = "broken"


@dataclass(frozen=True, slots=True)
class Breach:
    """A broken rule. `key` names it, so that an operator can overrule it."""

    key: str
    action: Action
    text: str


def needed(percentage: float, of: int) -> int:
    return math.ceil(percentage * of / 100.0 - _EPSILON)


def judge(gate: Gate, wave: Sequence[Member], *, is_final: bool) -> Verdict:
    """`wave` are the counted boards of one wave. Not final: figures that are not there yet may still come."""
    committed = [member for member in wave if member.state is MemberState.SUCCEEDED]
    values = [member.figures[gate.metric] for member in committed if gate.metric in member.figures]
    good = sum(_is_within(gate, value) for value in values)
    enough = len(values) >= min(gate.min_number_of_executed_things, len(wave))
    most_bad = len(wave) - needed(gate.threshold_percentage, len(wave))
    if enough and len(values) - good > most_bad:
        return Verdict.BROKEN
    if not is_final:
        return Verdict.PENDING
    holds = enough and good >= needed(gate.threshold_percentage, len(committed))
    return Verdict.HOLDS if holds else Verdict.BROKEN


def _is_within(gate: Gate, value: float) -> bool:
    return (gate.at_least is None or value >= gate.at_least) and (gate.at_most is None or value <= gate.at_most)


def has_succeeded(wave: Wave, members: Sequence[Member]) -> bool:
    """The wave's own criteria, gates apart. `members` are its counted boards."""
    executed = sum(member.state.is_executed for member in members)
    succeeded = sum(member.state is MemberState.SUCCEEDED for member in members)
    enough = executed >= min(wave.min_number_of_executed_things, len(members))
    return enough and succeeded >= needed(wave.success_threshold_percentage, len(members))


def is_reached(rollout: Rollout, at: int, members: Sequence[Member]) -> bool:
    """A threshold that an operator has overruled is taken as reached once nobody is at work any more."""
    wave = rollout.spec.waves[at]
    if f"wave:{wave.name}" in rollout.waived:
        return all(member.state.is_executed for member in members)
    return has_succeeded(wave, members)


def can_succeed(wave: Wave, members: Sequence[Member]) -> bool:
    failed = sum(member.state.is_failure for member in members)
    return len(members) - failed >= needed(wave.success_threshold_percentage, len(members))


def counted(rollout: Rollout) -> list[list[Member]]:
    """The boards of each wave that say something of the rollout."""
    waves: list[list[Member]] = [[] for _ in rollout.waves]
    for member in rollout.members.values():
        if member.is_counted:
            waves[member.wave].append(member)
    return waves


def breaches(rollout: Rollout) -> list[Breach]:
    """All broken rules that nobody has overruled, aborting ones first."""
    waves = counted(rollout)
    found = [
        *_criteria(rollout, [member for wave in waves for member in wave]),
        *(breach for at, members in enumerate(waves) for breach in _wave(rollout, at, members)),
    ]
    fresh = [breach for breach in found if breach.key not in rollout.waived]
    return sorted(fresh, key=lambda breach: breach.action is not Action.ABORT)


def _criteria(rollout: Rollout, members: Sequence[Member]) -> list[Breach]:
    executed = [member for member in members if member.state.is_executed]
    found = []
    for at, rule in enumerate(rollout.spec.abort_criteria):
        failed = sum(_is_of(rule, member) for member in executed)
        enough = len(executed) >= rule.min_number_of_executed_things
        if enough and failed and failed * 100.0 >= rule.threshold_percentage * len(executed) - _EPSILON:
            text = (
                f"{failed} of {len(executed)} boards: {rule.failure_type}; the bound is {rule.threshold_percentage:g} %"
            )
            found.append(Breach(f"abort:{at}", rule.action, text))
    return found


def _is_of(rule: AbortCriteria, member: Member) -> bool:
    return member.state.is_failure and rule.failure_type in {FailureType.ALL, member.state.value}


def _wave(rollout: Rollout, at: int, members: Sequence[Member]) -> list[Breach]:
    progress, wave, spec = rollout.waves[at], rollout.spec.waves[at], rollout.spec
    if not progress.state.is_begun or not members:
        return []
    found = []
    if progress.state is not WaveState.SUCCEEDED and not can_succeed(wave, members):
        failed = sum(member.state.is_failure for member in members)
        least = f"{wave.success_threshold_percentage:g} % must succeed"
        text = f"wave {wave.name}: {failed} of {len(members)} boards failed, {least}"
        found.append(Breach(f"wave:{wave.name}", spec.error_action, text))
    is_final = (
        progress.state is WaveState.SOAKING
        and rollout.elapsed_s >= progress.soak_until_s
        and is_reached(rollout, at, members)
    )
    for number, gate in enumerate(spec.gates):
        if judge(gate, members, is_final=is_final) is Verdict.BROKEN:
            found.append(Breach(f"gate:{wave.name}:{number}", gate.action, _gate_text(gate, wave.name, members)))
    return found


def _gate_text(gate: Gate, wave: str, members: Sequence[Member]) -> str:
    committed = [member for member in members if member.state is MemberState.SUCCEEDED]
    values = [member.figures[gate.metric] for member in committed if gate.metric in member.figures]
    bad = sorted(value for value in values if not _is_within(gate, value))
    bounds = [
        f"{word} {bound:g}"
        for word, bound in (("at least", gate.at_least), ("at most", gate.at_most))
        if bound is not None
    ]
    figures = f", {bad[0]:.4g} to {bad[-1]:.4g}" if bad else ""
    missing = len(committed) - len(values)
    silent = f", {missing} have not measured it" if missing else ""
    rule = f"gate {gate.metric} ({' and '.join(bounds)}), wave {wave}"
    return f"{rule}: {len(bad)} of {len(committed)} boards break it{figures}{silent}"
