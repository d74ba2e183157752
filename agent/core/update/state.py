"""What the update machine remembers, and its form in the journal."""

from dataclasses import dataclass, field
from typing import Annotated, Literal

from pydantic import ConfigDict, Field, TypeAdapter

from agent.core.journal import BadJournal, parsed
from schemas.base import Id, Sha256
from schemas.command import Failure
from schemas.state import DesiredModel, Phase

ENDS = frozenset(phase for phase in Phase if phase.is_end)
"""Nothing is under way: there is no candidate."""

Finite = Annotated[float, Field(allow_inf_nan=False)]
Count = Annotated[int, Field(ge=0)]


@dataclass(frozen=True, slots=True)
class ModelRef:
    """One bundle. Two refs with the same `manifest_sha256` are the same model, whatever they are called.

    `generation` is that of the desired state that brought it, 0 for what was installed; it takes no part in equality.
    """

    __pydantic_config__ = ConfigDict(extra="forbid")

    name: Id
    version: Id
    manifest_sha256: Sha256
    generation: Annotated[int, Field(ge=0)] = field(default=0, compare=False)

    @classmethod
    def of(cls, desired: DesiredModel) -> "ModelRef":
        return cls(desired.name, desired.version, desired.manifest_sha256, desired.generation)


@dataclass(frozen=True, slots=True)
class Update:
    """The whole state. `candidate` is None in ENDS and only there.

    `current` inspects, but for PROBATION, where `candidate` does while `current` is ready to come back. `last_good` has
    worked for long and is what a crash loop comes back to. `desired` is the latest that was accepted and stays after
    the end. `work` numbers what was begun, so that late outcomes are told apart. `attempts` counts retryable failures
    of this update, `unclean_starts` those in a row. `alone`: the candidate was loaded in the place of `current`, for
    want of memory.
    """

    __pydantic_config__ = ConfigDict(extra="forbid")

    current: ModelRef
    last_good: ModelRef
    candidate: ModelRef | None = None
    desired: DesiredModel | None = None
    generation: Count = 0
    phase: Phase = Phase.COMMITTED
    work: Count = 0
    attempts: Count = 0
    retry_after_s: Annotated[Finite, Field(ge=0)] = 0.0
    unclean_starts: Count = 0
    alone: bool = False
    last_error: Failure | None = None
    measured: dict[str, Finite] = field(default_factory=dict)
    format: Literal["rkfleet.update/1"] = "rkfleet.update/1"


_JOURNAL = TypeAdapter(Update)


def first(installed: ModelRef) -> Update:
    """The state of a board that has never been updated: what came with the installation is known to be good."""
    return Update(current=installed, last_good=installed)


def dump(update: Update) -> bytes:
    return _JOURNAL.dump_json(update, by_alias=True)


def load(content: bytes) -> Update:
    """Raises BadJournal for everything that `dump` of this format does not write."""
    update = parsed(_JOURNAL, content)
    contradiction = _contradiction(update)
    if contradiction:
        raise BadJournal(contradiction)
    return update


def _contradiction(update: Update) -> str | None:
    desired, candidate = update.desired, update.candidate
    if (candidate is None) != (update.phase in ENDS):
        return f"{update.phase} {'without a' if candidate is None else 'with a'} candidate"
    if update.generation != (0 if desired is None else desired.generation):
        return f"generation {update.generation} is not that of the desired model"
    if candidate is not None and (desired is None or candidate != ModelRef.of(desired)):
        return "the candidate is not the desired model"
    if update.alone and update.phase not in {Phase.LOADING, Phase.SELF_TEST, Phase.PROBATION}:
        return f"{update.phase} with a candidate loaded alone"
    return None
