"""One step of the configuration machine: its table, an event and a state in, a state and effects out."""

from dataclasses import replace
from enum import StrEnum
from typing import Any, NamedTuple

from agent.core.desired_config.events import (
    Booted,
    Desired,
    Effect,
    Event,
    Failed,
    Passed,
    Refused,
    Settled,
    Unusable,
    Verified,
)
from agent.core.desired_config.state import ENDS, Configuration, Version
from schemas.codes import FailureCode
from schemas.command import Failure
from schemas.state import Phase

MOST_UNCLEAN_STARTS = 3
"""In a row; the last one makes a crash loop."""
_MOST_TEXT = 500


class IllegalMove(ValueError):
    """The caller's bug: the event cannot happen in this phase."""


class Turn(StrEnum):
    """What an event amounts to, once the state's data are looked at."""

    NEWER = "newer generation"
    NAMES_CURRENT = "newer generation is what is current"
    VERIFIED = "verified"
    REFUSED = "refused"
    PASSED = "probation passed"
    UNHEALTHY = "unhealthy"
    RESUMED = "restarted in good order during probation"
    RESTARTED = "restarted"
    CRASH_LOOPED = "crash loop"
    SETTLED = "settled"
    UNUSABLE = "current is unusable"


class Move(NamedTuple):
    """`effects` are run in order, after the state is journalled."""

    phase: Phase
    effects: tuple[Effect, ...] = ()


_UNDER_WAY = (Phase.VERIFYING, Phase.PROBATION)
_ENDS = tuple(phase for phase in Phase if phase in ENDS)

MOVES: dict[tuple[Phase, Turn], Move] = {
    (Phase.VERIFYING, Turn.VERIFIED): Move(Phase.PROBATION, (Effect.APPLY,)),
    (Phase.VERIFYING, Turn.REFUSED): Move(Phase.REJECTED),
    (Phase.PROBATION, Turn.PASSED): Move(Phase.COMMITTED),
    (Phase.PROBATION, Turn.REFUSED): Move(Phase.REJECTED, (Effect.RESTORE,)),
    (Phase.PROBATION, Turn.UNHEALTHY): Move(Phase.ROLLED_BACK, (Effect.RESTORE,)),
    # Two configurations that are not proved are never in play at once: the old one comes back in between.
    (Phase.PROBATION, Turn.NEWER): Move(Phase.VERIFYING, (Effect.RESTORE, Effect.VERIFY)),
    (Phase.PROBATION, Turn.NAMES_CURRENT): Move(Phase.COMMITTED, (Effect.RESTORE,)),
    (Phase.VERIFYING, Turn.NEWER): Move(Phase.VERIFYING, (Effect.VERIFY,)),
    (Phase.VERIFYING, Turn.NAMES_CURRENT): Move(Phase.COMMITTED),
    **{(phase, Turn.NEWER): Move(Phase.VERIFYING, (Effect.VERIFY,)) for phase in _ENDS},
    **{(phase, Turn.NAMES_CURRENT): Move(Phase.COMMITTED) for phase in _ENDS},
    (Phase.VERIFYING, Turn.RESTARTED): Move(Phase.VERIFYING, (Effect.VERIFY,)),
    (Phase.PROBATION, Turn.RESUMED): Move(Phase.PROBATION, (Effect.APPLY,)),
    (Phase.PROBATION, Turn.RESTARTED): Move(Phase.ROLLED_BACK, (Effect.RESTORE,)),
    **{(phase, Turn.RESTARTED): Move(phase, (Effect.RESTORE,)) for phase in _ENDS},
    **{(phase, Turn.CRASH_LOOPED): Move(Phase.ROLLED_BACK, (Effect.RESTORE,)) for phase in (*_UNDER_WAY, *_ENDS)},
    **{(phase, Turn.SETTLED): Move(phase) for phase in _ENDS},
    **{(phase, Turn.UNUSABLE): Move(phase) for phase in _UNDER_WAY},
    **{(phase, Turn.UNUSABLE): Move(Phase.ROLLED_BACK, (Effect.RESTORE,)) for phase in _ENDS},
}

