"""Loops beside the controller: what is missing is asked for, what is old is deleted, who crashes is started again."""

import json
import threading
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from fleet.adapters.boards_mqtt import MqttBoards
from fleet.adapters.db import Database, DbLock, DbResults, DbRoster, upgrade
from fleet.core.roster import Gap, NodeId
from fleet.errors import ErrorCode, Permanent, Retryable
from fleet.loops.directory import Directory
from fleet.loops.janitor import Janitor, Retention
from fleet.loops.lead import Lead
from fleet.loops.meters import Meters
from fleet.loops.replay import Replay, ReplayPace
from fleet.loops.runner import STRIKES, Runner
from fleet.mail import Sending
from fleet.ports import Arrival
from schemas.command import CommandName, Reply
from schemas.job import JobRequest, JobType
from tests.unit.fleet_board import T0, at, heard, info, node_id, result, status

A, AWAY = node_id(1), node_id(2)


class Stores:
    def __init__(self, folder: Path) -> None:
        self.database = Database(f"sqlite:///{folder}/fleet.db")
        upgrade(self.database)
        self.roster = DbRoster(self.database)
        self.results = DbResults(self.database)
        self.lead = Lead(DbLock(self.database), "one", lambda: T0, 30.0)
        self.lead.renew()
        self.meters = Meters()
        self.directory = Directory(self.roster, lambda: T0, fresh_s=0.0)

    def arrive(self, node: NodeId, *numbers: int) -> None:
        made = [result(number, key=node, boot=f"boot-of-{node.node}") for number in numbers]
        self.results.ingest([Arrival(each, each.to_json(), T0) for each in made])

    def gaps(self) -> set[tuple[NodeId, Gap]]:
        return {(each.node, each.gap) for each in self.results.missing(100)}


@pytest.fixture
def stores(tmp_path: Path) -> Stores:
    made = Stores(tmp_path)
    made.roster.heard([heard(A, status()), heard(A, info(A)), heard(AWAY, status("offline", reason="will"))])
    return made


class Boards:
    def __init__(self, output: Mapping[str, Any] | None = None, fault: Exception | None = None) -> None:
        self.asked: list[tuple[NodeId, Mapping[str, Any]]] = []
        self._output = output
        self._fault = fault

    def command(self, node: NodeId, _name: CommandName, fields: Mapping[str, Any], _timeout_s: float) -> Reply | None:
        self.asked.append((node, fields))
        if self._fault is not None:
            raise self._fault
        return None if self._output is None else Reply(ok=True, time=T0, output=dict(self._output))

    def ask(self, node: NodeId, request: JobRequest) -> None:
        raise AssertionError((node, request))


def replay(stores: Stores, boards: Boards) -> Replay:
    pace = ReplayPace(settle_s=5.0, again_s=60.0)
    return Replay(stores.results, boards, stores.directory, lead=stores.lead, meters=stores.meters, pace=pace)


def test_a_board_that_is_there_is_asked_once_the_gap_has_had_time_to_fill(stores: Stores) -> None:
    stores.arrive(A, 1, 5)
    stores.arrive(AWAY, 2)
    boards = Boards()
    loop = replay(stores, boards)
    for seconds, asked in ((4, 0), (6, 1), (30, 1), (67, 2)):
        loop.turn(at(seconds))
        assert len(boards.asked) == asked, seconds
    fields = {"bootId": f"boot-of-{A.node}", "firstSequenceNumber": 2, "lastSequenceNumber": 4}
    assert boards.asked[0] == (A, fields)


@pytest.mark.parametrize(
    ("output", "left"),
    [
        pytest.param({"found": 3, "missing": []}, [(2, 4)], id="all will come"),
        pytest.param({"found": 0, "missing": [[2, 4]]}, [], id="all are lost"),
        pytest.param({"found": 2, "missing": [[3, 3]]}, [(2, 2), (4, 4)], id="one is lost"),
        pytest.param({"found": 0, "missing": [[1, 10**15]]}, [], id="more than was asked for"),
        pytest.param({"found": 0, "missing": [[4, 2]]}, [(2, 4)], id="a range that is none"),
        pytest.param({"found": "x"}, [(2, 4)], id="not an answer"),
        pytest.param(None, [(2, 4)], id="no answer"),
    ],
)
def test_what_a_board_no_longer_has_is_waited_for_no_more(stores: Stores, output: Any, left: list[Any]) -> None:
    stores.arrive(A, 1, 5)
    loop = replay(stores, Boards(output))
    loop.turn(at(6))
    assert stores.gaps() == {(A, Gap(*each)) for each in left}


def test_a_board_can_give_up_only_what_it_was_asked_for(stores: Stores) -> None:
    stores.arrive(A, 1, 5)
    stores.results.asked(stores.results.missing(10), at(0))
    stores.arrive(A, 9)
    replay(stores, Boards({"found": 0, "missing": [[1, 10**15]]})).turn(at(30))
    assert stores.gaps() == {(A, Gap(2, 4))}, "6 to 8 were asked for, and nothing else"


@pytest.mark.parametrize("fault", [Retryable(ErrorCode.UNAVAILABLE, "away"), Permanent(ErrorCode.INVALID, "no")])
def test_a_board_that_cannot_be_asked_stops_nothing(stores: Stores, fault: Exception) -> None:
    stores.arrive(A, 1, 5)
    replay(stores, Boards(fault=fault)).turn(at(6))
    assert stores.gaps() == {(A, Gap(2, 4))}


