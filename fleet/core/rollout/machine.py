"""One step of a rollout: an event, the state and the time in; the state and the effects out. No clock, no IO."""

from collections.abc import Iterable
from dataclasses import replace
from datetime import datetime

from fleet.core.rollout import limits
from fleet.core.rollout.draft import Draft
from fleet.core.rollout.events import (
    Aborted,
    AlertKind,
    Confirmed,
    Effect,
    Enrolled,
    Event,
    Left,
    Observed,
    Paused,
    Placement,
    Reported,
    Resumed,
    Retried,
    Superseded,
    Ticked,
)
from fleet.core.rollout.member import observed, reported
from fleet.core.rollout.state import Member, MemberState, Rollout, RolloutState
from fleet.core.rollout.waves import settle
from fleet.core.roster import NodeId


class Refused(ValueError):
    """An operator's word that makes no sense in this state; nothing has changed."""


def step(rollout: Rollout, event: Event, now: datetime) -> tuple[Rollout, tuple[Effect, ...]]:
    """Commit the state and the effects together, then run the effects: each is idempotent.

    The same object and no effect where the event changes nothing. Only Ticked, or an event that changes something,
    moves the rollout's clock. Raises Refused, for operators' events alone.
    """
    return steps(rollout, (event,), now)


def steps(rollout: Rollout, events: Iterable[Event], now: datetime) -> tuple[Rollout, tuple[Effect, ...]]:
    """Several events at once, with one look at the waves after them: for floods of reports."""
    draft = Draft(rollout)
    ticked = False
    for event in events:
        _apply(draft, event)
        ticked = ticked or isinstance(event, Ticked)
    if rollout.state.is_over and not draft.is_changed:
        return rollout, ()
    if not draft.is_changed and not ticked:
        return rollout, ()
    if not draft.head.state.is_over:
        draft.head = replace(draft.head, elapsed_s=limits.elapsed(rollout, now), looked_at=now)
        settle(draft, now)
    return replace(draft.rollout(), version=rollout.version + 1), tuple(draft.effects)


def _apply(draft: Draft, event: Event) -> None:
    match event:
        case Enrolled(placements):
            _enrol(draft, placements)
        case Reported(node, _) | Observed(node, _):
            member = draft.member(node)
            if member is not None and not member.is_released and member.state is not MemberState.REMOVED:
                _heard(draft, member, event)
        case Left(nodes):
            _remove(draft, nodes, "left the fleet")
        case Superseded(nodes, by):
            _remove(draft, nodes, f"superseded by {by}")
        case Ticked():
            pass
        case _:
            _ordered(draft, event)


def _enrol(draft: Draft, placements: Iterable[Placement]) -> None:
    if not draft.head.state.is_live:
        return
    target = draft.head.spec.model
    for each in placements:
        if draft.member(each.id) is None and 0 <= each.wave < len(draft.head.waves):
            has_it = each.running is not None and each.running.manifest_sha256 == target.manifest_sha256
            state = MemberState.SUCCEEDED if has_it else MemberState.QUEUED
            draft.put(Member(each.id, each.wave, state, floor=each.floor, running=each.running))


def _heard(draft: Draft, member: Member, event: Reported | Observed) -> None:
    target = draft.head.spec.model
    if isinstance(event, Observed):
        if draft.head.state.is_live:
            draft.put(observed(member, event.telemetry, target))
        return
    after = reported(member, event.report, target)
    if after.state is MemberState.QUEUED and not draft.head.state.is_live:
        return
    if after.state is member.state or not after.state.is_failure:
        if after.state is MemberState.REVERT_FAILED and after.state is not member.state:
            draft.alert(AlertKind.REVERT_FAILED, f"{member.id}: {after.error}", member.id)
        draft.put(after)
    else:
        draft.ended(after)


def _remove(draft: Draft, nodes: Iterable[NodeId], why: str) -> None:
    """What has committed stays counted; the rollout will not touch it again."""
    for node in nodes:
        member = draft.member(node)
        if member is None or member.is_released:
            continue
        stays = member.state in {MemberState.SUCCEEDED, MemberState.REVERTED, MemberState.CANCELED}
        state = member.state if stays else MemberState.REMOVED
        draft.put(replace(member, state=state, is_released=True, error=why[:500]))


def _ordered(draft: Draft, event: Event) -> None:
    """Operators' words. The same word again changes nothing."""
    head = draft.head
    match event:
        case Paused(by, reason):
            if head.state is RolloutState.PAUSED:
                return
            _need(head, RolloutState.RUNNING, RolloutState.READY)
            draft.pause(reason or f"paused by {by}")
        case Resumed(by):
            if head.state is RolloutState.RUNNING:
                return
            _need(head, RolloutState.PAUSED)
            waived = head.waived | ({head.breach} if head.breach else set())
            draft.head = replace(head, state=RolloutState.READY, breach="", reason="", waived=waived)
            draft.alert(AlertKind.RESUMED, f"by {by}{f', overruling {head.breach}' if head.breach else ''}")
        case Aborted(by, reason, on_abort):
            if head.state in {RolloutState.STOPPING, RolloutState.STOPPED}:
                return
            _need(head, RolloutState.READY, RolloutState.RUNNING, RolloutState.PAUSED)
            draft.abort(f"{reason or 'aborted'} (by {by})", on_abort)
        case Confirmed(wave, _):
            _confirm(draft, wave)
        case Retried(nodes, _):
            _retry(draft, nodes)


def _need(head: Rollout, *states: RolloutState) -> None:
    if head.state not in states:
        raise Refused(f"the rollout is {head.state}; this needs {' or '.join(states)}")


def _confirm(draft: Draft, name: str) -> None:
    _need(draft.head, RolloutState.READY, RolloutState.RUNNING, RolloutState.PAUSED)
    names = [wave.name for wave in draft.head.spec.waves]
    if name not in names:
        raise Refused(f"there is no wave {name!r}; there are {', '.join(names)}")
    at = names.index(name)
    if not draft.head.waves[at].is_confirmed:
        draft.set_wave(at, replace(draft.head.waves[at], is_confirmed=True))


def _retry(draft: Draft, nodes: Iterable[NodeId]) -> None:
    _need(draft.head, RolloutState.RUNNING, RolloutState.PAUSED)
    for node in nodes:
        member = draft.member(node)
        if member is None or member.is_released:
            raise Refused(f"{node} is not in this rollout")
        if member.state.is_failure:
            draft.put(replace(member, state=MemberState.QUEUED, retry_s=0.0, has_regressed=False))
