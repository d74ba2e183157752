"""`desired/*` and `reported/*`: what should be, and what is. Retained and level-triggered: the latest `generation`
wins, a lower or equal one is ignored.
"""

from enum import StrEnum
from typing import Any, Literal

from pydantic import Field

from schemas.base import Id, Sha256, Strict, UtcTime, Wire
from schemas.command import Failure


class Phase(StrEnum):
    QUEUED = "QUEUED"
    DOWNLOADING = "DOWNLOADING"
    VERIFYING = "VERIFYING"
    LOADING = "LOADING"
    SELF_TEST = "SELF_TEST"
    SHADOW = "SHADOW"
    PROBATION = "PROBATION"
    COMMITTED = "COMMITTED"
    REJECTED = "REJECTED"
    FAILED = "FAILED"
    ROLLED_BACK = "ROLLED_BACK"
    CANCELED = "CANCELED"

    @property
    def is_end(self) -> bool:
        """Nothing is under way any more."""
        return self in {Phase.COMMITTED, Phase.REJECTED, Phase.FAILED, Phase.ROLLED_BACK, Phase.CANCELED}


class Defer(Strict):
    """When the change may happen: at once, at the end of the lot, or in a daily window (times as HH:MM, UTC)."""

    until: Literal["now", "lotEnd", "window"] = "now"
    window_start: str | None = Field(default=None, pattern=r"^([01]\d|2[0-3]):[0-5]\d$")
    window_end: str | None = Field(default=None, pattern=r"^([01]\d|2[0-3]):[0-5]\d$")


class ShadowPlan(Strict):
    """Live frames through both models before the flip."""

    frames: int = Field(gt=0, le=10_000)
    least_agreement: float = Field(ge=0, le=1)


class ProbationPlan(Strict):
    """How long the new model is watched, and what ends it."""

    frames: int = Field(default=100, gt=0, le=1_000_000)
    max_p95_ratio: float = Field(default=1.5, gt=0, allow_inf_nan=False)
    """p95 of the latency over the old model's."""
    max_ng_drift: float = Field(default=0.2, ge=0, le=1)
    """Share of NotOK results, new less old, in either direction."""


class DesiredModel(Strict):
    """`desired/model`."""

    schema_id: Literal["rkfleet.desired.model/1"] = Field(default="rkfleet.desired.model/1", alias="schema")
    generation: int = Field(ge=1, le=2**53 - 1)
    name: Id
    version: Id
    manifest_sha256: Sha256
    """Digest of the bundle's manifest.json, which holds the digests of all else."""
    urls: list[str] = Field(min_length=1, max_length=8)
    """Where the bundle's files are, in order of preference: `{url}/manifest.json` and so on."""
    defer: Defer = Defer()
    shadow: ShadowPlan | None = None
    probation: ProbationPlan = ProbationPlan()


class DesiredConfig(Strict):
    """`desired/config`: cameras, recipes, rates and schedules, in the form of the agent's settings file."""

    schema_id: Literal["rkfleet.desired.config/1"] = Field(default="rkfleet.desired.config/1", alias="schema")
    generation: int = Field(ge=1, le=2**53 - 1)
    config: dict[str, Any]


class PhaseTime(Wire):
    """When a phase began, by the board's clock."""

    phase: Phase
    time: UtcTime


class Reported(Wire):
    observed_generation: int = Field(ge=0)
    phase: Phase
    progress: float | None = Field(default=None, ge=0, le=1)
    last_error: Failure | None = None
    time: UtcTime


class ReportedModel(Reported):
    """`reported/model`. `name`, `version` and `sha256` are those of the model that runs now."""

    schema_id: Literal["rkfleet.reported.model/1"] = Field(default="rkfleet.reported.model/1", alias="schema")
    name: Id | None = None
    version: Id | None = None
    sha256: Sha256 | None = None
    measured: dict[str, float] = Field(default_factory=dict)
    """What self-test, shadow and probation measured, for example `selfTestAgreement`."""
    phases: list[PhaseTime] = Field(default_factory=list, max_length=32)
    """The latest phases of this generation since the agent started."""


class ReportedConfig(Reported):
    """`reported/config`. `sha256` is that of the configuration that runs now."""

    schema_id: Literal["rkfleet.reported.config/1"] = Field(default="rkfleet.reported.config/1", alias="schema")
    sha256: Sha256 | None = None
