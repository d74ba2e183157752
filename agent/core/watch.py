"""The watch over one camera: what its pictures and failures mean for alarms, delivery and reconnecting.

    CONNECTING --Opened--> STREAMING --Got--> STREAMING, or CONNECTING when frozen or of another size
    CONNECTING, STREAMING --Failed--> CONNECTING, FAILED when permanent, ENDED at the end of a file

The alarm of a failure clears with the first picture, not with a connection: what opens and shows nothing doesn't work.
"""

import re
import zlib
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from enum import StrEnum

from agent.core.backoff import Backoff
from agent.core.frame import Picture
from schemas.codes import FailureCode

_SAMPLED_ROWS = 64
_SECRET = re.compile(r"(?<=://)[^/@\s]+(?=@)")
_OF_PICTURES = frozenset({FailureCode.CAMERA_FROZEN, FailureCode.CAMERA_SIZE_CHANGED})
_OF_CONNECTION = frozenset({FailureCode.CAMERA_ABSENT, FailureCode.CAMERA_LOST})


class Phase(StrEnum):
    CONNECTING = "connecting"
    STREAMING = "streaming"
    ENDED = "ended"
    FAILED = "failed"


class IllegalMove(ValueError):
    """The caller's bug: an event that can't happen in this phase."""


@dataclass(frozen=True, slots=True)
class Opened:
    at_s: float


@dataclass(frozen=True, slots=True)
class Got:
    """A picture arrived; `digest` is equal for pictures that are equal."""

    at_s: float
    size_px: tuple[int, int]
    digest: int


@dataclass(frozen=True, slots=True)
class Failed:
    """`delay_s` is the least wait that the adapter asks for."""

    code: FailureCode
    text: str
    permanent: bool = False
    delay_s: float = 0.0


Event = Opened | Got | Failed


@dataclass(frozen=True, slots=True)
class Rules:
    """frozen_after_s None is for sources that may repeat a picture (folders, files); `frozen_pictures` is the least
    number of equal pictures in that time; a connection that worked for `settle_s` starts the backoff anew;
    `fixed_size` False is for folders of mixed pictures.
    """

    frozen_after_s: float | None = 10.0
    frozen_pictures: int = 5
    settle_s: float = 5.0
    fixed_size: bool = True


@dataclass(frozen=True, slots=True)
class Raise:
    code: FailureCode
    text: str


@dataclass(frozen=True, slots=True)
class Reaction:
    """What the loop must do. deliver: the picture may be inspected. reconnect_s: close, wait so long, open again."""

    raised: tuple[Raise, ...] = ()
    cleared: tuple[FailureCode, ...] = ()
    deliver: bool = False
    reconnect_s: float | None = None


@dataclass(frozen=True, slots=True)
class Watch:
    """State. Sizes are (width, height) in pixels: `usual_px` of the first picture since start, `size_px` of this
    connection. Times are monotonic seconds.
    """

    rules: Rules = field(default_factory=Rules)
    backoff: Backoff = field(default_factory=Backoff)
    phase: Phase = Phase.CONNECTING
    alarms: frozenset[FailureCode] = frozenset()
    usual_px: tuple[int, int] | None = None
    size_px: tuple[int, int] | None = None
    opened_s: float = 0.0
    digest: int | None = None
    equal: int = 0
    equal_since_s: float = 0.0


