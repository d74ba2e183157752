"""What the broker has brought, in order: to commands, the desired state, jobs."""

import logging
from collections.abc import Callable
from dataclasses import dataclass

from agent.core.command import Refusal
from agent.core.outgoing import Accepted, Incoming
from agent.errors import AgentError, Permanent
from agent.ports import Inbox
from schemas.codes import FailureCode
from schemas.topics import BadTopic, parse

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Desks:
    """Who takes what. Each may raise Retryable, and the message then stays; all but `command` return a refusal where
    the message is not fit, and may raise Permanent, which comes to the same: no message may block those behind it.
    """

    command: Callable[[Accepted], None]
    model: Callable[[Incoming], Refusal | None]
    config: Callable[[Incoming], Refusal | None]
    job: Callable[[Incoming], Refusal | None]
    happened: Callable[[FailureCode, str, str], None]


class Mailroom:
    """Owned by control."""

    def __init__(self, inbox: Inbox, desks: Desks) -> None:
        self._inbox = inbox
        self._desks = desks

    def work_off(self) -> None:
        """All that waits. What fails for want of disk stays and is tried again at the next call."""
        try:
            for accepted in self._inbox.waiting():
                self._one(accepted)
        except AgentError as error:
            log.error("inbox: %s", error.text)

    def _one(self, accepted: Accepted) -> None:
        message = accepted.message
        take = self._desk(message.topic)
        if take is None:
            self._desks.command(accepted)  # which also knows how to refuse a topic that is none
            return
        # An empty payload is how somebody clears what was retained: there is nothing to do about it.
        refusal = _taken(take, message) if message.payload else None
        if refusal is not None:
            self._desks.happened(refusal.code, "broker", f"{message.topic[:200]}: {refusal.text}")
        self._inbox.finish(accepted.row)

    def _desk(self, topic: str) -> Callable[[Incoming], Refusal | None] | None:
        try:
            parsed = parse(topic)
        except BadTopic:
            return None
        desks = {
            ("desired", "model"): self._desks.model,
            ("desired", "config"): self._desks.config,
            ("job", parsed.name): self._desks.job,
        }
        return desks.get((parsed.family, parsed.name))


def _taken(take: Callable[[Incoming], Refusal | None], message: Incoming) -> Refusal | None:
    try:
        return take(message)
    except Permanent as error:
        return Refusal(error.code, error.text)
