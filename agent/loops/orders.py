"""What control asks of lanes between two frames, and what lanes answer."""

import threading
from collections.abc import Callable
from dataclasses import dataclass

from agent.loops.inspect import Loaded, Plans
from schemas.codes import FailureCode
from schemas.status import ModelInfo


@dataclass(frozen=True, slots=True)
class StartShadow:
    """`loaded` sees each frame after the active model; the lane owns it from now on."""

    work: int
    loaded: Loaded


@dataclass(frozen=True, slots=True)
class Flip:
    """From the next frame on `loaded`, or the model in the shadow, inspects; the one before stands by."""

    work: int
    loaded: Loaded | None


@dataclass(frozen=True, slots=True)
class Release:
    """End the active model: there is no memory for two. `done` is set when it is gone."""

    work: int
    done: threading.Event


@dataclass(frozen=True, slots=True)
class Commit:
    """The model of this manifest's digest stays; every other one of the lane ends. A lane that has not got it, because
    its core was out, loads it when it inspects again.
    """

    manifest_sha256: str


@dataclass(frozen=True, slots=True)
class Restore:
    """The model of this manifest's digest inspects from the next frame on, loaded again where it is not; every other
    model of the lane ends. Orders of `work` and before that come late are void.
    """

    work: int
    manifest_sha256: str


@dataclass(frozen=True, slots=True)
class Replan:
    """Cameras or recipes have changed."""

    plans: Callable[[Loaded], Plans]


LaneOrder = StartShadow | Flip | Release | Commit | Restore | Replan


@dataclass(frozen=True, slots=True)
class LaneReport:
    """A fault of the lane (code and text), or that it works again (code is None), with the model that inspects."""

    lane: str
    code: FailureCode | None
    text: str = ""
    model: ModelInfo | None = None
    manifest_sha256: str = ""


@dataclass(frozen=True, slots=True)
class FellBack:
    """The model on probation gave no answer to a frame; the model before has inspected it, and does from now on."""

    lane: str
    manifest_sha256: str
    code: FailureCode
    text: str


@dataclass(frozen=True, slots=True)
class ShadowSaw:
    """One frame through both models; `agreement` is None where the model in the shadow gave no answer."""

    manifest_sha256: str
    agreement: float | None
    is_same_verdict: bool
    old_ms: float
    new_ms: float
    text: str = ""


@dataclass(frozen=True, slots=True)
class SpoolState:
    """The spool takes no results (code and text), or takes them again (code is None)."""

    code: FailureCode | None
    text: str = ""


LaneItem = LaneReport | FellBack | ShadowSaw | SpoolState
