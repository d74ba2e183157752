from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.core.command import Refusal, answer, read
from agent.core.outgoing import Incoming
from agent.loops.commands import missing
from schemas.codes import FailureCode
from schemas.command import Command, Ping
from schemas.topics import Topics

NOW = datetime(2026, 1, 1, tzinfo=UTC)
TOPICS = Topics("a", "b")


def incoming(payload: bytes, topic: str = TOPICS.command("ping"), **rest: object) -> Incoming:
    return Incoming(topic, payload, NOW, **rest)  # type: ignore[arg-type]


def test_a_command_is_read() -> None:
    assert read(incoming(b'{"commandId": "x", "later": 1}'), NOW) == Ping(command_id="x")


@pytest.mark.parametrize(
    ("message", "code"),
    [
        (incoming(b"{}", "elsewhere"), FailureCode.MESSAGE_MALFORMED),
        (incoming(b"{}", TOPICS.desired("model")), FailureCode.COMMAND_UNKNOWN),
        (incoming(b"{}", TOPICS.command("fly")), FailureCode.COMMAND_UNKNOWN),
        (incoming(b'{"commandId": "x"}', retain=True), FailureCode.COMMAND_INVALID),
        (incoming(b" " * 70_000), FailureCode.MESSAGE_TOO_LARGE),
        (incoming(b"nonsense"), FailureCode.MESSAGE_MALFORMED),
        (incoming(b"null"), FailureCode.COMMAND_INVALID),
        (incoming(b'{"commandId": "x", "expiresAt": "2025-12-31T23:59:59Z"}'), FailureCode.COMMAND_EXPIRED),
        (incoming(b'{"commandId": "x", "expiresAt": "2026-12-31T23:59:59"}'), FailureCode.COMMAND_INVALID),
    ],
)
def test_what_is_no_command_is_refused_with_its_code(message: Incoming, code: FailureCode) -> None:
    refusal = read(message, NOW)
    assert isinstance(refusal, Refusal)
    assert refusal.code is code
    assert refusal.text


@given(
    st.sampled_from([TOPICS.command("ping"), TOPICS.command("replay"), TOPICS.command("x"), "\0", "a/b/#"]),
    st.binary(max_size=300),
)
def test_any_bytes_are_read_or_refused(topic: str, payload: bytes) -> None:
    assert isinstance(read(incoming(payload, topic), NOW), Command | Refusal)


@pytest.mark.parametrize(
    ("topic", "is_answered"),
    [
        ("replies/me", True),
        (None, False),
        ("", False),
        ("replies/#", False),
        ("replies/+", False),
        ("$SYS/x", False),
        ("rkfleet/v1/a/other/cmd/ping", False),
    ],
)
def test_a_reply_goes_where_it_may(topic: str | None, is_answered: bool) -> None:
    reply = answer(incoming(b"", response_topic=topic, correlation=b"7"), b"{}")
    assert (reply is not None) is is_answered
    if reply is not None:
        assert (reply.topic, reply.correlation) == (topic, b"7")


@pytest.mark.parametrize(
    ("found", "gaps"),
    [([], [(3, 9)]), ([3, 4, 5, 6, 7, 8, 9], []), ([3, 9], [(4, 8)]), ([5, 4], [(3, 3), (6, 9)])],
)
def test_what_a_replay_does_not_have_is_given_as_ranges(found: list[int], gaps: list[tuple[int, int]]) -> None:
    assert missing(3, 9, found) == gaps
