"""Commands: each is worked off once and answered as often as it comes."""

import logging
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import datetime

from agent.core.command import Refusal, answer, read, refuse
from agent.core.outgoing import Accepted, Outgoing
from agent.errors import AgentError
from agent.loops.desk import AlarmDesk
from agent.ports import Inbox, Spool
from schemas.codes import FailureCode
from schemas.command import CancelUpdate, Command, Lot, Ping, Rebirth, Replay, ReplayOutput, Reply

log = logging.getLogger(__name__)

MAX_REPLAY = 100_000
"""Most results that one command may ask for."""


@dataclass(frozen=True, slots=True)
class CommandParts:
    """What commands act on. `announce` publishes status, info and alarms; `replayed` tells the uplink to look again;
    `cancel` is False where no update of this generation is under way; `lot` returns the lots that are open.
    """

    inbox: Inbox
    spool: Spool
    desk: AlarmDesk
    publish: Callable[[Outgoing], None]
    announce: Callable[[], None]
    replayed: Callable[[], None]
    cancel: Callable[[int], bool]
    lot: Callable[[Lot], list[str]]
    now: Callable[[], datetime]
    uptime_s: Callable[[], float]
    boot_id: str


class Commands:
    """Owned by control."""

    def __init__(self, parts: CommandParts) -> None:
        self._parts = parts

    def take(self, accepted: Accepted, refusal: Refusal | None = None) -> None:
        """Work one off and answer it, or answer why it is refused unread.

        Errors: those of the inbox; the command then stays and comes again.
        """
        message = accepted.message
        request = refusal or read(message, self._parts.now())
        command_id = request.command_id
        known = self._parts.inbox.reply_to(command_id) if command_id else None
        if known is None:
            known = self._reply(request, message.topic).to_json()
        self._parts.inbox.finish(accepted.row, command_id, known)
        reply = answer(message, known)
        if reply is not None:
            self._parts.publish(reply)

    def _reply(self, request: Command | Refusal, topic: str) -> Reply:
        if isinstance(request, Refusal):
            self._parts.desk.happened(request.code, "broker", f"{topic[:200]}: {request.text}")
            return refuse(request, self._parts.now())
        try:
            return self._done(request)
        except AgentError as error:
            return refuse(Refusal(error.code, error.text, request.command_id), self._parts.now())

    def _done(self, command: Command) -> Reply:
        output: dict[str, object] = {}
        match command:
            case Ping():
                output = {"bootId": self._parts.boot_id, "uptimeS": round(self._parts.uptime_s(), 3)}
            case Rebirth():
                self._parts.announce()
            case CancelUpdate(generation=generation):
                if not self._parts.cancel(generation):
                    text = f"there is no update of generation {generation} under way"
                    return refuse(Refusal(FailureCode.COMMAND_INVALID, text, command.command_id), self._parts.now())
            case Lot():
                output = {"openLots": self._parts.lot(command)}
            case Replay():
                output = self._replay(command).model_dump(by_alias=True)
        return Reply(command_id=command.command_id, ok=True, time=self._parts.now(), output=output)

    def _replay(self, command: Replay) -> ReplayOutput:
        first, last = command.first_sequence_number, command.last_sequence_number
        last = min(last, first + MAX_REPLAY - 1)
        found = self._parts.spool.replay(command.boot_id, first, last)
        self._parts.replayed()
        return ReplayOutput(found=len(found), missing=missing(first, last, found))


def missing(first: int, last: int, found: Iterable[int]) -> list[tuple[int, int]]:
    """Inclusive ranges of [first, last] that are not in `found`."""
    gaps = []
    expected = first
    for number in [*sorted(found), last + 1]:
        if number > expected:
            gaps.append((expected, number - 1))
        expected = number + 1
    return gaps
