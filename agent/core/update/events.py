"""What happens to an update, and what is to be done about it."""

from dataclasses import dataclass, field
from enum import StrEnum

from schemas.codes import FailureCode
from schemas.state import DesiredModel


@dataclass(frozen=True, slots=True)
class Desired:
    """`desired/model` has arrived, perhaps not for the first time."""

    desired: DesiredModel


@dataclass(frozen=True, slots=True)
class Outcome:
    """`work` is the number that the state had when the effect was begun."""

    work: int


@dataclass(frozen=True, slots=True)
class Due(Outcome):
    """The window has opened, the lot has ended, or the pause before the next attempt is over."""


@dataclass(frozen=True, slots=True)
class Fetched(Outcome):
    """All files of the bundle are in the store, durably."""


@dataclass(frozen=True, slots=True)
class Verified(Outcome):
    """Trust, digests, SoC, format and versions are right."""


@dataclass(frozen=True, slots=True)
class Crowded(Outcome):
    """There is no memory to load the candidate beside the current model."""


@dataclass(frozen=True, slots=True)
class Loaded(Outcome):
    """The candidate's children are ready."""


@dataclass(frozen=True, slots=True)
class Measured(Outcome):
    """`measured` goes to `reported/model`; what is not finite is left out."""

    measured: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class SelfTested(Measured):
    """The golden frames agree well enough."""


@dataclass(frozen=True, slots=True)
class Shadowed(Measured):
    """The live frames agree well enough."""


@dataclass(frozen=True, slots=True)
class PassedProbation(Measured):
    """Every rule of health held to the end."""


@dataclass(frozen=True, slots=True)
class Failed(Measured):
    """The phase's effect did not succeed. `delay_s` is the least wait before the next attempt."""

    code: FailureCode = FailureCode.INTERNAL
    text: str = ""
    is_retryable: bool = False
    delay_s: float = 0.0


@dataclass(frozen=True, slots=True)
class Canceled:
    """Somebody takes back this generation."""

    generation: int
    text: str = "canceled"


@dataclass(frozen=True, slots=True)
class Booted:
    """The agent has started; `is_clean` when the last run ended in good order (or there was none)."""

    is_clean: bool


@dataclass(frozen=True, slots=True)
class Settled:
    """The model of this digest has inspected for long, without a fault, as `current`."""

    manifest_sha256: str


@dataclass(frozen=True, slots=True)
class Unusable:
    """The current model, of this digest, cannot be loaded (its files are gone or broken)."""

    manifest_sha256: str
    code: FailureCode
    text: str


Event = (
    Desired | Due | Fetched | Verified | Crowded | Loaded | SelfTested | Shadowed | PassedProbation | Failed
    | Canceled | Booted | Settled | Unusable
)  # fmt: skip


class Effect(StrEnum):
    """Each is idempotent, takes its data from the state, and ends in one of the events named here, with its `work`."""

    WAIT = "Wait"
    """Until `is_due(desired.defer, ...)`, forgetting every earlier wait: Due."""
    PAUSE = "Pause"
    """For `pause_s(state)`, plus jitter, so that the boards of a line do not come back at once: Due."""
    FETCH = "Fetch"
    """All files of `desired`, resuming what is there and reusing what is whole: Fetched, Failed."""
    VERIFY = "Verify"
    """Everything that can be known before the NPU sees the file: Verified, Failed."""
    LOAD = "Load"
    """Second set of children beside the running ones: Loaded, Crowded, Failed."""
    LOAD_ALONE = "LoadAlone"
    """End the current model's children, then load the candidate: the gap is declared. Loaded, Crowded, Failed."""
    SELF_TEST = "SelfTest"
    """Golden frames through the candidate: SelfTested, Failed."""
    START_SHADOW = "StartShadow"
    """Live frames through both: Shadowed, Failed."""
    FLIP = "Flip"
    """At a frame boundary the candidate inspects and is watched; the current one stays: PassedProbation, Failed."""
    COMMIT = "Commit"
    """`current` inspects; every other child ends, and the store may drop what is not in `kept(state)`. No event."""
    RESTORE = "Restore"
    """`current` inspects from the next frame on (loaded again where it is not); then as Discard. No event."""
    DISCARD = "Discard"
    """End all that runs for any candidate: waits, downloads, children. What inspects is not touched. No event."""


SAFE_UNJOURNALLED = frozenset({Effect.RESTORE, Effect.DISCARD})
"""They lead to where a boot from any older state leads too."""
