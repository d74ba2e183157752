"""Commands and jobs: what boards are asked, and what is told of it."""

import threading
from typing import Any

import pytest

from fleet.core.access import Role
from fleet.web.api import ApiSettings
from schemas.job import JobExecution, JobStatus
from tests.contract.web.world import Making, World
from tests.unit.fleet_board import T0, at

V1 = "/api/v1"
B1 = f"{V1}/nodes/plant1/board-001/commands"


def test_a_command_waits_for_the_reply(world: World) -> None:
    world.board(1)
    answer = world.as_(Role.OPERATOR).post(B1, {"name": "lot", "fields": {"lotId": "L1", "state": "open"}})
    assert answer.status_code == 200
    assert answer.json()["reply"]["ok"] is True
    assert [(str(node), name, fields) for node, name, fields in world.boards.commands] == [
        ("plant1/board-001", "lot", {"lotId": "L1", "state": "open"})
    ]
    record = world.parts.audit.records()[0]
    assert (record.actor, record.action, record.subject) == ("operator", "command", "plant1/board-001")


def test_a_board_that_does_not_answer_is_no_error(world: World) -> None:
    key = world.board(1)
    world.boards.silent.add(key)
    assert world.as_().post(B1, {"name": "ping"}).json() == {"node": "plant1/board-001", "reply": None}


def test_what_a_board_answers_is_json_whatever_it_is(world: World) -> None:
    world.board(1)
    world.boards.output = {"rate": float("inf"), "deep": {"n": float("nan")}}
    answer = world.as_().post(B1, {"name": "ping"})
    assert answer.json()["reply"]["output"] == {"rate": None, "deep": {"n": None}}


@pytest.mark.parametrize(("body", "says"), [
    ({"name": "format-disk"}, "name"),
    ({"name": "ping", "fields": {"x": 1}}, "ping has no field 'x'; there are: none"),
    ({"name": "lot", "fields": {"lotId": "L1", "state": "ajar"}}, "fields.state"),
    ({"name": "lot", "fields": {"lotId": "L1"}}, "fields.state"),
    ({"name": "lot", "fields": {"lotId": "L1", "state": "open", "commandId": "mine"}}, "no field 'commandId'"),
    ({"name": "ping", "timeoutS": 31}, "timeoutS"),
    ({"name": "ping", "timeoutS": 0}, "timeoutS"),
    ({"name": "ping", "timeout": 3}, "timeout"),
    ({}, "name"),
])  # fmt: skip
def test_commands_that_cannot_be(world: World, body: Any, says: str) -> None:
    world.board(1)
    answer = world.as_().post(B1, body)
    assert answer.status_code == 422
    assert says in answer.json()["detail"]
    assert (world.boards.commands, world.actions()) == ([], [])


def test_a_board_that_is_not_there(world: World) -> None:
    assert world.as_().post(B1, {"name": "ping"}).status_code == 404
    assert world.actions() == []


def test_many_boards_are_asked_at_once(world: World) -> None:
    keys = [world.board(number) for number in range(1, 41)]
    world.boards.silent.add(keys[3])
    world.boards.hold = threading.Barrier(len(keys))  # passed only if all are asked at the same time
    answer = world.as_().post(f"{V1}/commands", {"filter": "site=plant1", "name": "ping"})
    replies = answer.json()["replies"]
    assert [each["node"] for each in replies] == [str(key) for key in keys]
    assert [each["node"] for each in replies if each["reply"] is None] == [str(keys[3])]


def test_too_many_boards_and_none(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fleet.web.routes.commands.MOST_BOARDS", 2)
    for number in range(3):
        world.board(number)
    client = world.as_()
    many = client.post(f"{V1}/commands", {"filter": "all", "name": "ping"})
    assert (many.status_code, many.json()["detail"]) == (422, "the filter names 3 boards: at most 2 here")
    assert client.post(f"{V1}/commands", {"filter": "site=x", "name": "ping"}).status_code == 422
    assert client.post(f"{V1}/commands", {"filter": "sitte=x", "name": "ping"}).json()["at"] == 0


def test_a_broker_that_is_away(world: World) -> None:
    first, _ = world.board(1), world.board(2)
    world.boards.away_for = {first}
    partly = world.as_().post(f"{V1}/commands", {"filter": "all", "name": "ping"})
    assert [each["reply"] is None for each in partly.json()["replies"]] == [True, False]
    world.boards.away_for = None
    answer = world.as_().post(B1, {"name": "ping"})
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "3")
    assert world.actions()[-2:] == ["command", "command.failed"]


