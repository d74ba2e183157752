"""`rkfleet nodes`, `events`, `alarms` and `cmd` against the real application."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from fleet.core.access import Role
from schemas.codes import FailureCode
from schemas.command import Failure, Reply
from tests.unit.cli_kit import BOARDS, EVIL, World, alarm, enrol, world
from tests.unit.fleet_board import NEW, at

FIRST = "plant1/board-001"


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    with world(tmp_path_factory.mktemp("world")) as made:
        yield made


@pytest.fixture
def fleet(shared: World) -> World:
    for node in shared.parts.roster.nodes():
        shared.parts.roster.remove(node.id)
    enrol(shared)
    shared.boards.replies, shared.boards.asked, shared.boards.is_away = {}, [], False
    return shared


def harmless(text: str) -> bool:
    return all(character.isprintable() or character == "\n" for character in text)


def test_boards_are_listed_by_filter_page_by_page(fleet: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fleet.cli.client._PAGE", 2)
    assert [each["id"] for each in fleet.read("nodes", "list")["nodes"]] == [str(each) for each in BOARDS]
    assert len(fleet.read("nodes", "list", "--limit", "1")["nodes"]) == 1
    assert [each["id"] for each in fleet.read("nodes", "list", "node=*-002")["nodes"]] == ["plant1/board-002"]
    assert [each["id"] for each in fleet.read("nodes", "list", FIRST)["nodes"]] == [FIRST]
    lines = fleet.text("nodes", "list", "soc=rk3588").splitlines()
    assert len(lines) == 4
    assert lines[1].split()[:6] == [FIRST, "ok", "pcb", "1.0", "COMMITTED", "0.4.0"]


def test_a_filter_that_is_wrong_is_shown_with_the_spot(fleet: World) -> None:
    ended = fleet.run("nodes", "list", "site=plant1 adn soc=rk3588")
    assert ended.exit_code == 1
    first, second = ended.stderr.rstrip("\n").split("\n")
    assert first[second.index("^") :].startswith("adn")
    assert "did you mean and?" in second


def test_one_board_is_shown_with_what_is_wrong_with_it(fleet: World) -> None:
    alarm(fleet, BOARDS[0], "the cable is loose", "critical")
    text = fleet.text("nodes", "show", FIRST)
    for part in (FIRST, "critical", "the cable is loose", "pcb 1.0, COMMITTED, generation 0", "0.4.0 rk3588"):
        assert part in text
    document = fleet.read("nodes", "show", FIRST)
    assert document["alarms"][0]["severity"] == "critical"


@pytest.mark.parametrize("words", [["nodes", "list"], ["nodes", "show", FIRST], ["alarms"], ["events"]])
def test_nothing_that_a_board_says_reaches_the_terminal_but_as_text(fleet: World, words: list[str]) -> None:
    alarm(fleet, BOARDS[0], EVIL)
    text = fleet.text(*words)
    assert harmless(text)
    assert words == ["nodes", "list"] or "\\x1b[31mred\\x1b]0;title\\x07 [bold]x[/bold] :smile: \\u202e" in text
    assert harmless(fleet.text(*words, FORCE_COLOR="1", TERM="dumb"))
    assert "\x1b" not in fleet.run(*words, "--json").stdout


def test_labels_and_groups_are_set_and_taken_away(fleet: World) -> None:
    changed = fleet.read("nodes", "label", FIRST, "rack=7", "note=a=b c", "--group", "canary")
    assert changed["nodes"][0]["labels"] == {"rack": "7", "note": "a=b c"}
    assert changed["nodes"][0]["group"] == "canary"
    text = fleet.text("nodes", "label", "group=canary or node=board-002", "rack-", "shift=night")
    assert "note=a=b c shift=night" in text
    labels = {each["id"]: each["labels"] for each in fleet.read("nodes", "list", "label.shift=night")["nodes"]}
    assert labels == {FIRST: {"note": "a=b c", "shift": "night"}, "plant1/board-002": {"shift": "night"}}
    assert fleet.read("nodes", "label", FIRST, "--group", "")["nodes"][0]["group"] == ""


@pytest.mark.parametrize("words", [["label", FIRST], ["label", FIRST, "rack"], ["show", "board-1"], ["show", "a/b/c"]])
def test_a_wrong_command_line_says_so_before_anything_is_asked(fleet: World, words: list[str]) -> None:
    ended = fleet.run("nodes", *words)
    assert ended.exit_code == 2
    assert "Usage" in ended.stderr


def test_a_board_is_removed_after_a_question(fleet: World) -> None:
    assert fleet.run("nodes", "remove", FIRST, stdin="n\n").exit_code == 1
    assert len(fleet.read("nodes", "list")["nodes"]) == 3
    assert fleet.run("nodes", "remove", FIRST, stdin="y\n").exit_code == 0
    assert fleet.read("nodes", "remove", "plant1/board-002", "--yes") == {"removed": "plant1/board-002"}
    assert [each["id"] for each in fleet.read("nodes", "list")["nodes"]] == ["plant1/board-003"]
    assert fleet.run("nodes", "remove", FIRST, "--yes").exit_code == 3


def test_a_model_is_set_by_hand(fleet: World) -> None:
    assert "pcb 2.0" in fleet.text("nodes", "set-model", FIRST, "pcb", "2.0")
    assert fleet.read("nodes", "set-model", FIRST, "pcb", "2.0")["manifestSha256"] == NEW.manifest_sha256
    assert "by hand, not sent yet" in fleet.text("nodes", "show", FIRST)
    ended = fleet.run("nodes", "set-model", FIRST, "pcb", "2.1", "--json")
    assert ended.exit_code != 0
    assert "did you mean pcb 2.0" in ended.stderr


def test_models_are_listed_with_their_digest(fleet: World) -> None:
    assert NEW.manifest_sha256 in fleet.text("nodes", "models")
    assert [each["version"] for each in fleet.read("nodes", "models")["models"]] == ["1.0", "2.0"]


def test_alarms_come_the_gravest_first(fleet: World) -> None:
    alarm(fleet, BOARDS[0], "somewhat", "warning")
    alarm(fleet, BOARDS[1], "badly", "critical")
    assert [each["severity"] for each in fleet.read("alarms")["alarms"]] == ["critical", "warning"]
    text = fleet.text("alarms")
    assert text.index("badly") < text.index("somewhat")


def test_events_come_the_newest_last(fleet: World) -> None:
    for key in BOARDS:
        alarm(fleet, key, f"of {key.node}")
    assert "top raised: of board-002" in fleet.text("events")
    assert len(fleet.read("events", "-n", "2")["events"]) == 2
    assert fleet.read("events", "--before", "2020-01-01")["events"] == []
    assert fleet.run("events", "--before", "yesterday").exit_code == 2


def reply(**more: Any) -> Reply:
    return Reply(ok="failure" not in more, time=at(0), **more)


CANCEL = {"generation": 12}
LOT = {"lotId": "L-17", "state": "open"}
REPLAY = {"bootId": "b", "firstSequenceNumber": 1, "lastSequenceNumber": 9}


@pytest.mark.parametrize(
    ("words", "name", "fields"),
    [
        (["ping", FIRST], "ping", {}),
        (["rebirth", FIRST], "rebirth", {}),
        (["replay", FIRST, "b", "1", "9"], "replay", REPLAY),
        (["cancel-update", FIRST, "12"], "cancel-update", CANCEL),
        (["lot", FIRST, "L-17", "open"], "lot", LOT),
    ],
)
def test_each_question_reaches_the_board(fleet: World, words: list[str], name: str, fields: dict[str, Any]) -> None:
    fleet.boards.replies = {BOARDS[0]: reply(output={"uptimeS": 7})}
    assert "uptimeS=7" in fleet.text("cmd", *words)
    answered = fleet.read("cmd", *words)["replies"]
    assert [(each["node"], each["reply"]["output"]) for each in answered] == [(FIRST, {"uptimeS": 7})]
    assert fleet.boards.asked == [(BOARDS[0], name, fields)] * 2


REFUSED = {BOARDS[1]: reply(failure=Failure(code=FailureCode.CAMERA_LOST, text=EVIL))}


@pytest.mark.parametrize(
    ("replies", "code"),
    [
        pytest.param({key: reply() for key in BOARDS}, 0, id="all say yes"),
        pytest.param({BOARDS[0]: reply(), BOARDS[2]: reply()}, 5, id="one is silent"),
        pytest.param({BOARDS[0]: reply(), **REFUSED}, 1, id="one says no, one is silent"),
    ],
)
def test_the_exit_code_tells_how_many_boards_answered(fleet: World, replies: Any, code: int) -> None:
    fleet.boards.replies = replies
    ended = fleet.run("cmd", "ping", "site=plant1", "--timeout", "1")
    assert ended.exit_code == code
    assert harmless(ended.stdout)
    assert len(ended.stdout.splitlines()) == 4


@pytest.mark.parametrize(
    ("words", "code"),
    [
        (["ping", "plant1/nobody"], 3),
        (["ping", "site=elsewhere"], 1),
        (["replay", "site=plant1", "b", "1", "9"], 2),
        (["replay", FIRST, "b", "9", "1"], 2),
        (["lot", FIRST, "L-17", "ajar"], 2),
        (["cancel-update", FIRST, "0"], 2),
    ],
)
def test_questions_that_make_no_sense_end_with_a_code(fleet: World, words: list[str], code: int) -> None:
    assert fleet.run("cmd", *words).exit_code == code
    assert fleet.boards.asked == []


def test_a_broker_that_is_away_is_told_as_something_that_may_pass(fleet: World) -> None:
    fleet.boards.is_away = True
    ended = fleet.run("cmd", "ping", FIRST, "--json")
    assert (ended.exit_code, ended.stdout) == (5, "")
    assert '"exitCode": 5' in ended.stderr
    assert "the broker is away" in ended.stderr


def test_a_missing_right_is_named(fleet: World) -> None:
    ended = fleet.run("cmd", "ping", FIRST, role=Role.VIEWER)
    assert ended.exit_code == 4
    assert "'command'" in ended.stderr
    assert "rkfleet whoami" in ended.stderr


def test_a_place_of_its_own_for_each_test(tmp_path: Path, fleet: World) -> None:
    ended = fleet.run("nodes", "list", role=None, XDG_CONFIG_HOME=str(tmp_path))
    assert ended.exit_code == 4
    assert "rkfleet login" in ended.stderr
