"""The rollout as an operator writes it (YAML or JSON), in the words of AWS IoT Jobs and hawkBit."""

from difflib import get_close_matches
from enum import StrEnum
from itertools import pairwise
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, Field, model_validator

from fleet.core.rollout.metrics import METRICS
from fleet.core.roster import FilterError, parse
from schemas.base import Id, Sha256, Strict, Text, UtcTime
from schemas.state import Defer, ProbationPlan, ShadowPlan

Percent = Annotated[float, Field(gt=0, le=100, allow_inf_nan=False)]
Minutes = Annotated[float, Field(gt=0, le=60 * 24 * 30, allow_inf_nan=False)]
TimeOfDay = Annotated[str, Field(pattern=r"^([01]\d|2[0-3]):[0-5]\d$")]


class Action(StrEnum):
    """What a broken rule leads to."""

    ABORT = "ABORT"
    PAUSE = "PAUSE"


class OnAbort(StrEnum):
    """KEEP: who has committed the new model keeps it, the others are told to stay as they are. REVERT: all go back."""

    KEEP = "keep"
    REVERT = "revert"


class FailureType(StrEnum):
    FAILED = "FAILED"
    REJECTED = "REJECTED"
    TIMED_OUT = "TIMED_OUT"
    ALL = "ALL"


def _filter(text: str) -> str:
    try:
        parse(text)
    except FilterError as error:
        raise ValueError(f"{error.problem}\n{error.pointed}") from None
    return text


FilterText = Annotated[str, Field(max_length=4000), AfterValidator(_filter)]


def _metric(name: str) -> str:
    if name in METRICS:
        return name
    near = get_close_matches(name, METRICS, n=1)
    hint = f"did you mean {near[0]}?" if near else f"there are {', '.join(METRICS)}"
    raise ValueError(f"no board reports {name!r}; {hint}")


Metric = Annotated[str, AfterValidator(_metric)]


class ModelRef(Strict):
    """One bundle; `manifest_sha256` says which."""

    name: Id
    version: Id
    manifest_sha256: Sha256


class Wave(Strict):
    """Boards by `filter`, `count` or `percent` of all targets; the last wave may have none of these: all the rest."""

    name: Id
    filter: FilterText | None = None
    count: int | None = Field(default=None, ge=1, le=1_000_000)
    percent: Percent | None = None
    success_threshold_percentage: Percent = 95.0
    """Least share of the wave's boards that have COMMITTED; of fewer than 20 boards, 95 is all."""
    min_number_of_executed_things: int = Field(default=1, ge=1)
    """The wave is not judged before so many of its boards have come to an end (or all, where it has fewer)."""
    soak_minutes: float = Field(default=0.0, ge=0, le=60 * 24 * 30)
    """From the moment that the threshold is reached; the gates must hold at its end."""
    confirmation_required: bool = False
    """The wave waits for an operator's word before it starts."""

    @property
    def is_rest(self) -> bool:
        return self.filter is None and self.count is None and self.percent is None

    @model_validator(mode="after")
    def _one_selector(self) -> Self:
        if sum(each is not None for each in (self.filter, self.count, self.percent)) > 1:
            raise ValueError("a wave has one of filter, count and percent")
        return self


class RateIncrease(Strict):
    number_of_notified_things: int | None = Field(default=None, ge=1)
    number_of_succeeded_things: int | None = Field(default=None, ge=1)

    @model_validator(mode="after")
    def _one(self) -> Self:
        if (self.number_of_notified_things is None) == (self.number_of_succeeded_things is None):
            raise ValueError("give one of numberOfNotifiedThings and numberOfSucceededThings")
        return self


class ExponentialRate(Strict):
    base_rate_per_minute: int = Field(ge=1, le=10_000)
    increment_factor: float = Field(ge=1.0, le=5.0)
    rate_increase_criteria: RateIncrease


class RolloutRate(Strict):
    """How fast boards are told. `max_in_flight` is how many may be at work at once."""

    maximum_per_minute: int = Field(default=1000, ge=1, le=10_000)
    exponential_rate: ExponentialRate | None = None
    max_in_flight: int = Field(default=1000, ge=1)


