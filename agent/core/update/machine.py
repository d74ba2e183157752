"""One step of the update machine: an event and a state in, a state and effects out. No clock, no IO."""

import math
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from agent.core.update.events import (
    Booted,
    Canceled,
    Crowded,
    Desired,
    Due,
    Effect,
    Event,
    Failed,
    Fetched,
    Loaded,
    Measured,
    Outcome,
    PassedProbation,
    SelfTested,
    Settled,
    Shadowed,
    Unusable,
    Verified,
)
from agent.core.update.state import ENDS, ModelRef, Update
from agent.core.update.table import MOST_ATTEMPTS, MOST_UNCLEAN_STARTS, MOVES, TRIED, Turn
from schemas.codes import FailureCode
from schemas.command import Failure
from schemas.state import DesiredModel, Phase

MOST_DELAY_S = 3600.0
_MOST_TEXT = 500

_PLAIN: dict[type[Outcome], Turn] = {
    Due: Turn.DUE,
    Fetched: Turn.FETCHED,
    Verified: Turn.VERIFIED,
    Loaded: Turn.LOADED,
    Shadowed: Turn.SHADOWED,
    PassedProbation: Turn.PASSED,
}
_ENDS_ALONE = frozenset({Effect.RESTORE, Effect.DISCARD, Effect.LOAD, Effect.COMMIT})


class IllegalMove(ValueError):
    """The caller's bug: the outcome is not one that the effect under way can have."""


def step(now: Update, event: Event) -> tuple[Update, tuple[Effect, ...]]:
    """Return the state to journal, then the effects to run, in that order.

    What changes nothing (stale generations, late outcomes, a cancel that comes too late) returns `now` and no effect.
    Raises IllegalMove, for example for Loaded in DOWNLOADING with the number of the work under way.
    """
    turn = turn_of(now, event)
    if turn is None:
        return now, ()
    move = MOVES.get((now.phase, turn))
    if move is None:
        raise IllegalMove(f"{type(event).__name__} in {now.phase}")
    later = replace(now, phase=move.phase, **_changes(now, event, turn))
    if move.effects:
        later = replace(later, work=now.work + 1, alone=later.alone and _ENDS_ALONE.isdisjoint(move.effects))
    if move.phase in ENDS:
        later = replace(later, candidate=None, alone=False)
    return later, move.effects


def turn_of(now: Update, event: Event) -> Turn | None:
    """What the event amounts to in this state; None where it changes nothing."""
    if isinstance(event, Outcome):
        return _turn_of_outcome(now, event) if event.work == now.work and now.phase not in ENDS else None
    if isinstance(event, Desired):
        return _turn_of_desired(now, event.desired)
    if isinstance(event, Booted):
        return _turn_of_boot(now, event)
    if isinstance(event, Canceled):
        return Turn.CANCELED if event.generation == now.generation and now.phase not in ENDS else None
    is_current = event.manifest_sha256 == now.current.manifest_sha256
    if isinstance(event, Settled):
        is_news = now.unclean_starts > 0 or now.current != now.last_good
        return Turn.SETTLED if is_current and is_news and now.phase is not Phase.PROBATION else None
    return Turn.CRASH_LOOPED if is_current and now.current != now.last_good else None


def _turn_of_outcome(now: Update, event: Outcome) -> Turn:
    if isinstance(event, Failed):
        return _turn_of_failure(now, event)
    if isinstance(event, Crowded):
        # A shadow was asked for as a gate; where there is no room for it the gate must not be left open.
        return Turn.REFUSED if now.alone or _wants_shadow(now) else Turn.CROWDED
    if isinstance(event, SelfTested):
        return Turn.TESTED if _wants_shadow(now) else Turn.TESTED_LAST
    return _PLAIN[type(event)]


def _wants_shadow(now: Update) -> bool:
    return now.desired is not None and now.desired.shadow is not None


def _turn_of_failure(now: Update, event: Failed) -> Turn:
    if now.phase is Phase.PROBATION:
        return Turn.UNHEALTHY
    if not event.is_retryable:
        return Turn.REFUSED
    return Turn.STUMBLED if now.attempts + 1 < MOST_ATTEMPTS else Turn.EXHAUSTED


