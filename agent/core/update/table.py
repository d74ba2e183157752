"""The update machine's table: every move there is. docs/update.md draws it."""

from collections.abc import Iterable
from enum import StrEnum
from typing import NamedTuple

from agent.core.update.events import Effect
from agent.core.update.state import ENDS
from schemas.state import Phase

MOST_ATTEMPTS = 10
"""Retryable failures of one update; the last one makes it FAILED."""
MOST_UNCLEAN_STARTS = 3
"""In a row; the last one makes a crash loop."""


class Turn(StrEnum):
    """What an event amounts to, once the state's data are looked at."""

    NEWER = "newer generation"
    NAMES_CURRENT = "newer generation names the current model"
    AGAIN = "same generation again"
    DUE = "due"
    FETCHED = "fetched"
    VERIFIED = "verified"
    CROWDED = "no memory beside"
    LOADED = "loaded"
    TESTED = "self-tested, shadow asked for"
    TESTED_LAST = "self-tested"
    SHADOWED = "shadowed"
    PASSED = "probation passed"
    STUMBLED = "failed, retryable"
    EXHAUSTED = "failed, attempts used up"
    REFUSED = "failed for good"
    UNHEALTHY = "unhealthy"
    CANCELED = "canceled"
    RESTARTED = "restarted"
    CRASH_LOOPED = "crash loop or unusable, current is not last good"
    TRIAL_LOOPED = "crash loop during the update"
    SETTLED = "settled"


class Move(NamedTuple):
    """`effects` are run in order, after the state is journalled."""

    phase: Phase
    effects: tuple[Effect, ...] = ()


_ON_DISK = (Phase.QUEUED, Phase.DOWNLOADING, Phase.VERIFYING)
_ON_NPU = (Phase.LOADING, Phase.SELF_TEST, Phase.SHADOW)
TRIED = (Phase.DOWNLOADING, Phase.VERIFYING, *_ON_NPU)
"""Where the candidate is worked on and does not inspect yet."""
_Rows = dict[tuple[Phase, Turn], Move]


def _undoing(phases: Iterable[Phase], turn: Turn, to: Phase, *then: Effect) -> _Rows:
    """What was begun is undone first: from LOADING on the current model may have lost its place."""
    return {
        (phase, turn): Move(to, (Effect.DISCARD if phase in _ON_DISK else Effect.RESTORE, *then)) for phase in phases
    }


_FORWARD: _Rows = {
    (Phase.QUEUED, Turn.DUE): Move(Phase.DOWNLOADING, (Effect.FETCH,)),
    (Phase.DOWNLOADING, Turn.DUE): Move(Phase.DOWNLOADING, (Effect.FETCH,)),
    (Phase.DOWNLOADING, Turn.FETCHED): Move(Phase.VERIFYING, (Effect.VERIFY,)),
    (Phase.VERIFYING, Turn.VERIFIED): Move(Phase.LOADING, (Effect.LOAD,)),
    (Phase.LOADING, Turn.CROWDED): Move(Phase.LOADING, (Effect.LOAD_ALONE,)),
    (Phase.LOADING, Turn.LOADED): Move(Phase.SELF_TEST, (Effect.SELF_TEST,)),
    (Phase.SELF_TEST, Turn.TESTED): Move(Phase.SHADOW, (Effect.START_SHADOW,)),
    (Phase.SELF_TEST, Turn.TESTED_LAST): Move(Phase.PROBATION, (Effect.FLIP,)),
    (Phase.SHADOW, Turn.SHADOWED): Move(Phase.PROBATION, (Effect.FLIP,)),
    (Phase.PROBATION, Turn.PASSED): Move(Phase.COMMITTED, (Effect.COMMIT,)),
}

_BACK: _Rows = {
    **_undoing(TRIED, Turn.STUMBLED, Phase.DOWNLOADING, Effect.PAUSE),
    **_undoing(TRIED, Turn.EXHAUSTED, Phase.FAILED),
    **_undoing(TRIED, Turn.REFUSED, Phase.REJECTED),
    **_undoing((Phase.PROBATION,), Turn.UNHEALTHY, Phase.ROLLED_BACK),
    **_undoing((*_ON_DISK, *_ON_NPU, Phase.PROBATION), Turn.CANCELED, Phase.CANCELED),
}

_DESIRED: _Rows = {
    **_undoing((*_ON_DISK, *_ON_NPU, Phase.PROBATION), Turn.NEWER, Phase.QUEUED, Effect.WAIT),
    **_undoing((*_ON_DISK, *_ON_NPU, Phase.PROBATION), Turn.NAMES_CURRENT, Phase.COMMITTED),
    **{(phase, Turn.NEWER): Move(Phase.QUEUED, (Effect.WAIT,)) for phase in Phase if phase in ENDS},
    **{(phase, Turn.NAMES_CURRENT): Move(Phase.COMMITTED) for phase in Phase if phase in ENDS},
    (Phase.FAILED, Turn.AGAIN): Move(Phase.QUEUED, (Effect.WAIT,)),
}

# Children end with the agent: what was on the NPU is loaded again, the rest goes on where it was.
_BOOT: _Rows = {
    (Phase.QUEUED, Turn.RESTARTED): Move(Phase.QUEUED, (Effect.WAIT,)),
    (Phase.DOWNLOADING, Turn.RESTARTED): Move(Phase.DOWNLOADING, (Effect.FETCH,)),
    (Phase.VERIFYING, Turn.RESTARTED): Move(Phase.VERIFYING, (Effect.VERIFY,)),
    **{(phase, Turn.RESTARTED): Move(Phase.LOADING, (Effect.LOAD,)) for phase in _ON_NPU},
    (Phase.PROBATION, Turn.RESTARTED): Move(Phase.ROLLED_BACK, (Effect.RESTORE,)),
    (Phase.COMMITTED, Turn.RESTARTED): Move(Phase.COMMITTED, (Effect.COMMIT,)),
    (Phase.ROLLED_BACK, Turn.RESTARTED): Move(Phase.ROLLED_BACK, (Effect.RESTORE,)),
    **{
        (phase, Turn.RESTARTED): Move(phase, (Effect.DISCARD,))
        for phase in (Phase.REJECTED, Phase.FAILED, Phase.CANCELED)
    },
}

# A candidate that was not on the NPU is not what crashes a board whose current model is new: it may be the cure.
_LOOPS: _Rows = {
    **{(phase, Turn.CRASH_LOOPED): Move(Phase.ROLLED_BACK, (Effect.RESTORE,)) for phase in Phase},
    (Phase.QUEUED, Turn.CRASH_LOOPED): Move(Phase.QUEUED, (Effect.RESTORE, Effect.WAIT)),
    (Phase.DOWNLOADING, Turn.CRASH_LOOPED): Move(Phase.DOWNLOADING, (Effect.RESTORE, Effect.FETCH)),
    (Phase.VERIFYING, Turn.CRASH_LOOPED): Move(Phase.VERIFYING, (Effect.RESTORE, Effect.VERIFY)),
    **{(phase, Turn.TRIAL_LOOPED): Move(Phase.ROLLED_BACK, (Effect.RESTORE,)) for phase in TRIED},
}

_SETTLING: _Rows = {(phase, Turn.SETTLED): Move(phase) for phase in Phase if phase is not Phase.PROBATION}

MOVES: dict[tuple[Phase, Turn], Move] = {**_FORWARD, **_BACK, **_DESIRED, **_BOOT, **_LOOPS, **_SETTLING}
