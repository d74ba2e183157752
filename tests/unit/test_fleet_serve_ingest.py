"""Ingest: batches into the stores, acknowledged when they are kept, and what cannot be kept found and told."""

import threading
from collections.abc import Callable, Sequence
from typing import Any

import pytest

from fleet.core.roster import Heard, Node, NodeId
from fleet.errors import ErrorCode, Permanent, Retryable
from fleet.loops import ingest as module
from fleet.loops.ingest import Ingest, Stores
from fleet.loops.meters import Meters
from fleet.mail import Letter
from fleet.ports import Arrival, Ingested
from schemas.base import Wire
from schemas.job import JobExecution, JobStatus
from schemas.status import Presence, Status
from schemas.topics import Topics
from tests.unit.fleet_board import T0, node_id, report, result, status

A = node_id(1)
TOPICS = Topics(A.site, A.node)


class Kept:
    """All three stores. `fault` is asked with each result before anything is kept."""

    def __init__(self) -> None:
        self.results: list[int] = []
        self.nodes: list[Heard] = []
        self.executions: list[tuple[NodeId, JobExecution]] = []
        self.ended: list[tuple[str, int]] = []
        self.batches: list[int] = []
        self.fault: Callable[[int], Exception | None] = lambda _number: None

    def ingest(self, arrivals: Sequence[Arrival]) -> Ingested:
        self.batches.append(len(arrivals))
        numbers = [arrival.result.sequence_number for arrival in arrivals]
        for number in numbers:
            if fault := self.fault(number):
                raise fault
        new = [number for number in numbers if number not in self.results]
        self.results += new
        return Ingested(len(new), len(numbers) - len(new))

    def heard(self, messages: Any) -> list[Node]:
        if messages and isinstance(messages[0], Heard):
            self.nodes += messages
        else:
            self.executions += messages
        return []

    def boot_ended(self, _node: NodeId, boot_id: str, last: int, _at: object) -> None:
        self.ended.append((boot_id, last))


class World:
    def __init__(self) -> None:
        self.kept = Kept()
        self.settled: list[int] = []
        self.reports = 0
        self.meters = Meters()
        stores = Stores(self.kept, self.kept, self.kept)  # type: ignore[arg-type]  # what ingest asks of them
        self.ingest = Ingest(None, stores, self.meters, self._reported)  # type: ignore[arg-type]  # fed by hand
        self.stop = threading.Event()

    def _reported(self) -> None:
        self.reports += 1

    def letters(self, *messages: tuple[str, Wire | bytes]) -> list[Letter]:
        def letter(number: int, topic: str, said: Wire | bytes) -> Letter:
            payload = said if isinstance(said, bytes) else said.to_json()
            return Letter(topic, payload, T0, False, lambda: self.settled.append(number))

        return [letter(number, *message) for number, message in enumerate(messages)]

    def feed(self, *messages: tuple[str, Wire | bytes]) -> None:
        self.ingest.work_off(self.letters(*messages), self.stop)

    def figure(self, name: str, **labels: str) -> float:
        return self.meters.registry.get_sample_value(f"rkfleet_{name}_total", labels) or 0.0


@pytest.fixture
def world() -> World:
    return World()


def results(*numbers: int) -> list[tuple[str, Wire | bytes]]:
    made = [result(number, key=A) for number in numbers]
    return [(TOPICS.result(each.station.camera), each) for each in made]


def test_each_message_goes_to_its_store_and_is_acknowledged_in_order(world: World) -> None:
    done = JobExecution(job_id="j", status=JobStatus.SUCCEEDED, queued_at=T0, last_updated_at=T0, version_number=1)
    ended = Status(presence=Presence.OFFLINE, session_seq=1, boot_id="b", reason="shutdown", last_sequence_number=7)
    world.feed(
        *results(1, 2), (TOPICS.status, status()), (TOPICS.job_status("j"), done), (TOPICS.status, ended),
        (TOPICS.reported("model"), report()),
    )  # fmt: skip
    assert world.kept.results == [1, 2]
    assert [each.family for each in world.kept.nodes] == ["status", "job", "status", "reported"], (
        "a job is a sign of life"
    )
    assert world.kept.executions == [(A, done)]
    assert world.kept.ended == [("b", 7)]
    assert world.settled == [0, 1, 2, 3, 4, 5]
    assert world.reports == 1


def test_what_is_no_message_is_counted_and_acknowledged(world: World) -> None:
    world.feed((TOPICS.status, b"{"), ("", b""), (TOPICS.command("ping"), b"{}"), *results(1))
    assert world.kept.results == [1]
    assert world.settled == [0, 1, 2, 3]
    assert world.figure("messages_refused", why="bad") == 3


def test_a_poisoned_message_is_found_by_halving_and_the_others_are_kept(world: World) -> None:
    poisoned = {5, 11}
    world.kept.fault = lambda number: Permanent(ErrorCode.DATABASE_FAULT, "no") if number in poisoned else None
    world.feed(*results(*range(1, 17)))
    assert sorted(world.kept.results) == [number for number in range(1, 17) if number not in poisoned]
    assert world.settled == list(range(16)), "in order, the poisoned too"
    assert world.figure("messages_refused", why="not-kept") == 2


def test_the_same_batch_is_tried_again_until_the_database_answers(world: World) -> None:
    faults = [Retryable(ErrorCode.DATABASE_UNAVAILABLE, "away", delay_s=0.001) for _ in range(3)]
    problems: list[str | None] = []

    def fault(_number: int) -> Exception | None:
        problems.append(world.ingest.problem)
        return faults.pop() if faults else None

    world.kept.fault = fault
    world.feed(*results(1, 2))
    assert world.kept.results == [1, 2]
    assert world.kept.batches == [2, 2, 2, 2]
    assert problems[3] == "away"
    assert world.ingest.problem is None
    assert world.figure("retries", loop="ingest") == 3


def test_nothing_is_acknowledged_when_it_is_stopped_while_the_database_is_away(world: World) -> None:
    world.kept.fault = lambda _number: Retryable(ErrorCode.DATABASE_UNAVAILABLE, "away", delay_s=60.0)
    threading.Timer(0.05, world.stop.set).start()
    world.feed(*results(1, 2))
    assert world.settled == []


def test_a_stop_within_a_halved_batch_leaves_the_rest_unacknowledged(world: World) -> None:
    def fault(number: int) -> Exception | None:
        if number == 4:
            world.stop.set()
            return Retryable(ErrorCode.DATABASE_UNAVAILABLE, "away")
        return Permanent(ErrorCode.DATABASE_FAULT, "no") if number == 2 else None

    world.kept.fault = fault
    world.feed(*results(1, 2, 3, 4))
    assert world.settled == [0, 1], "what came before is done with"


def test_many_that_cannot_be_kept_are_dropped_slowly(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_SLOWLY_S", 60.0)
    world.kept.fault = lambda _number: Permanent(ErrorCode.DATABASE_FAULT, "no such table")
    threading.Timer(0.1, world.stop.set).start()
    world.feed(*results(*range(1, 33)))
    assert world.settled == list(range(10))
    assert world.ingest.problem == "no such table"


def test_duplicates_are_told_apart(world: World) -> None:
    world.feed(*results(1, 2))
    world.feed(*results(2, 3))
    assert (world.figure("results", kind="new"), world.figure("results", kind="duplicate")) == (3, 1)