def digest(picture: Picture) -> int:
    """Return a cheap digest: the CRC of some 64 whole rows, 0.1 ms at 1080p. Sensor noise tells live pictures apart."""
    rows = picture.pixels[:: max(1, picture.pixels.shape[0] // _SAMPLED_ROWS)]
    return zlib.crc32(rows.tobytes())


def redacted(text: str) -> str:
    """Return the text with user names and passwords taken out of its URLs: alarms are read by many."""
    return _SECRET.sub("***", text)


def step(now: Watch, event: Event, random: float) -> tuple[Watch, Reaction]:
    """Return the next state and what to do; `random` is uniform in [0, 1) and jitters a reconnect."""
    try:
        move = MOVES[now.phase, type(event)]
    except KeyError:
        raise IllegalMove(f"{type(event).__name__} in {now.phase}") from None
    return move(now, event, random)


def _opened(now: Watch, event: Opened, _random: float) -> tuple[Watch, Reaction]:
    streaming = replace(now, phase=Phase.STREAMING, size_px=None, opened_s=event.at_s)
    return replace(streaming, equal=0, equal_since_s=event.at_s), Reaction()


def _failed(now: Watch, event: Failed, random: float) -> tuple[Watch, Reaction]:
    if event.code is FailureCode.CAMERA_ENDED:
        return replace(now, phase=Phase.ENDED, alarms=frozenset()), Reaction(cleared=tuple(sorted(now.alarms)))
    # A lost camera is absent at the next attempt: one outage is one alarm, named after how it began.
    known = event.code in now.alarms or (event.code in _OF_CONNECTION and now.alarms & _OF_CONNECTION)
    raised = () if known else (Raise(event.code, redacted(event.text)),)
    alarms = now.alarms if known else now.alarms | {event.code}
    if event.permanent:
        return replace(now, phase=Phase.FAILED, alarms=alarms), Reaction(raised=raised)
    backoff, jitter_s = now.backoff.failed(random)
    lost = replace(now, phase=Phase.CONNECTING, alarms=alarms, backoff=backoff)
    return lost, Reaction(raised=raised, reconnect_s=event.delay_s + jitter_s)


def _got(now: Watch, event: Got, random: float) -> tuple[Watch, Reaction]:
    seen = _seen(now, event)
    if now.rules.fixed_size and now.size_px not in {None, event.size_px}:
        return _reconnecting(now, seen, random)
    if _is_frozen(seen, event.at_s):
        return _reconnecting(now, replace(seen, alarms=seen.alarms | {FailureCode.CAMERA_FROZEN}), random)
    frozen = FailureCode.CAMERA_FROZEN in seen.alarms
    if not frozen and event.at_s - seen.opened_s >= seen.rules.settle_s:
        seen = replace(seen, backoff=seen.backoff.succeeded())
    return seen, _difference(now, seen, Reaction(deliver=not frozen))


def _seen(now: Watch, event: Got) -> Watch:
    """Return the watch with the picture's size and digest taken in, and with the alarms that they decide."""
    usual_px = now.usual_px or event.size_px
    alarms = now.alarms & _OF_PICTURES
    if now.rules.fixed_size:
        changed = {FailureCode.CAMERA_SIZE_CHANGED} if event.size_px != usual_px else set()
        alarms = alarms - {FailureCode.CAMERA_SIZE_CHANGED} | changed
    seen = replace(now, usual_px=usual_px, size_px=event.size_px, digest=event.digest)
    if event.digest == now.digest:
        return replace(seen, alarms=alarms, equal=now.equal + 1)
    return replace(seen, alarms=alarms - {FailureCode.CAMERA_FROZEN}, equal=1, equal_since_s=event.at_s)


def _is_frozen(seen: Watch, at_s: float) -> bool:
    after_s = seen.rules.frozen_after_s
    return after_s is not None and seen.equal >= seen.rules.frozen_pictures and at_s - seen.equal_since_s >= after_s


def _reconnecting(before: Watch, seen: Watch, random: float) -> tuple[Watch, Reaction]:
    backoff, delay_s = seen.backoff.failed(random)
    after = replace(seen, phase=Phase.CONNECTING, backoff=backoff)
    return after, _difference(before, after, Reaction(reconnect_s=delay_s))


def _difference(before: Watch, after: Watch, reaction: Reaction) -> Reaction:
    raised = tuple(Raise(code, _text(after, code)) for code in sorted(after.alarms - before.alarms))
    return replace(reaction, raised=raised, cleared=tuple(sorted(before.alarms - after.alarms)))


def _text(watch: Watch, code: FailureCode) -> str:
    if code is FailureCode.CAMERA_FROZEN:
        return f"the same picture {watch.equal} times in {watch.rules.frozen_after_s:g} s or more"
    return f"pictures are {_size(watch.size_px)}, at start they were {_size(watch.usual_px)}"


def _size(size_px: tuple[int, int] | None) -> str:
    return "of no size" if size_px is None else f"{size_px[0]}x{size_px[1]}"


MOVES: dict[tuple[Phase, type[Event]], Callable[..., tuple[Watch, Reaction]]] = {
    (Phase.CONNECTING, Opened): _opened,
    (Phase.CONNECTING, Failed): _failed,
    (Phase.STREAMING, Got): _got,
    (Phase.STREAMING, Failed): _failed,
}
