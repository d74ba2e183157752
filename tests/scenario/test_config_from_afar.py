"""`desired/config` on a whole agent: applied without a restart, kept if all is well, refused by the field's name."""

import json
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path
from statistics import median
from typing import Any

import pytest

from schemas.codes import FailureCode
from schemas.job import JobRequest, JobStatus, JobType
from schemas.result import Result
from schemas.state import DesiredConfig, Phase, ReportedConfig
from tests.scenario.station import TOPICS, Station
from tests.scenario.update_kit import Hall, open_hall

_MORE = """\
[[camera]]
id = "side"
kind = "folder"
source = "pictures"
[camera.trigger]
kind = "continuous"
rate_hz = 20.0

[config]
probation_s = 2.0
"""
TOP = {"id": "top", "kind": "folder", "source": "pictures", "trigger": {"kind": "continuous", "rate_hz": 20.0}}
SIDE = TOP | {"id": "side"}
LENIENT = {"lenient": {"id": "lenient-1", "rules": {"default": {"max_count": 100}}}}
CHANGED = {
    "recipe": LENIENT,
    "camera": [TOP | {"recipe": "lenient", "trigger": {"kind": "continuous", "rate_hz": 4.0}}, SIDE],
}


def board(folder: Path, port: int) -> Station:
    """Two cameras that stream, and a short probation."""
    station = Station(folder, port, rate_hz=20.0)
    station.config.write_text(station.config.read_text() + _MORE)
    return station


@pytest.fixture
def hall(tmp_path: Path) -> Iterator[Hall]:
    with open_hall(tmp_path, board) as opened, opened.station:
        wait_results(opened, "top", 5)
        wait_results(opened, "side", 5)
        yield opened


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hall]:
    """One agent for what is refused at once."""
    with open_hall(tmp_path_factory.mktemp("refusals"), board) as opened, opened.station:
        wait_results(opened, "top", 5)
        yield opened


def want(hall: Hall, generation: int, **config: Any) -> None:
    message = DesiredConfig(generation=generation, config=config)
    hall.mes.publish(TOPICS.desired("config"), message.to_json(), retain=True)


def reports(hall: Hall) -> list[ReportedConfig]:
    return [ReportedConfig.model_validate_json(each.payload) for each in hall.mes.of("reported/config")]


def wait_phase(hall: Hall, generation: int, phase: Phase) -> ReportedConfig:
    def is_so() -> bool:
        said = reports(hall)
        return bool(said) and (said[-1].observed_generation, said[-1].phase) == (generation, phase)

    try:
        hall.mes.wait(f"{phase} of {generation}", is_so)
    except AssertionError as error:
        raise AssertionError(f"{error}; {reports(hall)[-1:]}; {hall.station.log[-2000:]}") from error
    return reports(hall)[-1]


def of(hall: Hall, camera: str) -> list[Result]:
    """Results of this boot and camera, in order."""
    return [each for each in hall.in_order() if each.station.camera == camera]


def wait_results(hall: Hall, camera: str, more: int, is_meant: Callable[[Result], bool] = lambda _: True) -> None:
    before = len(of(hall, camera))
    hall.mes.wait(f"results of {camera}", lambda: sum(map(is_meant, of(hall, camera)[before:])) >= more)


def cameras(hall: Hall) -> list[str]:
    info = hall.mes.latest("info")
    return [each["id"] for each in info["cameras"]] if info else []


def assert_whole(hall: Hall) -> None:
    """After the agent has said goodbye: every result has come, none failed."""
    assert hall.station.stop() == 0
    hall.mes.wait("the goodbye", lambda: hall.mes.statuses()[-1].reason == "shutdown")
    last = hall.mes.statuses()[-1].last_sequence_number
    hall.mes.wait("every result", lambda: len(hall.in_order()) == last)
    hall.assert_nothing_lost()


def test_rate_and_recipe_change_while_the_other_camera_goes_on_untouched(hall: Hall) -> None:
    boot = hall.boot()
    want(hall, 1, **CHANGED)
    last = wait_phase(hall, 1, Phase.COMMITTED)
    wait_results(hall, "top", 6)
    assert hall.boot() == boot
    assert last.sha256 is not None
    assert_whole(hall)
    recipes = [each.internal_recipe_id for each in of(hall, "top")]
    change = recipes.index("lenient-1")
    assert set(recipes[:change]) == {"default"}
    assert set(recipes[change:]) == {"lenient-1"}
    times = [each.image.capture_time for each in of(hall, "top")[change:]]
    assert median((later - earlier).total_seconds() for earlier, later in pairwise(times)) > 0.2, "4 Hz"
    side = of(hall, "side")
    assert {each.internal_recipe_id for each in side} == {"default"}
    frames = [each.image.frame_id for each in side]
    assert frames == sorted(set(frames)), "a camera that was opened anew counts from 0"
    assert any(each.sequence_number > of(hall, "top")[change].sequence_number for each in side)
    told = [json.loads(each.payload) for each in hall.mes.of("event/camera-")]
    assert [each for each in told if each["source"] == "side"] == []


