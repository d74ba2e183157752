"""Which lots are open, over restarts and without a disk."""

import json

import pytest

from agent.errors import AgentError, Permanent, Retryable
from agent.loops.lots import MOST_LOTS, Lots
from schemas.codes import FailureCode
from schemas.command import Lot


class MemoryJournal:
    def __init__(self, content: bytes | None = None) -> None:
        self.content = content
        self.failure: AgentError | None = None
        self.writes = 0

    def read(self) -> bytes | None:
        if self.failure is not None:
            raise self.failure
        return self.content

    def write(self, content: bytes) -> None:
        if self.failure is not None:
            raise self.failure
        self.writes += 1
        self.content = content


def lot(name: str, state: str) -> Lot:
    return Lot.model_validate({"commandId": "c", "lotId": name, "state": state})


def test_lots_open_and_close() -> None:
    lots = Lots(MemoryJournal())
    was_open = [lots.is_open]
    for name, state, left in [
        ("a", "open", ["a"]),
        ("b", "open", ["a", "b"]),
        ("a", "closed", ["b"]),
        ("b", "closed", []),
    ]:
        assert lots.take(lot(name, state)) == left
        was_open.append(lots.is_open)
    assert was_open == [False, True, True, True, False]


def test_what_is_open_is_known_after_a_restart() -> None:
    journal = MemoryJournal()
    Lots(journal).take(lot("a", "open"))
    assert Lots(journal).is_open


def test_what_changes_nothing_is_not_written() -> None:
    journal = MemoryJournal()
    lots = Lots(journal)
    lots.take(lot("never-opened", "closed"))
    lots.take(lot("a", "open"))
    lots.take(lot("a", "open"))
    assert journal.writes == 1


def test_a_lot_that_cannot_be_remembered_is_not_taken() -> None:
    journal = MemoryJournal()
    lots = Lots(journal)
    journal.failure = Retryable(FailureCode.DISK_FULL, "full")
    with pytest.raises(Retryable):
        lots.take(lot("a", "open"))
    assert not lots.is_open
    journal.failure = None
    assert lots.take(lot("a", "open")) == ["a"]


def test_too_many_open_lots_are_refused() -> None:
    lots = Lots(MemoryJournal())
    for number in range(MOST_LOTS):
        lots.take(lot(f"lot-{number}", "open"))
    with pytest.raises(Permanent) as caught:
        lots.take(lot("one-more", "open"))
    assert caught.value.code is FailureCode.COMMAND_INVALID
    assert len(lots.take(lot("lot-0", "closed"))) == MOST_LOTS - 1


@pytest.mark.parametrize("content", [b"", b"{", b"{}", b"7", b"\xff", b"null", json.dumps([1, None]).encode()])
def test_what_cannot_be_read_leaves_no_lot_open(content: bytes) -> None:
    assert not Lots(MemoryJournal(content)).is_open


def test_a_garbled_journal_leaves_no_lot_open() -> None:
    journal = MemoryJournal()
    journal.failure = Permanent(FailureCode.INTERNAL, "garbled")
    assert not Lots(journal).is_open
