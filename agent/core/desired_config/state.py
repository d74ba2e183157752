"""What is remembered of configurations from afar, and its form in the journal."""

from dataclasses import dataclass, field
from datetime import datetime
from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Field, TypeAdapter

from agent.core.desired_config.message import fingerprint
from agent.core.journal import BadJournal, parsed
from schemas.base import Sha256
from schemas.command import Failure
from schemas.state import DesiredConfig, Phase, ReportedConfig

ENDS = frozenset({Phase.COMMITTED, Phase.REJECTED, Phase.ROLLED_BACK})
"""Nothing is under way: there is no candidate."""
_PHASES = ENDS | {Phase.VERIFYING, Phase.PROBATION}

Count = Annotated[int, Field(ge=0)]


@dataclass(frozen=True, slots=True)
class Version:
    """One configuration from afar. Two with the same `sha256` are the same, whichever generations brought them."""

    __pydantic_config__ = ConfigDict(extra="forbid")

    sha256: Sha256
    generation: Annotated[int, Field(ge=1)] = field(compare=False)
    config: dict[str, Any] = field(compare=False, repr=False)

    @classmethod
    def of(cls, desired: DesiredConfig) -> "Version":
        return cls(fingerprint(desired.config), desired.generation, desired.config)


@dataclass(frozen=True, slots=True)
class Configuration:
    """The whole state. None stands for the board's own settings file. `candidate` is None in ENDS and only there.

    `current` runs, but for PROBATION, where `candidate` does. `last_good` has run for long and is what a crash loop
    comes back to. `generation` and `sha256` are those of the latest desired configuration that was looked at.
    `unclean_starts` counts those in a row.
    """

    __pydantic_config__ = ConfigDict(extra="forbid")

    current: Version | None = None
    last_good: Version | None = None
    candidate: Version | None = None
    generation: Count = 0
    sha256: Sha256 | None = None
    phase: Phase = Phase.COMMITTED
    unclean_starts: Count = 0
    last_error: Failure | None = None
    format: Literal["rkfleet.configuration/1"] = "rkfleet.configuration/1"


_JOURNAL = TypeAdapter(Configuration)


def dump(state: Configuration) -> bytes:
    return _JOURNAL.dump_json(state, by_alias=True)


def load(content: bytes) -> Configuration:
    """Raises BadJournal for what is no state of this format."""
    state = parsed(_JOURNAL, content)
    contradiction = _contradiction(state)
    if contradiction:
        raise BadJournal(contradiction)
    return state


def running(state: Configuration) -> Version | None:
    """None where the board's own settings run."""
    return state.candidate if state.phase is Phase.PROBATION else state.current


def report(state: Configuration, at: datetime) -> ReportedConfig:
    """`reported/config`. No `sha256` means that the board's own settings run."""
    version = running(state)
    return ReportedConfig(
        observed_generation=state.generation,
        phase=state.phase,
        last_error=state.last_error,
        time=at,
        sha256=version.sha256 if version else None,
    )


def _contradiction(state: Configuration) -> str | None:
    candidate = state.candidate
    if state.phase not in _PHASES:
        return f"no configuration is ever {state.phase}"
    if (candidate is None) != (state.phase in ENDS):
        return f"{state.phase} {'without a' if candidate is None else 'with a'} candidate"
    if candidate is not None and (candidate.generation, candidate.sha256) != (state.generation, state.sha256):
        return "the candidate is not the desired configuration"
    if (state.generation == 0) != (state.sha256 is None):
        return f"generation {state.generation} with the digest {state.sha256}"
    for version in (state.current, state.last_good, candidate):
        if version is not None and not _is_whole(version):
            return f"the configuration of generation {version.generation} is not that of its digest"
    return None


def _is_whole(version: Version) -> bool:
    try:
        return fingerprint(version.config) == version.sha256
    except ValueError:
        return False
