import threading
from datetime import UTC, datetime

import pytest

from agent.core.outgoing import Kind, Outgoing, Place
from agent.errors import Retryable
from agent.loops.outbox import Outbox
from schemas.codes import FailureCode
from tests.contract.fakes import MemorySpool


class Wakes:
    """Counts, and remembers how many rows waited at each call."""

    def __init__(self, spool: MemorySpool) -> None:
        self.depths: list[int] = []
        self._spool = spool

    def __call__(self) -> None:
        self.depths.append(self._spool.depth().pending)


@pytest.fixture
def spool() -> MemorySpool:
    return MemorySpool(lambda: datetime(2026, 3, 1, tzinfo=UTC))


def build(place: Place) -> Outgoing:
    return Outgoing("t", str(place.sequence_number).encode())


def payloads(spool: MemorySpool) -> list[int]:
    return [int(each.message.payload) for each in spool.pending(0, 10_000)]


def test_results_are_numbered_from_one_and_the_uplink_wakes_after_each_commit(spool: MemorySpool) -> None:
    wakes = Wakes(spool)
    outbox = Outbox(spool, "b0", wakes)
    assert [outbox.result(build) for _ in range(3)] == [Place("b0", number) for number in (1, 2, 3)]
    assert payloads(spool) == [1, 2, 3]
    assert wakes.depths == [1, 2, 3]
    assert list(spool.replay("b0", 2, 3)) == [2, 3]


def test_a_result_that_is_not_stored_leaves_no_gap_and_wakes_nobody(spool: MemorySpool) -> None:
    wakes = Wakes(spool)
    outbox = Outbox(spool, "b0", wakes)
    outbox.result(build)
    spool.failure = Retryable(FailureCode.SPOOL_FULL, "full")
    for send in (lambda: outbox.result(build), lambda: outbox.event(build(Place("b0", 0)))):
        with pytest.raises(Retryable) as error:
            send()
        assert error.value is spool.failure
    spool.failure = None
    assert outbox.result(build) == Place("b0", 2)
    assert wakes.depths == [1, 2]


def test_a_result_that_cannot_be_built_leaves_no_gap(spool: MemorySpool) -> None:
    outbox = Outbox(spool, "b0", lambda: None)

    def broken(place: Place) -> Outgoing:
        raise ValueError(place)

    with pytest.raises(ValueError, match="sequence_number=1"):
        outbox.result(broken)
    assert outbox.result(build) == Place("b0", 1)


def test_events_and_telemetry_take_no_number(spool: MemorySpool) -> None:
    wakes = Wakes(spool)
    outbox = Outbox(spool, "b0", wakes)
    outbox.event(Outgoing("e", b"0"))
    outbox.telemetry(Outgoing("m", b"0", qos=0))
    assert outbox.result(build) == Place("b0", 1)
    assert [each.kind for each in spool.pending(0, 9)] == [Kind.EVENT, Kind.TELEMETRY, Kind.RESULT]
    assert wakes.depths == [1, 2, 3]


def test_lanes_at_once_get_numbers_in_the_order_of_the_rows(spool: MemorySpool) -> None:
    outbox = Outbox(spool, "b0", lambda: None)
    together = threading.Barrier(4)

    def lane() -> None:
        together.wait()
        for _ in range(200):
            outbox.result(build)

    threads = [threading.Thread(target=lane) for _ in range(4)]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    assert payloads(spool) == list(range(1, 801))