def _turn_of_desired(now: Update, desired: DesiredModel) -> Turn | None:
    if desired.generation < now.generation:
        return None
    if desired.generation == now.generation:
        # The retained message comes with every connection; one that differs under its old number is not to be trusted.
        return Turn.AGAIN if now.phase is Phase.FAILED and desired == now.desired else None
    is_current = desired.manifest_sha256 == now.current.manifest_sha256
    return Turn.NAMES_CURRENT if is_current else Turn.NEWER


def _turn_of_boot(now: Update, event: Booted) -> Turn:
    if event.is_clean or now.unclean_starts + 1 < MOST_UNCLEAN_STARTS:
        return Turn.RESTARTED
    if now.current != now.last_good:
        return Turn.CRASH_LOOPED
    return Turn.TRIAL_LOOPED if now.phase in TRIED else Turn.RESTARTED


def _changes(now: Update, event: Event, turn: Turn) -> dict[str, Any]:
    """Fields to replace, but for `phase`."""
    match event:
        case Desired():
            return _accepted(now, event.desired)
        case Booted():
            return _booted(now, event, turn)
        case Canceled():
            return {"last_error": _failure(FailureCode.CANCELED, event.text)}
        case Settled():
            return {"last_good": now.current, "unclean_starts": 0}
        case Unusable():
            return {"current": now.last_good, "last_error": _failure(event.code, event.text)}
    return _progressed(now, event, turn)


def _progressed(now: Update, event: Outcome, turn: Turn) -> dict[str, Any]:
    changes: dict[str, Any] = {"measured": _merged(now, event.measured)} if isinstance(event, Measured) else {}
    if isinstance(event, Failed):
        return changes | _failed(now, event)
    if turn is Turn.REFUSED:
        text = "no memory for the model, even alone"
        if not now.alone:
            text = "no memory for a second model, and the shadow that was asked for needs one: ask without it"
        return {"last_error": _failure(FailureCode.NPU_OUT_OF_MEMORY, text)}
    if turn is Turn.CROWDED:
        return {"alone": True}
    if turn is Turn.PASSED:
        return changes | {"current": now.candidate, "last_error": None, "unclean_starts": 0}
    return changes


def _accepted(now: Update, desired: DesiredModel) -> dict[str, Any]:
    return {
        "desired": desired,
        "candidate": ModelRef.of(desired),
        "generation": desired.generation,
        "attempts": 0,
        "retry_after_s": 0.0,
        "last_error": None,
        "measured": {},
        # Crashes before the update are none of the candidate's; but they may be those of a current model that is new.
        "unclean_starts": 0 if now.current == now.last_good else now.unclean_starts,
    }


def _booted(now: Update, event: Booted, turn: Turn) -> dict[str, Any]:
    if turn is Turn.RESTARTED:
        changes: dict[str, Any] = {"unclean_starts": 0 if event.is_clean else now.unclean_starts + 1}
        if now.phase is Phase.PROBATION:
            text = "the agent restarted during probation"
            changes["last_error"] = _failure(FailureCode.PROBATION_FAILED, text)
        return changes
    what = f"{now.current.name} {now.current.version}" if turn is Turn.CRASH_LOOPED else f"update in {now.phase}"
    text = f"{MOST_UNCLEAN_STARTS} unclean starts in a row with {what}: back to {now.last_good.name}"
    error = _failure(FailureCode.CRASH_LOOP, f"{text} {now.last_good.version}")
    return {"current": now.last_good, "unclean_starts": 0, "last_error": error}


def _failed(now: Update, event: Failed) -> dict[str, Any]:
    hint_s = event.delay_s if math.isfinite(event.delay_s) else 0.0
    return {
        "attempts": now.attempts + 1,
        "retry_after_s": min(max(hint_s, 0.0), MOST_DELAY_S),
        "last_error": _failure(event.code, event.text),
    }


def _merged(now: Update, measured: Mapping[str, float]) -> dict[str, float]:
    """JSON has no NaN: a figure that could not be measured must not make the journal unreadable."""
    return {**now.measured, **{name: float(value) for name, value in measured.items() if math.isfinite(value)}}


def _failure(code: FailureCode, text: str) -> Failure:
    """Texts of the operating system may hold bytes that are no UTF-8."""
    return Failure(code=code, text=text.encode("utf-8", "replace").decode()[:_MOST_TEXT])
