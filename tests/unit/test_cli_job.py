"""`rkfleet job` and `rkfleet events --follow` against the real application."""

import json
import signal
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from fleet.cli.job import JobType as TypeOfCommands
from schemas.codes import FailureCode
from schemas.command import Failure
from schemas.job import JobStatus, JobType
from tests.unit.cli_kit import BOARDS, EVIL, World, alarm, enrol, execution, world
from tests.unit.test_cli_rollout import line_with, start

FIRST = "plant1/board-001"


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    with world(tmp_path_factory.mktemp("world")) as made:
        enrol(made)
        yield made


@pytest.fixture
def fleet(shared: World) -> World:
    shared.boards.statuses, shared.boards.asked, shared.boards.is_away = {}, [], False
    return shared


def test_the_types_are_those_of_the_wire() -> None:
    assert [each.value for each in TypeOfCommands] == [each.value for each in JobType]


def test_a_job_reaches_its_boards_with_its_document(fleet: World, tmp_path: Path) -> None:
    file = tmp_path / "document.json"
    file.write_text('{"camera": "side", "lotId": "L-1"}')
    text = fleet.text("job", "run", "inspect", FIRST, "camera=top", "partId=SN-7", "--document", str(file))
    assert "not answered" in text
    assert fleet.boards.asked == [(BOARDS[0], "inspect", {"camera": "top", "lotId": "L-1", "partId": "SN-7"})]


def test_fields_are_json_or_text(fleet: World) -> None:
    words = ['cameras=["top"]', "count=20", "which=uncertain", "upload=http://x.example/a=b"]
    assert fleet.read("job", "run", "collect", "node=board-002", *words, "--deadline", "2h")["type"] == "collect"
    document = {"cameras": ["top"], "count": 20, "which": "uncertain", "upload": "http://x.example/a=b"}
    assert fleet.boards.asked == [(BOARDS[1], "collect", document)]


def test_a_job_is_waited_for_and_its_log_shown_line_by_line(fleet: World) -> None:
    fleet.boards.statuses = {BOARDS[0]: execution(JobStatus.SUCCEEDED, status_details={"lines": ["one", EVIL]})}
    text = fleet.text("job", "run", "logs", FIRST, "lines=2", "--wait")
    assert "one\n" in text
    assert "\x1b" not in text
    assert "\\x1b[31mred" in text
    document = fleet.read("job", "run", "logs", FIRST, "--wait")
    assert document["executions"][0]["execution"]["statusDetails"]["lines"] == ["one", EVIL]


def test_one_failure_among_many_is_exit_code_1(fleet: World) -> None:
    failure = Failure(code=FailureCode.CAMERA_LOST, text="no light")
    fleet.boards.statuses = {
        BOARDS[0]: execution(JobStatus.SUCCEEDED, status_details={"rateHz": 20.5}),
        BOARDS[1]: execution(JobStatus.FAILED, failure=failure),
        BOARDS[2]: execution(JobStatus.TIMED_OUT),
    }
    ended = fleet.run("job", "run", "benchmark", "site=plant1", "--wait")
    assert ended.exit_code == 1
    for part in ("rateHz=20.5", "camera-lost: no light", "timed out"):
        assert part in ended.stdout
    assert "1 failed, 1 succeeded, 1 timed out" in ended.stderr


def test_waiting_ends_when_the_last_board_has_spoken(fleet: World) -> None:
    job = fleet.read("job", "run", "restart", FIRST)["id"]
    done = execution(JobStatus.SUCCEEDED, status_details={"bootId": "b2"}).model_copy(update={"job_id": job})
    later = threading.Timer(0.5, lambda: fleet.parts.jobs.heard([(BOARDS[0], done)]))
    later.start()
    ended = fleet.run("job", "show", job, "--wait")
    later.join()
    assert ended.exit_code == 0
    assert 'bootId="b2"' in ended.stdout
    assert f"{job}: 1 not answered" in ended.stderr


def test_jobs_are_listed_canceled_and_asked_again(fleet: World) -> None:
    fleet.boards.is_away = True
    ended = fleet.run("job", "run", "logs", FIRST)
    assert ended.exit_code == 5
    job = fleet.read("job", "list", "--limit", "1")["jobs"][0]["id"]
    assert job in ended.stderr
    fleet.boards.is_away = False
    fleet.text("job", "ask", job)
    assert fleet.read("job", "show", job)["counts"] == {"UNKNOWN": 1}
    assert "told to end it" in fleet.text("job", "cancel", job)
    assert [each[1] for each in fleet.boards.asked] == ["logs", "logs"]
    assert fleet.read("job", "cancel", job)["id"] == job
    assert job in fleet.text("job", "list")


@pytest.mark.parametrize(
    ("words", "code", "text"),
    [
        (["run", "explode", FIRST], 2, "explode"),
        (["run", "logs", FIRST, "lines"], 2, "no field"),
        (["run", "logs", FIRST, "--deadline", "soon"], 2, "no duration"),
        (["run", "logs", FIRST, "linse=5"], 1, "linse"),
        (["run", "logs", FIRST, "--document", "/nowhere.json"], 1, "/nowhere.json"),
        (["run", "logs", FIRST, "--document", "-"], 1, "no JSON"),
        (["run", "logs", "site=nowhere"], 1, "no board"),
        (["show", "nobody"], 3, "nobody"),
        (["cancel", "../users"], 3, ""),
    ],
)
def test_jobs_that_cannot_be_end_with_a_reason(fleet: World, words: list[str], code: int, text: str) -> None:
    ended = fleet.run("job", *words, stdin="[")
    assert (ended.exit_code, text in ended.stderr) == (code, True), ended.stderr
    assert fleet.boards.asked == []


def test_events_are_followed_and_each_is_told_once(fleet: World) -> None:
    alarm(fleet, BOARDS[0], "the first")
    process = start(fleet, "events", "--follow", "--json")
    try:
        told = [json.loads(line_with(process, "the first"))]
        for key in BOARDS:
            alarm(fleet, key, f"of {key.node}")
        told += [json.loads(line_with(process, "")) for _ in BOARDS]
        alarm(fleet, BOARDS[0], "the last")
        told.append(json.loads(line_with(process, "")))
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=60)
        assert process.returncode == 130
        assert {each["text"] for each in told[1:4]} == {f"of {key.node}" for key in BOARDS}
        assert told[4]["text"] == "the last"
    finally:
        process.kill()
        process.communicate()