class AbortCriteria(Strict):
    """Over all boards of the rollout that have come to an end, retries used up."""

    failure_type: FailureType = FailureType.ALL
    threshold_percentage: Percent
    min_number_of_executed_things: int = Field(default=1, ge=1)
    action: Action = Action.ABORT


class RetryCriteria(Strict):
    failure_type: FailureType
    number_of_retries: int = Field(ge=0, le=10)


class Gate(Strict):
    """A bound for what the boards of a wave have measured. A board without the figure does not satisfy it."""

    metric: Metric
    at_least: float | None = Field(default=None, allow_inf_nan=False)
    at_most: float | None = Field(default=None, allow_inf_nan=False)
    threshold_percentage: Percent = 100.0
    """Least share of the wave's committed boards that must satisfy it."""
    min_number_of_executed_things: int = Field(default=1, ge=1)
    """Not broken before so many boards have measured it; passed only by so many (or all, where the wave has fewer)."""
    action: Action = Action.ABORT

    @model_validator(mode="after")
    def _bounded(self) -> Self:
        if self.at_least is None and self.at_most is None:
            raise ValueError("a gate needs atLeast, atMost or both")
        return self


class MaintenanceWindow(Strict):
    """Daily, or on the given days (0 is Monday); UTC; may span midnight."""

    start_time: TimeOfDay
    duration_in_minutes: int = Field(ge=1, le=1440)
    days: list[Annotated[int, Field(ge=0, le=6)]] = Field(default_factory=lambda: list(range(7)), min_length=1)


class Scheduling(Strict):
    """Boards are told only between the times, and in a window where there are any. What has begun is finished."""

    start_time: UtcTime | None = None
    end_time: UtcTime | None = None
    end_behavior: Literal["STOP_ROLLOUT", "CANCEL"] = "STOP_ROLLOUT"
    """At the end time: pause, or abort."""
    maintenance_windows: list[MaintenanceWindow] = Field(default_factory=list, max_length=32)

    @model_validator(mode="after")
    def _ends_after_start(self) -> Self:
        if self.start_time and self.end_time and self.end_time <= self.start_time:
            raise ValueError("endTime must be after startTime")
        return self


class BoardPlan(Strict):
    """What each board is asked to do on its own; see `desired/model`."""

    defer: Defer = Defer()
    shadow: ShadowPlan | None = None
    probation: ProbationPlan = ProbationPlan()


class RolloutSpec(Strict):
    schema_id: Literal["rkfleet.rollout/1"] = Field(default="rkfleet.rollout/1", alias="schema")
    name: Id
    description: Text = ""
    model: ModelRef
    target: FilterText
    """The boards; see the filter language."""
    target_selection: Literal["CONTINUOUS", "SNAPSHOT"] = "CONTINUOUS"
    """CONTINUOUS: boards that come to match while the rollout runs join it, and obey its waves."""
    waves: list[Wave] = Field(min_length=1, max_length=100)
    rollout_rate: RolloutRate = RolloutRate()
    abort_criteria: list[AbortCriteria] = Field(default_factory=list, max_length=16)
    error_action: Action = Action.ABORT
    """When a wave can no longer reach its success threshold."""
    gates: list[Gate] = Field(default_factory=list, max_length=32)
    in_progress_timeout_in_minutes: Minutes = 60.0
    """From being told to the end; silence is failure."""
    retries: list[RetryCriteria] = Field(default_factory=list, max_length=4)
    retry_delay_minutes: float = Field(default=1.0, ge=0, le=1440)
    scheduling: Scheduling = Scheduling()
    board: BoardPlan = BoardPlan()
    on_abort: OnAbort = OnAbort.REVERT

    @model_validator(mode="after")
    def _waves_make_sense(self) -> Self:
        names = [wave.name for wave in self.waves]
        if doubled := sorted({a for a, b in pairwise(sorted(names)) if a == b}):
            raise ValueError(f"two waves are called {', '.join(doubled)}")
        if early := [wave.name for wave in self.waves[:-1] if wave.is_rest]:
            raise ValueError(f"wave {early[0]} takes all the rest: only the last one may")
        if sum(wave.percent or 0.0 for wave in self.waves) > 100.0 + 1e-9:
            raise ValueError("the waves' percentages are of all targets: together at most 100")
        return self
