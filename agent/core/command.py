"""Reading commands: hostile bytes in, a request or a typed refusal out."""

from dataclasses import dataclass
from datetime import datetime

from pydantic import ValidationError

from agent.core.outgoing import Incoming, Outgoing
from schemas.codes import FailureCode
from schemas.command import COMMANDS, Command, CommandName, Failure, Reply
from schemas.topics import ROOT, BadTopic, parse

MAX_COMMAND_BYTES = 65_536
REPLY_EXPIRY_S = 300


@dataclass(frozen=True, slots=True)
class Refusal:
    """`command_id` is None where the message was too broken to have one."""

    code: FailureCode
    text: str
    command_id: str | None = None


def read(message: Incoming, now: datetime) -> Command | Refusal:
    """Never raises, whatever the topic and the payload are."""
    name = _name(message)
    if isinstance(name, Refusal):
        return name
    try:
        command = COMMANDS[name].model_validate_json(message.payload)
    except ValidationError as error:
        return malformed(error)
    if command.expires_at is not None and command.expires_at <= now:
        return Refusal(FailureCode.COMMAND_EXPIRED, f"expired at {command.expires_at.isoformat()}", command.command_id)
    return command


def _name(message: Incoming) -> CommandName | Refusal:
    try:
        topic = parse(message.topic)
        if topic.family != "cmd":
            return Refusal(FailureCode.COMMAND_UNKNOWN, f"this agent does not take {topic.family}/{topic.name}")
        name = CommandName(topic.name)
    except BadTopic as error:
        return Refusal(FailureCode.MESSAGE_MALFORMED, str(error))
    except ValueError:
        return Refusal(FailureCode.COMMAND_UNKNOWN, f"no such command; there are {', '.join(CommandName)}")
    if message.retain:
        return Refusal(FailureCode.COMMAND_INVALID, "a command must not be retained")
    if len(message.payload) > MAX_COMMAND_BYTES:
        size = len(message.payload)
        return Refusal(FailureCode.MESSAGE_TOO_LARGE, f"{size} bytes; a command has at most {MAX_COMMAND_BYTES}")
    return name


def answer(message: Incoming, reply: bytes) -> Outgoing | None:
    """The reply as a message, or None where the caller gave no usable response topic.

    Replies never go to our own topics or the broker's: a caller must not speak with the board's voice.
    """
    topic = message.response_topic
    if not topic or topic.startswith(("$", f"{ROOT}/")) or any(c in topic for c in "+#\0"):
        return None
    return Outgoing(topic=topic, payload=reply, expiry_s=REPLY_EXPIRY_S, correlation=message.correlation)


def refuse(refusal: Refusal, now: datetime) -> Reply:
    return Reply(
        command_id=refusal.command_id,
        ok=False,
        time=now,
        failure=Failure(code=refusal.code, text=refusal.text[:2000]),
    )


def malformed(error: ValidationError, what: str = "command") -> Refusal:
    """In words: where the message is wrong, and how. `what` names the message as a whole."""
    problem = error.errors(include_url=False, include_input=False)[0]
    if problem["type"] == "json_invalid":
        return Refusal(FailureCode.MESSAGE_MALFORMED, f"not JSON: {problem['msg']}"[:500])
    place = ".".join(str(part) for part in problem["loc"]) or what
    return Refusal(FailureCode.COMMAND_INVALID, f"{place}: {problem['msg']}"[:500])
