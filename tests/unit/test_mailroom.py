"""What the broker brings goes to the right desk, once, in order, and nothing is lost for want of disk."""

from collections.abc import Sequence
from datetime import UTC, datetime

import pytest

from agent.core.command import Refusal
from agent.core.outgoing import Accepted, Incoming
from agent.errors import AgentError, Permanent, Retryable
from agent.loops.mailroom import Desks, Mailroom
from schemas.codes import FailureCode
from schemas.topics import Topics

NOW = datetime(2026, 1, 1, tzinfo=UTC)
TOPICS = Topics("berlin", "board-1")
FULL = Retryable(FailureCode.DISK_FULL, "full")
REFUSAL = Refusal(FailureCode.MESSAGE_MALFORMED, "generation: missing")


class Office:
    """An inbox in memory, and desks that write down what they get. `raises` and `refuses` name the desk."""

    def __init__(self, *topics: str, payload: bytes = b"{}") -> None:
        self.rows = [Accepted(row, Incoming(topic, payload, NOW)) for row, topic in enumerate(topics)]
        self.taken: list[tuple[str, str]] = []
        self.told: list[tuple[FailureCode, str]] = []
        self.raises: dict[str, AgentError] = {}
        self.refuses: set[str] = set()
        desks = Desks(
            command=self.command,
            model=lambda message: self._take("model", message),
            config=lambda message: self._take("config", message),
            job=lambda message: self._take("job", message),
            happened=lambda code, _source, text: self.told.append((code, text)),
        )
        self.mailroom = Mailroom(self, desks)  # type: ignore[arg-type]  # the part of an inbox that is used

    def waiting(self) -> Sequence[Accepted]:
        if "inbox" in self.raises:
            raise self.raises["inbox"]
        return list(self.rows)

    def finish(self, row: int) -> None:
        if "finish" in self.raises:
            raise self.raises["finish"]
        self.rows = [each for each in self.rows if each.row != row]

    def command(self, accepted: Accepted, refusal: Refusal | None) -> None:
        """Finishes what it takes by itself, with its reply."""
        if refusal is not None:
            self.told.append((refusal.code, refusal.text))
        self._take("command", accepted.message)
        self.finish(accepted.row)

    def _take(self, desk: str, message: Incoming) -> Refusal | None:
        if desk in self.raises:
            raise self.raises[desk]
        self.taken.append((desk, message.topic))
        return REFUSAL if desk in self.refuses else None


@pytest.mark.parametrize(
    ("topic", "desk"),
    [
        (TOPICS.desired("model"), "model"),
        (TOPICS.desired("config"), "config"),
        (f"{TOPICS.base}/job/j-1/request", "job"),
        (TOPICS.command("ping"), "command"),
        (f"{TOPICS.base}/cmd/never-heard-of", "command"),
        (f"{TOPICS.base}/desired/weather", "command"),
        ("somebody/elses", "command"),
        ("", "command"),
    ],
)
def test_each_message_goes_to_its_desk_and_is_finished(topic: str, desk: str) -> None:
    office = Office(topic)
    office.mailroom.work_off()
    assert office.taken == [(desk, topic)]
    assert office.rows == []


def test_what_is_refused_is_told_and_finished() -> None:
    office = Office(TOPICS.desired("model"))
    office.refuses = {"model"}
    office.mailroom.work_off()
    assert office.told == [(REFUSAL.code, f"{TOPICS.desired('model')}: {REFUSAL.text}")]
    assert office.rows == []


@pytest.mark.parametrize("topic", [TOPICS.desired("model"), TOPICS.desired("config"), f"{TOPICS.base}/job/j/request"])
def test_a_retained_message_that_was_cleared_asks_for_nothing(topic: str) -> None:
    office = Office(topic, payload=b"")
    office.mailroom.work_off()
    assert office.taken == []
    assert office.told == []
    assert office.rows == []


@pytest.mark.parametrize("where", ["inbox", "model", "command", "finish"])
def test_what_fails_for_want_of_disk_stays_and_comes_again_in_order(where: str) -> None:
    topics = [TOPICS.desired("model"), TOPICS.command("ping"), TOPICS.desired("config")]
    office = Office(*topics)
    office.raises = {where: FULL}
    office.mailroom.work_off()
    office.mailroom.work_off()
    assert office.rows[-1].message.topic == topics[-1]
    assert ("config", topics[-1]) not in office.taken, "what comes later waits"
    office.raises = {}
    office.mailroom.work_off()
    assert office.rows == []
    assert [topic for _, topic in office.taken][-1] == topics[-1]
    assert {topic for _, topic in office.taken} == set(topics)


@pytest.mark.parametrize("desk", ["model", "config", "job"])
def test_a_message_that_can_never_be_taken_does_not_block_those_behind_it(desk: str) -> None:
    bad = TOPICS.job_request("j-1") if desk == "job" else TOPICS.desired(desk)
    office = Office(bad, TOPICS.command("ping"))
    office.raises[desk] = Permanent(FailureCode.INTERNAL, "the disk is broken")
    office.mailroom.work_off()
    assert office.taken[-1][0] == "command"
    assert office.told[0][0] is FailureCode.INTERNAL
    assert office.rows == []