_PLAIN: dict[type[Event], Turn] = {
    Verified: Turn.VERIFIED,
    Refused: Turn.REFUSED,
    Passed: Turn.PASSED,
    Failed: Turn.UNHEALTHY,
    Unusable: Turn.UNUSABLE,
}


def step(now: Configuration, event: Event) -> tuple[Configuration, tuple[Effect, ...]]:
    """Return the state to journal, then the effects to run, in that order.

    What changes nothing (a stale generation, the same one again) returns `now` and no effect.
    Raises IllegalMove, for example for Passed in VERIFYING.
    """
    turn = turn_of(now, event)
    if turn is None:
        return now, ()
    move = MOVES.get((now.phase, turn))
    if move is None or (turn is Turn.UNUSABLE and now.current is None):
        raise IllegalMove(f"{type(event).__name__} in {now.phase}")
    later = replace(now, phase=move.phase, **_changes(now, event, turn))
    return (replace(later, candidate=None) if move.phase in ENDS else later), move.effects


def turn_of(now: Configuration, event: Event) -> Turn | None:
    """What the event amounts to in this state; None where it changes nothing."""
    match event:
        case Desired(desired):
            if desired.generation <= now.generation:
                return None
            is_current = now.current is not None and Version.of(desired) == now.current
            return Turn.NAMES_CURRENT if is_current else Turn.NEWER
        case Booted(is_clean):
            return _turn_of_boot(now, is_clean=is_clean)
        case Settled():
            is_news = now.unclean_starts > 0 or now.current != now.last_good
            return Turn.SETTLED if is_news and now.phase in ENDS else None
    return _PLAIN[type(event)]


def _turn_of_boot(now: Configuration, *, is_clean: bool) -> Turn:
    if is_clean:
        return Turn.RESUMED if now.phase is Phase.PROBATION else Turn.RESTARTED
    is_suspect = now.current != now.last_good or now.phase is Phase.VERIFYING
    return Turn.CRASH_LOOPED if is_suspect and now.unclean_starts + 1 >= MOST_UNCLEAN_STARTS else Turn.RESTARTED


def _changes(now: Configuration, event: Event, turn: Turn) -> dict[str, Any]:
    """Fields to replace, but for `phase`."""
    match event:
        case Desired(desired):
            return _accepted(now, Version.of(desired))
        case Booted(is_clean):
            return _booted(now, turn, is_clean=is_clean)
        case Refused(code, text) | Failed(code, text):
            return {"last_error": _failure(code, text)}
        case Unusable(code, text):
            left = now.last_good if now.last_good != now.current else None
            return {"current": left, "last_good": left, "last_error": _failure(code, text)}
    if turn is Turn.PASSED:
        return {"current": now.candidate, "last_error": None, "unclean_starts": 0}
    return {"last_good": now.current, "unclean_starts": 0} if turn is Turn.SETTLED else {}


def _accepted(now: Configuration, version: Version) -> dict[str, Any]:
    return {
        "candidate": version,
        "generation": version.generation,
        "sha256": version.sha256,
        "last_error": None,
        # Crashes before are none of the candidate's; but they may be those of a current one that is new.
        "unclean_starts": 0 if now.current == now.last_good else now.unclean_starts,
    }


def _booted(now: Configuration, turn: Turn, *, is_clean: bool) -> dict[str, Any]:
    if turn is Turn.CRASH_LOOPED:
        text = f"{MOST_UNCLEAN_STARTS} unclean starts in a row with {named(now.current)}: back to"
        error = _failure(FailureCode.CRASH_LOOP, f"{text} {named(now.last_good)}")
        return {"current": now.last_good, "unclean_starts": 0, "last_error": error}
    changes: dict[str, Any] = {"unclean_starts": 0 if is_clean else now.unclean_starts + 1}
    if now.phase is Phase.PROBATION and not is_clean:
        text = "the agent did not end in good order during probation"
        changes["last_error"] = _failure(FailureCode.PROBATION_FAILED, text)
    return changes


def named(version: Version | None) -> str:
    return "the board's own settings" if version is None else f"the configuration of generation {version.generation}"


def _failure(code: FailureCode, text: str) -> Failure:
    """Texts of the operating system may hold bytes that are no UTF-8."""
    return Failure(code=code, text=text.encode("utf-8", "replace").decode()[:_MOST_TEXT])