def test_old_results_are_deleted_in_batches(stores: Stores) -> None:
    stores.arrive(A, *range(1, 11))
    stop = threading.Event()
    janitor = Janitor(stores.results, stores.lead, Retention(keep=timedelta(days=1), batch=4), stores.meters)
    assert janitor.turn(T0, stop) == 0
    assert janitor.turn(T0 + timedelta(days=2), stop) == 10
    keep_all = Janitor(stores.results, stores.lead, Retention(), stores.meters)
    stores.arrive(A, 11)
    assert keep_all.turn(T0 + timedelta(days=9999), stop) == 0


def test_the_directory_knows_who_is_there_and_who_wants_signatures(stores: Stores) -> None:
    signs = node_id(3)
    stores.roster.heard([heard(signs, status()), heard(signs, info(signs, capabilities=["signed"]))])
    assert stores.directory.online() == {A, signs}
    told = [stores.directory.is_signed_for(node) for node in (A, AWAY, signs, node_id(9))]
    assert told == [False, True, True, True], "who has said nothing gets signatures"
    stores.roster.heard([heard(A, status("offline", reason="will"), seconds=1)])
    assert stores.directory.online() == {signs}
    assert stores.directory.counts() == (3, 1)


def test_a_loop_that_crashes_is_started_again_and_three_crashes_end_the_process() -> None:
    runner = Runner(pause_s=0.001)
    begun = threading.Semaphore(0)
    healthy = threading.Event()

    def crashes(_stop: threading.Event) -> None:
        begun.release()
        raise RuntimeError("a bug")

    def works(stop: threading.Event) -> None:
        healthy.set()
        stop.wait()

    runner.start("works", works)
    runner.start("crashes", crashes)
    assert runner.failed.wait(10)
    assert [begun.acquire(timeout=1) for _ in range(STRIKES)] == [True] * STRIKES
    assert runner.troubles() == {"crashes": "crashed: RuntimeError: a bug"}
    assert healthy.wait(10)
    assert runner.stop(10) == []


def test_a_loop_that_does_not_end_is_named() -> None:
    runner = Runner()
    hold = threading.Event()

    def deaf(_stop: threading.Event) -> None:
        hold.wait(30)

    runner.start("deaf", deaf)
    assert runner.stop(0.05) == ["deaf"]
    hold.set()
    assert runner.stop(10) == []


class Post:
    is_connected = True
    connections = 1

    def __init__(self, answer: bytes | None = None, *, takes: bool = True) -> None:
        self.sent: list[Sending] = []
        self._answer = answer
        self._takes = takes

    def publish(self, sendings: Sequence[Sending], _timeout_s: float) -> list[bool]:
        self.sent += sendings
        return [self._takes] * len(sendings)

    def request(self, sending: Sending, _timeout_s: float) -> bytes | None:
        self.sent.append(sending)
        return self._answer

    def retained(self, _topic: str, _timeout_s: float) -> bytes | None:
        return None


def boards(post: Post) -> tuple[MqttBoards, list[timedelta]]:
    lives: list[timedelta] = []

    def seal(_node: NodeId, _topic: str, payload: bytes, life: timedelta) -> bytes:
        lives.append(life)
        return payload

    return MqttBoards(post, seal, lambda: T0), lives


@pytest.mark.parametrize(
    ("answer", "is_reply"),
    [
        (Reply(ok=True, time=datetime(2026, 1, 1, tzinfo=UTC)).to_json(), True),
        (b"{}", False),
        (b"\xff", False),
        (None, False),
    ],
)
def test_a_command_gets_a_reply_or_none(answer: bytes | None, is_reply: bool) -> None:
    post = Post(answer)
    made, lives = boards(post)
    reply = made.command(A, CommandName.LOT, {"lotId": "l", "state": "open"}, 1.0)
    assert (reply is not None) == is_reply
    [sent] = post.sent
    said = json.loads(sent.payload)
    assert (said["lotId"], sent.retain, sent.expiry_s) == ("l", False, 30)
    assert lives == [timedelta(minutes=5)]
    made.command(A, CommandName.LOT, {"lotId": "l", "state": "open"}, 1.0)
    assert json.loads(post.sent[1].payload)["commandId"] != said["commandId"]


def test_a_command_without_its_fields_is_refused_before_it_is_sent() -> None:
    post = Post()
    with pytest.raises(Permanent, match="lot: state"):
        boards(post)[0].command(A, CommandName.LOT, {"lotId": "l", "state": "ajar"}, 1.0)
    assert post.sent == []


@pytest.mark.parametrize(("deadline", "life"), [(timedelta(hours=1), timedelta(hours=1)), (None, timedelta(days=7))])
def test_a_job_is_retained_until_its_deadline(deadline: timedelta | None, life: timedelta) -> None:
    post = Post()
    made, lives = boards(post)
    made.ask(A, JobRequest(job_id="j", type=JobType.LOGS, deadline=None if deadline is None else T0 + deadline))
    [sent] = post.sent
    assert (sent.topic, sent.retain, sent.expiry_s) == (f"rkfleet/v1/{A}/job/j/request", True, life.total_seconds())
    assert lives == [life]


def test_a_job_that_cannot_be_told_is_an_error() -> None:
    with pytest.raises(Permanent, match="deadline"):
        boards(Post())[0].ask(A, JobRequest(job_id="j", type=JobType.LOGS, deadline=T0))
    with pytest.raises(Retryable, match="not taken"):
        boards(Post(takes=False))[0].ask(A, JobRequest(job_id="j", type=JobType.LOGS))
