"""Jobs on a whole agent: what the MES asks for and what it can rely on."""

import zlib
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import cv2
import pytest

from schemas.codes import FailureCode
from schemas.job import (
    BenchmarkOutput,
    CollectedPicture,
    CollectOutput,
    JobExecution,
    JobStatus,
    JobType,
    LogsOutput,
)
from schemas.recipe import Evaluation
from tests.contract.raw_client import RawClient
from tests.contract.test_uploader import put_server
from tests.scenario.job_kit import answer, ask, board, sent, told, wait_for
from tests.scenario.station import TOPICS
from tests.scenario.update_kit import Hall, open_hall


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hall]:
    """One agent for the jobs that do not end it. A camera that is not there is asked at once: that takes its time."""
    with open_hall(tmp_path_factory.mktemp("jobs"), board) as hall, hall.station:
        hall.mes.wait("results", lambda: len(hall.mes.results()) >= 5)
        ask(hall, "absent", JobType.INSPECT, {"camera": "gone"})
        yield hall


@pytest.mark.parametrize("camera", ["top", "side", "back"])
def test_an_inspect_is_answered_by_a_result_that_names_its_part(camera: str, shared: Hall) -> None:
    job_id = f"inspect-{camera}"
    names = {"partId": "p-1", "productId": "pcb", "lotId": "lot-7", "workOrderId": "wo-9"}
    ask(shared, job_id, JobType.INSPECT, {"camera": camera, "recipe": "lenient", **names})
    done = wait_for(shared, job_id, JobStatus.SUCCEEDED)
    result = answer(shared, job_id)
    said = {"partId": result.part_id, "productId": result.product_id, "lotId": result.lot_id}
    assert {**said, "workOrderId": result.work_order_id} == names
    assert (result.internal_recipe_id, result.external_recipe_id) == ("lenient-1", "PCB-4711")
    assert result.result_evaluation is Evaluation.OK
    versions = [each.version_number for each in told(shared, job_id)]
    assert versions == sorted(set(versions))
    assert done.started_at is not None
    assert done.queued_at <= done.started_at <= result.image.capture_time <= done.last_updated_at


def test_a_reader_who_comes_later_finds_the_status(shared: Hall) -> None:
    ask(shared, "retained", JobType.INSPECT, {"camera": "side"})
    wait_for(shared, "retained", JobStatus.SUCCEEDED)
    with RawClient(shared.broker.host, shared.broker.port, TOPICS.job_status("retained")) as late:
        message = late.wait_topic(TOPICS.job_status("retained"))
    assert message.retain
    assert JobExecution.model_validate_json(message.payload) == told(shared, "retained")[-1]


def test_thirty_inspects_at_once_are_each_answered_by_a_result_of_their_own(shared: Hall) -> None:
    cameras = {f"burst-{number}": ("top", "side", "back")[number % 3] for number in range(30)}
    for job_id, camera in cameras.items():
        ask(shared, job_id, JobType.INSPECT, {"camera": camera, "partId": f"part-of-{job_id}"})
    for job_id, camera in cameras.items():
        wait_for(shared, job_id, JobStatus.SUCCEEDED)
        result = answer(shared, job_id)
        assert (result.part_id, result.station.camera) == (f"part-of-{job_id}", camera)
        shown = sorted(defect.class_name for defect in result.defects)
        assert shown in shared.station.truth.values()
    by_job = Counter(each.job_id for each in shared.mes.results().values() if each.job_id in cameras)
    assert set(by_job.values()) == {1}


@pytest.mark.parametrize(
    ("kind", "document", "words"),
    [
        (JobType.INSPECT, {"camera": "nowhere"}, "no camera nowhere; there are back, gone, side, top"),
        (JobType.INSPECT, {"camera": "top", "recipe": "secret"}, "document.recipe: there is no recipe secret"),
        (JobType.INSPECT, {}, "document.camera"),
        (JobType.INSPECT, {"camera": "top", "part": "p"}, "document.part"),
        (JobType.COLLECT, {"cameras": ["top", "nowhere"]}, "no camera nowhere"),
        (JobType.COLLECT, {"cameras": ["top"], "upload": "ftp://x/y"}, "document.upload"),
        (JobType.BENCHMARK, {"seconds": 1e9}, "document.seconds"),
        (JobType.RESTART, {"hard": True}, "document.hard"),
    ],
)
def test_what_cannot_be_done_is_rejected_in_words(
    kind: JobType, document: dict[str, Any], words: str, shared: Hall, request: pytest.FixtureRequest
) -> None:
    job_id = f"bad-{zlib.crc32(request.node.name.encode())}"
    ask(shared, job_id, kind, document)
    refused = wait_for(shared, job_id, JobStatus.REJECTED)
    assert refused.failure is not None
    assert refused.failure.code is FailureCode.COMMAND_INVALID
    assert words in refused.failure.text


def test_the_same_id_again_gets_the_same_status_again(shared: Hall) -> None:
    ask(shared, "twice", JobType.INSPECT, {"camera": "side", "partId": "one"})
    first = wait_for(shared, "twice", JobStatus.SUCCEEDED)
    before = len(told(shared, "twice"))
    ask(shared, "twice", JobType.INSPECT, {"camera": "top", "partId": "another"})
    shared.mes.wait("the status again", lambda: len(told(shared, "twice")) > before)
    assert told(shared, "twice")[-1] == first
    assert [each.part_id for each in shared.mes.results().values() if each.job_id == "twice"] == ["one"]


