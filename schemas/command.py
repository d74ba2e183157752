"""`cmd/{name}`: one-shot questions, answered on the MQTT 5 response topic with the same correlation data."""

from enum import StrEnum
from typing import Annotated, Any, Literal

from pydantic import Field

from schemas.base import Id, Text, UtcTime, Wire
from schemas.codes import FailureCode

CommandId = Annotated[Id, Field(description="Chosen by the caller; the same id again gets the same reply again.")]


class Command(Wire):
    """What every command has. Sent with a message expiry of 30 to 300 s, so that a late one dies at the broker."""

    command_id: CommandId
    expires_at: UtcTime | None = None


class Ping(Command):
    """`cmd/ping`: is the agent's control loop alive?"""


class Rebirth(Command):
    """`cmd/rebirth`: publish status, info and all alarms again."""


class Replay(Command):
    """`cmd/replay`: publish results of this range again, as far as the spool remembers them."""

    boot_id: Id
    first_sequence_number: int = Field(ge=1, le=2**53 - 1)
    last_sequence_number: int = Field(ge=1, le=2**53 - 1)


class CancelUpdate(Command):
    """`cmd/cancel-update`: take back the desired model of this generation, as long as it is not committed."""

    generation: int = Field(ge=1, le=2**53 - 1)


class Lot(Command):
    """`cmd/lot`: a lot begins or ends; an update that waits for `lotEnd` waits while any lot is open."""

    lot_id: Id
    state: Literal["open", "closed"]


class CommandName(StrEnum):
    PING = "ping"
    REBIRTH = "rebirth"
    REPLAY = "replay"
    CANCEL_UPDATE = "cancel-update"
    LOT = "lot"


COMMANDS: dict[CommandName, type[Command]] = {
    CommandName.PING: Ping,
    CommandName.REBIRTH: Rebirth,
    CommandName.REPLAY: Replay,
    CommandName.CANCEL_UPDATE: CancelUpdate,
    CommandName.LOT: Lot,
}


class Failure(Wire):
    code: FailureCode
    text: Text


class Reply(Wire):
    """`ok` with an `output`, or a failure."""

    schema_id: Literal["rkfleet.reply/1"] = Field(default="rkfleet.reply/1", alias="schema")
    command_id: Id | None = None
    ok: bool
    time: UtcTime
    output: dict[str, Any] = Field(default_factory=dict)
    failure: Failure | None = None


class ReplayOutput(Wire):
    """`output` of a replay: what will be sent again, and what the board no longer has."""

    found: int = Field(ge=0)
    missing: list[tuple[int, int]]
    """Inclusive ranges of sequence numbers."""
