"""`rkfleet rollout` against the real application; the boards and the controller are played by the tests."""

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from fleet.cli.rollout_example import EXAMPLE
from fleet.core.access import Role
from fleet.core.rollout import RolloutSpec
from schemas.codes import FailureCode
from schemas.command import Failure
from schemas.state import Phase
from tests.unit.cli_kit import EVIL, World, enrol, world
from tests.unit.fleet_board import NEW, OLD

SPEC: dict[str, Any] = {
    "name": "better",
    "model": {"name": NEW.name, "version": NEW.version, "manifestSha256": NEW.manifest_sha256},
    "target": "site=plant1",
    "waves": [{"name": "canary", "filter": "node=board-001"}, {"name": "rest", "confirmationRequired": True}],
    "gates": [{"metric": "shadowAgreement", "atLeast": 0.9}],
    "board": {"shadow": {"frames": 10, "leastAgreement": 0.5}},
}
GOOD = {"shadowAgreement": 0.97}
MISSPELT = {"metric": "shadowAgrement", "atLeast": 1}
UNKNOWN = {"name": "pcb", "version": "7", "manifestSha256": "a" * 64}


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    with world(tmp_path_factory.mktemp("world")) as made:
        yield made


@pytest.fixture
def fleet(shared: World) -> World:
    enrol(shared)
    return shared


def written(folder: Path, **changes: Any) -> str:
    file = folder / "rollout.yaml"
    file.write_text(yaml.safe_dump({**SPEC, **changes}))
    return str(file)


def created(fleet: World, folder: Path, **changes: Any) -> str:
    return str(fleet.read("rollout", "create", written(folder, **changes))["id"])


def test_the_example_is_a_rollout(fleet: World) -> None:
    text = fleet.text("rollout", "example", role=None)
    assert text == EXAMPLE
    assert RolloutSpec.model_validate(yaml.safe_load(text)).on_abort == "revert"


def test_a_dry_run_shows_who_would_be_where_and_changes_nothing(fleet: World, tmp_path: Path) -> None:
    before = len(fleet.read("rollout", "list")["rollouts"])
    text = fleet.text("rollout", "create", written(tmp_path), "--dry-run")
    assert "wave canary: 1 boards; wave rest: 2 boards" in text
    assert "board-001" in text
    placed = fleet.read("rollout", "create", written(tmp_path), "--dry-run")["placements"]
    assert (placed[0]["wave"], placed[0]["node"]) == ("canary", "plant1/board-001")
    assert "names no board" in fleet.text("rollout", "create", written(tmp_path, target="site=x"), "--dry-run")
    assert len(fleet.read("rollout", "list")["rollouts"]) == before


def test_a_dry_run_names_the_rollout_that_would_lose_boards(fleet: World, tmp_path: Path) -> None:
    rollout = created(fleet, tmp_path)
    ended = fleet.run("rollout", "create", written(tmp_path), "--dry-run")
    assert f"would be taken from rollout {rollout}" in ended.stderr
    fleet.text("rollout", "abort", rollout)


def test_a_rollout_is_steered_from_its_creation_to_its_end(fleet: World, tmp_path: Path) -> None:
    text = fleet.text("rollout", "create", "-", stdin=json.dumps(SPEC))
    rollout = fleet.read("rollout", "list", "--limit", "1")["rollouts"][0]["id"]
    assert f"rkfleet rollout watch {rollout}" in text
    fleet.step(rollout, None)
    assert "wave canary: running, 1 in progress" in fleet.text("rollout", "show", rollout)
    assert "PAUSED (" in fleet.text("rollout", "pause", rollout, "--reason", "lunch")
    assert fleet.read("rollout", "resume", rollout)["state"] == "RUNNING"
    fleet.step(rollout, measured=GOOD)
    fleet.step(rollout, None)
    shown = fleet.text("rollout", "show", rollout, "--members")
    assert "wave rest: waiting for confirmation, 2 queued" in shown
    assert "gate shadowAgreement at least 0.9: 1 of 1 boards, seen 0.97 to 0.97" in shown
    assert "plant1/board-001: canary, succeeded" in shown
    assert fleet.read("rollout", "confirm", rollout, "rest")["waves"][1]["isConfirmed"]
    fleet.step(rollout, None)
    fleet.step(rollout, measured=GOOD)
    fleet.step(rollout, None)
    assert fleet.read("rollout", "show", rollout)["state"] == "FINISHED"
    assert "3 succeeded" in fleet.text("rollout", "list")
    assert fleet.run("rollout", "watch", rollout).exit_code == 0
    ended = fleet.run("rollout", "resume", rollout)
    assert ended.exit_code == 4


def test_failed_boards_are_shown_without_their_escapes_and_tried_again(fleet: World, tmp_path: Path) -> None:
    rollout = created(fleet, tmp_path, errorAction="PAUSE")
    fleet.step(rollout, None)
    fleet.step(rollout, Phase.FAILED, last_error=Failure(code=FailureCode.CAMERA_LOST, text=EVIL))
    shown = fleet.text("rollout", "show", rollout)
    assert "plant1/board-001: failed" in shown
    assert "\x1b" not in shown
    assert fleet.read("rollout", "show", rollout)["state"] == "PAUSED"
    assert fleet.run("rollout", "retry", rollout, "node=board-002").exit_code != 0
    again = fleet.read("rollout", "retry", rollout, "plant1/board-001")
    assert again["waves"][0]["counts"] == {"QUEUED": 1}
    fleet.step(rollout, None)
    stopped = fleet.read("rollout", "abort", rollout, "--reason", "enough", "--on-abort", "keep")
    assert stopped["state"] in {"STOPPING", "STOPPED"}
    fleet.step(rollout, Phase.CANCELED)