def test_a_camera_is_added_and_taken_away_again(hall: Hall) -> None:
    want(hall, 1, camera=[TOP, SIDE, TOP | {"id": "extra"}])
    wait_results(hall, "extra", 3)
    wait_phase(hall, 1, Phase.COMMITTED)
    hall.mes.wait("three cameras", lambda: cameras(hall) == ["top", "side", "extra"])
    want(hall, 2, camera=[TOP])
    wait_phase(hall, 2, Phase.COMMITTED)
    hall.mes.wait("one camera", lambda: cameras(hall) == ["top"])
    left = [len(of(hall, name)) for name in ("side", "extra")]
    wait_results(hall, "top", 10)
    assert [len(of(hall, name)) for name in ("side", "extra")] == left
    assert_whole(hall)
    assert [each.topic for each in hall.mes.of("alarm/camera-") if each.payload] == []


def test_a_camera_that_is_not_there_is_named_and_the_old_cameras_come_back(hall: Hall) -> None:
    want(hall, 1, camera=[TOP | {"id": "ghost", "source": "pictures/nowhere"}, SIDE])
    last = wait_phase(hall, 1, Phase.ROLLED_BACK)
    assert last.last_error is not None
    assert last.last_error.code is FailureCode.PROBATION_FAILED
    assert "camera ghost" in last.last_error.text
    assert last.sha256 is None
    wait_results(hall, "top", 5)
    hall.mes.wait("the old cameras", lambda: cameras(hall) == ["top", "side"])
    hall.mes.wait("no alarm", lambda: hall.mes.latest("alarm/camera-absent") is None)
    assert_whole(hall)


@pytest.mark.parametrize(
    ("config", "field"),
    [
        ({"broker": {"host": "elsewhere"}}, "broker: is set on the board only"),
        ({"model": {"bundle": "/tmp"}}, "model: is set on the board only"),
        ({"storage": {"data_dir": "/"}}, "storage: is set on the board only"),
        ({"station": {"node": "other", "site": "x"}}, "station: is set on the board only"),
        ({"config": {"probation_s": 0.1}}, "config: is set on the board only"),
        ({"cameras": []}, "cameras: is no field"),
        ({"camera": []}, "camera: "),
        ({"camera": [TOP, TOP]}, "camera: ids must differ"),
        ({"camera": [TOP | {"source": "/etc"}]}, "camera.0.source: "),
        ({"camera": [TOP | {"ffmpeg_args": ["-i", "/etc/passwd"]}]}, "camera.0.ffmpeg_args: "),
        ({"camera": [TOP, SIDE | {"trigger": {"kind": "continuous", "rate_hz": 0}}]}, "camera.1.trigger.rate_hz: "),
        ({"camera": [TOP | {"trigger": {"kind": "cron", "expression": "whenever"}}]}, "camera top: trigger: "),
        ({"camera": [TOP | {"recipe": "unknown"}]}, "camera top: "),
        ({"camera": [TOP | {"roi": [0, 0, 0, 5]}]}, "camera top: "),
        ({"camera": [TOP | {"recipe": "odd"}], "recipe": {"odd": {"rules": {"perClass": {"hole": {}}}}}}, "recipe odd"),
        ({"timezone": "Mars/Olympus"}, "timezone: "),
        ({"telemetry": {"interval_s": 0.001}}, "telemetry.interval_s: "),
    ],
)  # fmt: skip
def test_what_may_not_or_cannot_be_is_refused_and_the_field_is_named(
    config: dict[str, Any], field: str, shared: Hall
) -> None:
    shared.generation += 1
    want(shared, shared.generation, **config)
    last = wait_phase(shared, shared.generation, Phase.REJECTED)
    assert last.last_error is not None
    assert last.last_error.code is FailureCode.CONFIG_INVALID
    assert field in last.last_error.text
    assert last.sha256 is None
    wait_results(shared, "top", 1)
    wait_results(shared, "side", 1)


