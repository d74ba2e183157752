"""`status` and `info`: that a board is there, and what it is. Both retained."""

from enum import StrEnum
from typing import Literal

from pydantic import Field

from schemas.base import Id, Text, UtcTime, Wire
from schemas.target import Target


class Presence(StrEnum):
    ONLINE = "online"
    OFFLINE = "offline"


class Status(Wire):
    """Birth and will. A reader ignores an `offline` whose `sessionSeq` is lower than that of the last `online`: it is
    the late will of a connection that a newer one has replaced.
    """

    schema_id: Literal["rkfleet.status/1"] = Field(default="rkfleet.status/1", alias="schema")
    presence: Presence
    session_seq: int = Field(ge=0)
    boot_id: Id
    time: UtcTime | None = None
    """None in a will: nobody knows beforehand when it will be sent."""
    reason: Literal["birth", "will", "shutdown"]
    last_sequence_number: int | None = Field(default=None, ge=0)
    """With `shutdown`: the number of the last result of this boot, so that a reader knows when it has them all."""
    pending_results: int | None = Field(default=None, ge=0)
    """With `shutdown`: results that the broker has not acknowledged; they come with the next boot."""


class Location(Wire):
    """Where the board stands, in the words of ISA-95 (equipment hierarchy)."""

    enterprise: Text | None = None
    site: Id
    area: Text | None = None
    line: Text | None = None
    cell: Text | None = None
    node: Id


class CameraInfo(Wire):
    id: Id
    kind: str
    trigger: Literal["continuous", "interval", "cron", "job"]
    width_px: int | None = None
    height_px: int | None = None


class ModelInfo(Wire):
    """The model that made a result; `generation` counts the models of this board."""

    name: Id
    version: Id
    sha256: str
    generation: int = Field(ge=0)
    runtime: str
    runtime_version: str
    driver_version: str | None = None
    target: Target


class Info(Wire):
    schema_id: Literal["rkfleet.info/1"] = Field(default="rkfleet.info/1", alias="schema")
    station: Location
    agent_version: str
    python_version: str
    platform: str
    soc: str | None = None
    target: Target
    npu_cores: int = Field(ge=0)
    boot_id: Id
    started_at: UtcTime
    is_simulated: bool
    cameras: list[CameraInfo]
    model: ModelInfo | None = None
    capabilities: list[str]
    """Commands and job types that this agent answers, for example `cmd/replay`."""
    time: UtcTime