@pytest.mark.parametrize(
    ("changes", "parts"),
    [
        pytest.param({"target": "site=plant1 adn soc=x"}, ["site=plant1 adn soc=x", "^ expected and"], id="a filter"),
        pytest.param({"wavs": []}, ["wavs: there is no such field; did you mean waves?"], id="a field"),
        pytest.param({"gates": [MISSPELT]}, ["did you mean shadowAgreement"], id="a gate"),
        pytest.param({"model": UNKNOWN}, ["no published model"], id="a model"),
        pytest.param({"target": "site=nowhere"}, ["no board"], id="nobody"),
    ],
)  # fmt: skip
def test_what_is_wrong_in_a_file_is_shown_at_its_place(
    fleet: World, tmp_path: Path, changes: dict[str, Any], parts: list[str]
) -> None:
    ended = fleet.run("rollout", "create", written(tmp_path, **changes))
    assert ended.exit_code in {1, 3}
    for part in parts:
        assert part in ended.stderr
    if "^" in ended.stderr:
        lines = ended.stderr.split("\n")
        row = next(number for number, text in enumerate(lines) if "^" in text)
        assert lines[row - 1][lines[row].index("^") :].startswith("adn")


def test_a_rollout_may_begin_without_boards_if_that_is_meant(fleet: World, tmp_path: Path) -> None:
    made = fleet.read("rollout", "create", written(tmp_path, target="site=later"), "--allow-empty")
    assert made["members"] == []
    fleet.text("rollout", "abort", made["id"])


@pytest.mark.parametrize(
    ("words", "code"),
    [
        (["create", "/nowhere.yaml"], 1),
        (["show", "nobody"], 3),
        (["show", ".."], 1),
        (["abort", "nobody", "--on-abort", "explode"], 2),
        (["watch", "nobody"], 3),
    ],
)
def test_what_cannot_be_ends_with_a_code(fleet: World, words: list[str], code: int) -> None:
    ended = fleet.run("rollout", *words)
    assert ended.exit_code == code
    assert ended.stderr


def test_a_viewer_watches_but_does_not_steer(fleet: World, tmp_path: Path) -> None:
    assert fleet.run("rollout", "list", role=Role.VIEWER).exit_code == 0
    assert fleet.run("rollout", "create", written(tmp_path), role=Role.VIEWER).exit_code == 4


@pytest.fixture
def watched(fleet: World, tmp_path: Path) -> Iterator[tuple[World, str, list[subprocess.Popen[str]]]]:
    """A rollout, and processes that are ended with the test."""
    processes: list[subprocess.Popen[str]] = []
    yield fleet, created(fleet, tmp_path, waves=[{"name": "all"}], gates=[]), processes
    for process in processes:
        process.kill()
        process.communicate()


def start(fleet: World, *words: str, **more: Any) -> subprocess.Popen[str]:
    env = {name: text for name, text in fleet.env(**more).items() if text is not None}
    return subprocess.Popen(
        [sys.executable, "-m", "fleet.cli", *words], env={**os.environ, **env}, text=True, bufsize=1,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip


def line_with(process: subprocess.Popen[str], part: str) -> str:
    """Waits for it; the guard ends a process that says nothing."""
    guard = threading.Timer(30, process.kill)
    guard.start()
    try:
        assert process.stdout is not None
        return next(text for text in process.stdout if part in text)
    finally:
        guard.cancel()


def test_a_rollout_is_watched_to_its_good_end(watched: tuple[World, str, list[subprocess.Popen[str]]]) -> None:
    fleet, rollout, processes = watched
    plain, scripted = start(fleet, "rollout", "watch", rollout), start(fleet, "rollout", "watch", rollout, "--json")
    bars = start(fleet, "rollout", "watch", rollout, FORCE_COLOR="1", TERM="xterm")
    processes += [plain, scripted, bars]
    line_with(plain, "3 in progress")
    line_with(bars, "0/3")
    assert json.loads(line_with(scripted, "IN_PROGRESS"))["waves"][0]["counts"] == {"IN_PROGRESS": 3}
    fleet.step(rollout)
    fleet.step(rollout, None)
    assert "FINISHED; wave all: succeeded, 3 succeeded" in line_with(plain, "FINISHED")
    assert json.loads(line_with(scripted, '"state": "FINISHED"'))["members"][0]["state"] == "SUCCEEDED"
    assert "━" in line_with(bars, "3/3")
    for process in processes:
        process.communicate(timeout=60)
        assert process.returncode == 0


def test_a_rollout_that_is_stopped_ends_its_watcher_with_1(
    watched: tuple[World, str, list[subprocess.Popen[str]]],
) -> None:
    fleet, rollout, processes = watched
    process = start(fleet, "rollout", "watch", rollout)
    processes.append(process)
    line_with(process, "3 in progress")
    fleet.text("rollout", "abort", rollout, "--reason", "no")
    fleet.step(rollout, model=OLD)
    _, said = process.communicate(timeout=60)
    assert process.returncode == 1
    assert "STOPPED" in said


def test_ctrl_c_ends_a_watcher_without_a_trace(watched: tuple[World, str, list[subprocess.Popen[str]]]) -> None:
    fleet, rollout, processes = watched
    process = start(fleet, "rollout", "watch", rollout)
    processes.append(process)
    line_with(process, "3 in progress")
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "Traceback" not in said