def test_an_old_generation_changes_nothing(hall: Hall) -> None:
    want(hall, 5, **CHANGED)
    last = wait_phase(hall, 5, Phase.COMMITTED)
    want(hall, 4, camera=[SIDE])
    want(hall, 5, camera=[SIDE])
    hall.mes.wait("two events", lambda: len(hall.events(FailureCode.STALE_GENERATION)) == 2)
    wait_results(hall, "top", 2)
    assert (reports(hall)[-1].sha256, cameras(hall)) == (last.sha256, ["top", "side"])


def test_what_was_committed_stays_over_a_restart(hall: Hall) -> None:
    want(hall, 1, **CHANGED)
    committed = wait_phase(hall, 1, Phase.COMMITTED)
    hall.station.stop()
    before = hall.boot()
    hall.station.start()
    boot = hall.wait_boot(before)
    wait_results(hall, "top", 2)
    assert {each.internal_recipe_id for each in of(hall, "top")} == {"lenient-1"}
    assert (hall.boot(), reports(hall)[-1].sha256) == (boot, committed.sha256)


def test_a_crash_in_probation_brings_the_old_configuration_back(hall: Hall) -> None:
    want(hall, 1, **CHANGED)
    hall.mes.wait("probation", lambda: reports(hall)[-1].phase is Phase.PROBATION)
    wait_results(hall, "top", 1, lambda result: result.internal_recipe_id == "lenient-1")
    hall.station.kill()
    before = hall.boot()
    hall.station.start()
    hall.wait_boot(before)
    last = wait_phase(hall, 1, Phase.ROLLED_BACK)
    assert last.last_error is not None
    wait_results(hall, "top", 2)
    assert {each.internal_recipe_id for each in of(hall, "top")} == {"default"}


def test_a_crash_loop_brings_the_last_good_configuration_back_without_the_broker(hall: Hall) -> None:
    want(hall, 1, **CHANGED)
    wait_phase(hall, 1, Phase.COMMITTED)
    hall.broker.kill()
    hall.station.kill()
    for starts in (1, 2, 0):
        hall.station.start()
        hall.mes.wait(f"{starts} unclean starts", lambda starts=starts: journal(hall)["unclean_starts"] == starts)  # type: ignore[misc]
        if starts:
            hall.station.kill()
    assert journal(hall)["phase"] == Phase.ROLLED_BACK
    assert journal(hall)["current"] is None
    before = hall.boot()
    hall.broker.start()
    hall.wait_boot(before)
    last = wait_phase(hall, 1, Phase.ROLLED_BACK)
    assert last.last_error is not None
    assert last.last_error.code is FailureCode.CRASH_LOOP
    wait_results(hall, "top", 3)
    assert {each.internal_recipe_id for each in of(hall, "top")} == {"default"}


def journal(hall: Hall) -> dict[str, Any]:
    """What the agent remembers of configurations; between two renames only the file before is there."""
    path = hall.station.folder / "data" / "config.journal"
    try:
        raw = path.read_bytes()
    except FileNotFoundError:
        raw = path.with_name(f"{path.name}.previous").read_bytes()
    document: dict[str, Any] = json.loads(raw.partition(b"\n")[2])
    return document


def test_an_inspect_that_waits_is_answered_by_what_takes_the_cameras_place(tmp_path: Path) -> None:
    third = '[[camera]]\nid = "third"\nkind = "folder"\nsource = "unplugged"\n'
    ordered = {"kind": "interval", "every_s": 3600.0}
    with open_hall(tmp_path, board) as hall:
        hall.station.config.write_text(hall.station.config.read_text() + third)
        with hall.station:
            hall.mes.wait("the alarm", lambda: hall.mes.latest("alarm/camera-absent") is not None)
            request = JobRequest(job_id="patient", type=JobType.INSPECT, document={"camera": "third"})
            hall.mes.publish(TOPICS.job_request("patient"), request.to_json())
            hall.mes.wait("the order", lambda: _status(hall, "patient") == JobStatus.IN_PROGRESS)
            want(hall, 1, camera=[TOP, SIDE, TOP | {"id": "third", "trigger": ordered}])
            hall.mes.wait("the answer", lambda: _status(hall, "patient") == JobStatus.SUCCEEDED)
            hall.mes.wait("its result", lambda: of(hall, "third") != [])
            assert [each.job_id for each in of(hall, "third")] == ["patient"]


def _status(hall: Hall, job_id: str) -> str | None:
    said = hall.mes.latest(f"job/{job_id}/status")
    return said["status"] if said else None
