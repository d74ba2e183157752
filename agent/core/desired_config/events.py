"""What happens to a configuration from afar, and what is to be done about it."""

from dataclasses import dataclass
from enum import StrEnum

from schemas.codes import FailureCode
from schemas.state import DesiredConfig


@dataclass(frozen=True, slots=True)
class Desired:
    """`desired/config` has arrived, perhaps not for the first time."""

    desired: DesiredConfig


@dataclass(frozen=True, slots=True)
class Verified:
    """The candidate gives valid settings together with the board's own."""


@dataclass(frozen=True, slots=True)
class Refused:
    """The candidate is not fit for this board; it did not run, or not in full."""

    code: FailureCode
    text: str


@dataclass(frozen=True, slots=True)
class Passed:
    """Every rule of health held to the end of the probation."""


@dataclass(frozen=True, slots=True)
class Failed:
    """The agent is not well with the candidate; the text names what suffers."""

    code: FailureCode
    text: str


@dataclass(frozen=True, slots=True)
class Booted:
    """The agent has started; `is_clean` when the last run ended in good order (or there was none)."""

    is_clean: bool


@dataclass(frozen=True, slots=True)
class Settled:
    """The current configuration has run for long."""


@dataclass(frozen=True, slots=True)
class Unusable:
    """The current configuration gives no valid settings any more: the board's own settings file has changed."""

    code: FailureCode
    text: str


Event = Desired | Verified | Refused | Passed | Failed | Booted | Settled | Unusable

SAFE_UNJOURNALLED = (Refused, Failed, Booted, Unusable)
"""They lead to where a boot from any older state leads too."""


class Effect(StrEnum):
    """Each is idempotent and takes its data from the state."""

    VERIFY = "Verify"
    """Lay the candidate over the board's own settings and check them: Verified, Refused."""
    APPLY = "Apply"
    """The candidate runs and is watched: Passed, Failed, or Refused where it cannot run."""
    RESTORE = "Restore"
    """`current` runs. No event."""