def test_a_job_that_is_taken_back_is_canceled_and_leaves_nothing(shared: Hall) -> None:
    folder = shared.station.folder / "data" / "collected" / "long"
    ask(shared, "long", JobType.COLLECT, {"cameras": ["top"], "count": 100_000, "seconds": 3600.0})
    wait_for(shared, "long", JobStatus.IN_PROGRESS)
    shared.mes.wait("pictures", lambda: folder.exists() and any(folder.glob("*.json")))
    ask(shared, "waiting", JobType.BENCHMARK)  # behind it
    wait_for(shared, "waiting", JobStatus.QUEUED)
    ask(shared, "waiting", JobType.BENCHMARK, cancel=True)
    wait_for(shared, "waiting", JobStatus.CANCELED)
    ask(shared, "long", JobType.COLLECT, cancel=True)
    assert wait_for(shared, "long", JobStatus.CANCELED).failure is not None
    shared.mes.wait("no pictures", lambda: not folder.exists())


def test_a_job_ends_with_its_deadline(shared: Hall) -> None:
    now = datetime.now(UTC)
    ask(shared, "late", JobType.INSPECT, {"camera": "top"}, deadline=now - timedelta(hours=1))
    ask(
        shared, "slow", JobType.COLLECT, {"cameras": ["top"], "count": 100_000, "seconds": 3600.0},
        deadline=datetime.now(UTC) + timedelta(seconds=4),
    )  # fmt: skip
    for job_id in ("late", "slow"):
        ended = wait_for(shared, job_id, JobStatus.TIMED_OUT)
        assert ended.failure is not None
        assert ended.failure.code is FailureCode.JOB_TIMED_OUT
        assert "deadline" in ended.failure.text
    assert [each for each in shared.mes.results().values() if each.job_id == "late"] == []


def test_all_pictures_are_collected_without_loss(shared: Hall) -> None:
    ask(shared, "all", JobType.COLLECT, {"cameras": ["top"], "count": 20, "seconds": 60.0})
    done = CollectOutput.model_validate(wait_for(shared, "all", JobStatus.SUCCEEDED).status_details)
    assert (done.stage, done.collected, done.uploaded) == ("done", 20, None)
    folder = shared.station.folder / "data" / "collected" / "all"
    about = [CollectedPicture.model_validate_json(path.read_bytes()) for path in folder.glob("*.json")]
    assert len(about) == 20
    sources = {pixels(path) for path in (shared.station.folder / "pictures").iterdir()}
    for each in about:
        assert pixels(folder / f"{each.image_id}.png") in sources
        result = shared.mes.results()[each.result_id]
        assert (result.image.id, result.result_evaluation.name) == (each.image_id, each.evaluation)


def pixels(path: Path) -> bytes:
    picture = cv2.imread(str(path))
    assert picture is not None
    return picture.tobytes()


def test_pictures_of_doubt_alone_are_sent_to_a_server(shared: Hall) -> None:
    with put_server() as server:
        document = {"cameras": ["top"], "count": 12, "seconds": 60.0, "which": "uncertain", "band": [0.0, 1.0]}
        ask(shared, "doubt", JobType.COLLECT, {**document, "upload": f"{server.url}/in?token=s"})
        done = CollectOutput.model_validate(wait_for(shared, "doubt", JobStatus.SUCCEEDED).status_details)
        assert (done.collected, done.uploaded) == (12, 12)
        about = sent(server, "/in/")
    assert len(about) == 12
    assert all(each.defects for each in about), "pictures without any defect are beyond doubt"
    assert not (shared.station.folder / "data" / "collected" / "doubt").exists()


def test_a_benchmark_measures_the_model_beside_the_one_that_inspects(shared: Hall) -> None:
    before = len(shared.mes.results())
    ask(shared, "quick", JobType.BENCHMARK, {"seconds": 1.0})
    output = BenchmarkOutput.model_validate(wait_for(shared, "quick", JobStatus.SUCCEEDED).status_details)
    assert (output.model.name, output.model.version, output.lane) == ("probe", "1.0.0", "core-0")
    assert output.calls >= 1
    assert 0 < output.call_ms.p50 <= output.call_ms.p95 <= output.call_ms.max
    shared.mes.wait("results go on", lambda: len(shared.mes.results()) > before)


def test_the_log_comes_as_lines(shared: Hall) -> None:
    ask(shared, "lines", JobType.LOGS, {"lines": 5, "level": "WARNING"})
    some = LogsOutput.model_validate(wait_for(shared, "lines", JobStatus.SUCCEEDED).status_details)
    ask(shared, "everything", JobType.LOGS, {"lines": 10_000, "level": "DEBUG"})
    everything = LogsOutput.model_validate(wait_for(shared, "everything", JobStatus.SUCCEEDED).status_details)
    assert 1 <= len(some.lines) <= 5
    assert any("camera-absent" in line for line in everything.lines)
    assert len(told(shared, "everything")[-1].to_json()) < 16_384


def test_a_camera_that_is_not_there_is_told_from_one_that_is_slow(shared: Hall) -> None:
    """Stands last: the request was sent first."""
    ended = wait_for(shared, "absent", JobStatus.TIMED_OUT, within_s=60.0)
    assert ended.failure is not None
    assert ended.failure.code is FailureCode.JOB_TIMED_OUT
    assert "camera gone" in ended.failure.text
    assert "alarms" in ended.failure.text
    shared.assert_nothing_lost()
