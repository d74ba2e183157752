"""What one process is to simulate: JSON from whoever starts it, checked once and frozen."""

from enum import StrEnum
from pathlib import Path
from typing import Self

from pydantic import Field, ValidationError, field_validator, model_validator

from agent.errors import Permanent
from schemas.base import Id, Strict
from schemas.codes import FailureCode
from schemas.target import Target

_LONGEST_NUMBER = 6


class Badness(StrEnum):
    """What is wrong with a model on every board that runs it."""

    NG = "ng"
    """It calls most parts defective."""
    FAULT = "fault"
    """It gives no answer to some pictures."""
    SLOW = "slow"
    """It takes three times as long."""
    SELF_TEST = "selftest"
    """Its golden frames do not agree."""


class Trusted(Strict):
    """Whom the boards believe, as in the section `[trust]` of a board's settings. `manifests` False: the word of the
    desired state is taken, and nothing is downloaded.
    """

    root: Path | None = None
    metadata_url: str | None = None
    controller_keys: Path | None = None
    manifests: bool = True

    @model_validator(mode="after")
    def _is_whole(self) -> Self:
        if (self.root is None) != (self.metadata_url is None):
            raise ValueError("root and metadataUrl come together")
        return self


class Shares(Strict):
    """Shares of the boards, 0 to 1, that do not behave."""

    flap: float = Field(default=0.0, ge=0, le=1)
    """They lose their connection now and then."""
    silent: float = Field(default=0.0, ge=0, le=1)
    """They are online and never act on what they are sent."""
    lie: float = Field(default=0.0, ge=0, le=1)
    """They report what is not so."""


class Simulation(Strict):
    """Boards `first` to `first + nodes - 1`, named `prefix` and the number. `rate` is in results per second and board.

    What a board is like depends on its name and `seed` alone, not on the process that it runs in.
    """

    host: str = "127.0.0.1"
    port: int = Field(default=1883, ge=1, le=65535)
    username: str | None = None
    password: str | None = None
    site: Id = "sim"
    prefix: Id = "sim-"
    first: int = Field(default=1, ge=0)
    nodes: int = Field(ge=1, le=5000)
    socs: dict[Target, float] = Field(default_factory=lambda: {Target.RK3588: 1.0}, min_length=1)
    rate: float = Field(default=0.0, ge=0, le=100)
    telemetry_s: float = Field(default=10.0, ge=0.5, le=3600)
    bad_models: dict[str, Badness] = Field(default_factory=dict)
    """By NAME@VERSION."""
    shares: Shares = Shares()
    flap_s: float = Field(default=20.0, ge=0.5)
    """Mean time between two losses of a flapping board's connection."""
    trust: Trusted = Trusted()
    download: bool = False
    """The files of bundles too, not their manifests alone."""
    data: Path | None = None
    """Where each board has its journals, inbox and spool as a real one has; None: in memory."""
    seed: int = 1
    duration_s: float | None = Field(default=None, gt=0)
    starts_per_s: float = Field(default=100.0, gt=0)
    report_s: float = Field(default=1.0, ge=0.1)

    @field_validator("bad_models")
    @classmethod
    def _are_named(cls, value: dict[str, Badness]) -> dict[str, Badness]:
        for name in value:
            if name.count("@") != 1 or name.startswith("@") or name.endswith("@"):
                raise ValueError(f"{name!r} is not NAME@VERSION")
        return value

    @field_validator("socs")
    @classmethod
    def _weigh_something(cls, value: dict[Target, float]) -> dict[Target, float]:
        if any(weight < 0 for weight in value.values()) or not sum(value.values()) > 0:
            raise ValueError("weights of SoCs are not negative, and one is above 0")
        return value

    def names(self) -> list[str]:
        return [f"{self.prefix}{number:0{_LONGEST_NUMBER}d}" for number in range(self.first, self.first + self.nodes)]


def read(text: str) -> Simulation:
    """Errors: Permanent(CONFIG_INVALID) that names the field."""
    try:
        return Simulation.model_validate_json(text)
    except ValidationError as error:
        problems = [
            f"{'.'.join(str(part) for part in each['loc']) or 'configuration'}: {each['msg']}"
            for each in error.errors(include_url=False, include_input=False)
        ]
        raise Permanent(FailureCode.CONFIG_INVALID, "; ".join(problems)) from error