def test_the_api_answers_while_boards_think(making: Making) -> None:
    """More calls than there are threads for ordinary requests."""
    world = making(ApiSettings(board_calls=60))
    keys = [world.board(number) for number in range(1, 61)]
    world.boards.hold = threading.Barrier(len(keys) + 1)
    asked: list[Any] = []
    thread = threading.Thread(
        target=lambda: asked.append(world.as_().post(f"{V1}/commands", {"filter": "all", "name": "ping"}))
    )
    thread.start()
    assert world.as_().get(f"{V1}/me").status_code == 200
    world.boards.hold.wait(30)
    thread.join(30)
    assert len(asked[0].json()["replies"]) == 60


def execution(job_id: str, status: JobStatus, number: int = 1) -> JobExecution:
    return JobExecution(job_id=job_id, status=status, queued_at=T0, last_updated_at=T0, version_number=number)


def test_a_job_is_given_and_looked_at(world: World) -> None:
    one, two = world.board(1), world.board(2)
    operator = world.as_(Role.OPERATOR)
    answer = operator.post(f"{V1}/jobs", {"filter": "all", "type": "collect", "document": {"cameras": ["top"]}})
    assert answer.status_code == 201
    made = answer.json()
    assert made["deadline"] == "2026-03-07T12:00:00.000Z"
    assert [node for node, _ in sorted(world.boards.asked, key=lambda each: each[0])] == [one, two]
    world.jobs.heard([(one, execution(made["id"], JobStatus.SUCCEEDED))])
    found = world.as_(Role.VIEWER).get(f"{V1}/jobs/{made['id']}").json()
    assert found["counts"] == {"SUCCEEDED": 1, "UNKNOWN": 1}
    assert [each["execution"] and each["execution"]["status"] for each in found["executions"]] == ["SUCCEEDED", None]
    assert [each["id"] for each in operator.get(f"{V1}/jobs?limit=1").json()["jobs"]] == [made["id"]]
    assert world.actions() == ["job.create"]


def test_a_job_is_canceled_where_it_is_not_over(world: World) -> None:
    one, two, three = (world.board(number) for number in (1, 2, 3))
    operator = world.as_(Role.OPERATOR)
    job_id = operator.post(f"{V1}/jobs", {"filter": "all", "type": "logs"}).json()["id"]
    world.jobs.heard([(one, execution(job_id, JobStatus.SUCCEEDED)), (two, execution(job_id, JobStatus.IN_PROGRESS))])
    world.boards.asked.clear()
    assert operator.post(f"{V1}/jobs/{job_id}/cancel").status_code == 200
    assert sorted((node, request.cancel) for node, request in world.boards.asked) == [(two, True), (three, True)]
    world.clock.pass_by(86_400)
    assert operator.post(f"{V1}/jobs/{job_id}/cancel").status_code == 409
    assert operator.post(f"{V1}/jobs/none/cancel").status_code == 404
    assert world.actions() == ["job.create", "job.cancel"]


def test_boards_that_could_not_be_asked_are_asked_again(world: World) -> None:
    one, two = world.board(1), world.board(2)
    world.boards.away_for = {two}
    operator = world.as_(Role.OPERATOR)
    answer = operator.post(f"{V1}/jobs", {"filter": "all", "type": "restart"})
    assert answer.status_code == 503
    job_id = operator.get(f"{V1}/jobs").json()["jobs"][0]["id"]
    assert f"1 of 2 boards were told of job {job_id}" in answer.json()["detail"]
    world.jobs.heard([(one, execution(job_id, JobStatus.QUEUED))])
    world.boards.away_for = set()
    world.boards.asked.clear()
    assert operator.post(f"{V1}/jobs/{job_id}/ask").status_code == 200
    assert [node for node, _ in world.boards.asked] == [two]


@pytest.mark.parametrize(("changes", "says"), [
    ({"type": "dance"}, "type"),
    ({"document": {"line": 7}}, "document.line"),
    ({"document": {"lines": 0}}, "document.lines"),
    ({"deadline": at(-1).isoformat()}, "deadline"),
    ({"deadline": at(86_400 * 31).isoformat()}, "deadline"),
    ({"deadline": "2026-03-07T12:00:00"}, "deadline"),
    ({"deadline": "9999-12-31T23:59:59-14:00"}, "deadline"),
    ({"filter": "site=elsewhere"}, "names no board"),
    ({"filter": "sitte=x"}, "there is no field"),
])  # fmt: skip
def test_jobs_that_cannot_be(world: World, changes: dict[str, Any], says: str) -> None:
    world.board(1)
    answer = world.as_().post(f"{V1}/jobs", {"filter": "all", "type": "logs", **changes})
    assert answer.status_code == 422
    assert says in answer.json()["detail"]
    assert (world.boards.asked, world.actions()) == ([], [])
