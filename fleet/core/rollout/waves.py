"""What follows from the state and the time alone: silence, broken rules, the course of the waves, whose turn it is."""

from dataclasses import replace
from datetime import datetime

from fleet.core.rollout.draft import Draft
from fleet.core.rollout.events import AlertKind
from fleet.core.rollout.gates import Verdict, breaches, counted, is_reached, judge
from fleet.core.rollout.limits import budget, is_open
from fleet.core.rollout.spec import Action
from fleet.core.rollout.state import MemberState, RolloutState, WaveProgress, WaveState

END_TIME = "end-time"


def settle(draft: Draft, now: datetime) -> None:
    _time_out(draft)
    scheduling = draft.head.spec.scheduling
    is_due = scheduling.start_time is None or now >= scheduling.start_time
    if draft.head.state is RolloutState.READY and is_due and draft.rollout().members:
        draft.head = replace(draft.head, state=RolloutState.RUNNING)
        if draft.head.waves[0].state is WaveState.SCHEDULED:
            draft.alert(AlertKind.STARTED, f"{len(draft.rollout().members)} boards")
    if draft.head.state in {RolloutState.RUNNING, RolloutState.PAUSED}:
        _end_time(draft, now)
    while draft.head.state in {RolloutState.RUNNING, RolloutState.PAUSED}:
        _break(draft)
        if draft.head.state is not RolloutState.RUNNING or not _go_on(draft):
            break
    if draft.head.state is RolloutState.RUNNING:
        _start(draft, now)
        _finish(draft)
    if draft.head.state is RolloutState.STOPPING and not draft.rollout().in_state(MemberState.REVERTING):
        draft.head = replace(draft.head, state=RolloutState.STOPPED)
        draft.alert(AlertKind.STOPPED, draft.head.reason)


def _time_out(draft: Draft) -> None:
    limit_s = draft.head.spec.in_progress_timeout_in_minutes * 60
    rollout = draft.rollout()
    silent = f"no end within {rollout.spec.in_progress_timeout_in_minutes:g} minutes"
    for member in rollout.in_state(MemberState.IN_PROGRESS, MemberState.REVERTING):
        if rollout.elapsed_s - member.told_s < limit_s:
            continue
        if member.state is MemberState.IN_PROGRESS:
            draft.ended(replace(member, state=MemberState.TIMED_OUT, error=silent))
        else:
            # What it shall run stays desired: when it comes back, it goes back.
            draft.put(replace(member, state=MemberState.REVERT_FAILED, error=silent))
            draft.alert(AlertKind.REVERT_FAILED, f"{member.id}: {silent}", member.id)


def _end_time(draft: Draft, now: datetime) -> None:
    scheduling = draft.head.spec.scheduling
    if scheduling.end_time is None or now < scheduling.end_time or END_TIME in draft.head.waived:
        return
    if scheduling.end_behavior == "CANCEL":
        draft.abort("the end time has come")
    elif draft.head.state is RolloutState.RUNNING:
        draft.pause("the end time has come", END_TIME)


def _break(draft: Draft) -> None:
    """An aborting rule works in a paused rollout too: what it guards against does not pause."""
    found = breaches(draft.rollout())
    if not found:
        return
    first = found[0]
    if first.action is Action.ABORT:
        draft.abort(first.text)
    elif draft.head.state is RolloutState.RUNNING:
        draft.pause(first.text, first.key)


def _go_on(draft: Draft) -> bool:
    """One move of the current wave; False where there is none."""
    rollout = draft.rollout()
    at = rollout.wave
    if at == len(rollout.waves):
        return False
    wave, progress = rollout.spec.waves[at], rollout.waves[at]
    members = counted(rollout)[at]
    # A wave in which no board is updated proves nothing; only the rest of the boards may be none.
    is_unproved = not members and not wave.is_rest
    must_wait = not progress.is_confirmed and (wave.confirmation_required or is_unproved)
    moved: WaveProgress | None = None
    match progress.state:
        case WaveState.SCHEDULED | WaveState.WAITING_FOR_CONFIRMATION:
            if not must_wait:
                moved = replace(progress, state=WaveState.RUNNING)
                draft.alert(AlertKind.WAVE_STARTED, f"{wave.name}: {len(members)} boards")
            elif progress.state is WaveState.SCHEDULED:
                moved = replace(progress, state=WaveState.WAITING_FOR_CONFIRMATION)
                why = "no board to update is in it" if is_unproved else "it waits to be confirmed"
                draft.alert(AlertKind.WAVE_WAITING, f"{wave.name}: {why}")
        case WaveState.RUNNING | WaveState.SOAKING if is_unproved and not progress.is_confirmed:
            moved = WaveProgress(WaveState.WAITING_FOR_CONFIRMATION)
            draft.alert(AlertKind.WAVE_WAITING, f"{wave.name}: no board is left in it that was updated")
        case WaveState.RUNNING if is_reached(rollout, at, members):
            until_s = rollout.elapsed_s + wave.soak_minutes * 60
            moved = replace(progress, state=WaveState.SOAKING, soak_until_s=until_s)
            if wave.soak_minutes:
                draft.alert(AlertKind.WAVE_SOAKING, f"{wave.name}: {wave.soak_minutes:g} minutes")
        case WaveState.SOAKING:
            moved = _soaked(draft, at)
    if moved is None:
        return False
    draft.set_wave(at, moved)
    return True


def _soaked(draft: Draft, at: int) -> WaveProgress | None:
    rollout = draft.rollout()
    wave, progress, members = rollout.spec.waves[at], rollout.waves[at], counted(rollout)[at]
    if not is_reached(rollout, at, members):
        return replace(progress, state=WaveState.RUNNING)
    if rollout.elapsed_s < progress.soak_until_s:
        return None
    for number, gate in enumerate(rollout.spec.gates if members else ()):
        is_waived = f"gate:{wave.name}:{number}" in rollout.waived
        if not is_waived and judge(gate, members, is_final=True) is not Verdict.HOLDS:
            return None
    draft.alert(AlertKind.WAVE_SUCCEEDED, wave.name)
    return replace(progress, state=WaveState.SUCCEEDED)


def _start(draft: Draft, now: datetime) -> None:
    rollout = draft.rollout()
    if not is_open(rollout.spec.scheduling, now):
        return
    waiting = [
        member
        for member in rollout.in_state(MemberState.QUEUED)
        if rollout.waves[member.wave].state.is_begun and member.retry_s <= rollout.elapsed_s
    ]
    waiting.sort(key=lambda member: (member.wave, member.attempts, member.id))
    told = sum(draft.tell(member) for member in waiting[: budget(rollout)])
    if told:
        since_s = rollout.elapsed_s - 60.0
        recent = (*(each for each in rollout.recent if each[0] > since_s), (rollout.elapsed_s, told))
        draft.head = replace(draft.head, recent=recent, notified=rollout.notified + told)


def _finish(draft: Draft) -> None:
    rollout = draft.rollout()
    if rollout.wave < len(rollout.waves) or rollout.in_state(MemberState.QUEUED, MemberState.IN_PROGRESS):
        return
    succeeded = len(rollout.in_state(MemberState.SUCCEEDED))
    draft.head = replace(draft.head, state=RolloutState.FINISHED)
    draft.alert(AlertKind.FINISHED, f"{succeeded} of {len(rollout.members)} boards run {rollout.spec.model.name}")
