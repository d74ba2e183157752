"""What the broker has brought, in order: to commands, the desired state, jobs. Signatures are looked at here, once."""

import logging
from collections.abc import Callable
from dataclasses import dataclass, replace

from agent.core.command import Refusal
from agent.core.outgoing import Accepted, Incoming
from agent.errors import AgentError, Permanent
from agent.ports import Inbox, Verifier
from schemas.codes import FailureCode
from schemas.topics import BadTopic, parse

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Desks:
    """Who takes what. Each may raise Retryable, and the message then stays; all but `command` return a refusal where
    the message is not fit, and may raise Permanent, which comes to the same: no message may block those behind it.
    `command` gets the refusal of what is not signed as it must be, and answers it.
    """

    command: Callable[[Accepted, Refusal | None], None]
    model: Callable[[Incoming], Refusal | None]
    config: Callable[[Incoming], Refusal | None]
    job: Callable[[Incoming], Refusal | None]
    happened: Callable[[FailureCode, str, str], None]


class Mailroom:
    """Owned by control. Without a verifier all messages are taken as they are."""

    def __init__(self, inbox: Inbox, desks: Desks, verifier: Verifier | None = None) -> None:
        self._inbox = inbox
        self._desks = desks
        self._verifier = verifier

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
        if take is None:  # commands also know how to refuse a topic that is none
            opened = self._opened(message)
            if isinstance(opened, Refusal):
                self._desks.command(accepted, opened)
            else:
                self._desks.command(replace(accepted, message=opened), None)
            return
        # An empty payload is how somebody clears what was retained: there is nothing to do about it.
        refusal = self._taken(take, message) if message.payload else None
        if refusal is not None:
            self._desks.happened(refusal.code, "broker", f"{message.topic[:200]}: {refusal.text}")
        self._inbox.finish(accepted.row)

    def _taken(self, take: Callable[[Incoming], Refusal | None], message: Incoming) -> Refusal | None:
        opened = self._opened(message)
        if isinstance(opened, Refusal):
            return opened
        try:
            return take(opened)
        except Permanent as error:
            return Refusal(error.code, error.text)

    def _opened(self, message: Incoming) -> Incoming | Refusal:
        return message if self._verifier is None else self._verifier.open(message)

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
