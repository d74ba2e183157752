"""A station for jobs, and how to ask for one: what the tests of jobs share."""

from pathlib import Path
from typing import Any

from schemas.job import (
    CollectedPicture,
    InspectOutput,
    JobExecution,
    JobRequest,
    JobStatus,
    JobType,
)
from schemas.recipe import Evaluation
from schemas.result import Result
from tests.contract.test_uploader import PutServer
from tests.scenario.station import DEADLINE_S, TOPICS, Station
from tests.scenario.update_kit import Hall

_MORE = """\
[[camera]]
id = "side"
kind = "folder"
source = "pictures"
[camera.trigger]
kind = "interval"
every_s = 3600.0

[[camera]]
id = "back"
kind = "folder"
source = "pictures"
[camera.trigger]
kind = "cron"
expression = "0 0 1 1 *"

[[camera]]
id = "gone"
kind = "folder"
source = "unplugged"

[recipe.lenient]
id = "lenient-1"
external_recipe_id = "PCB-4711"
[recipe.lenient.rules.default]
max_count = 100
"""
ENDS = {JobStatus.SUCCEEDED, JobStatus.FAILED, JobStatus.TIMED_OUT, JobStatus.REJECTED, JobStatus.CANCELED}


def board(folder: Path, port: int) -> Station:
    """One camera that streams, two that are asked, one that is not there; two recipes."""
    station = Station(folder, port, rate_hz=20.0)
    station.config.write_text(station.config.read_text() + _MORE)
    return station


def ask(hall: Hall, job_id: str, kind: JobType, document: dict[str, Any] | None = None, **more: Any) -> None:
    request = JobRequest(job_id=job_id, type=kind, document=document or {}, **more)
    hall.mes.publish(TOPICS.job_request(job_id), request.to_json())


def told(hall: Hall, job_id: str) -> list[JobExecution]:
    messages = [each for each in list(hall.mes.messages) if each.topic == TOPICS.job_status(job_id)]
    return [JobExecution.model_validate_json(each.payload) for each in messages]


def wait_for(hall: Hall, job_id: str, *statuses: JobStatus, within_s: float = DEADLINE_S) -> JobExecution:
    def is_so() -> bool:
        said = told(hall, job_id)
        return bool(said) and said[-1].status in statuses

    try:
        hall.mes.wait(f"job {job_id} {statuses}", is_so, within_s)
    except AssertionError as error:
        raise AssertionError(f"{error}; told: {told(hall, job_id)}; {hall.station.log[-2000:]}") from error
    return told(hall, job_id)[-1]


def answer(hall: Hall, job_id: str) -> Result:
    """The result that a job which has SUCCEEDED names."""
    output = InspectOutput.model_validate(told(hall, job_id)[-1].status_details)
    hall.mes.wait("the result", lambda: output.result_id in hall.mes.results())
    result = hall.mes.results()[output.result_id]
    assert (result.job_id, result.station.camera) == (job_id, output.camera)
    assert Evaluation[output.evaluation] is result.result_evaluation
    assert output.defect_count == result.summary.defect_count
    return result


def sent(server: PutServer, prefix: str) -> list[CollectedPicture]:
    """What a server has: each picture with its description, and nothing else."""
    files = {put.path.removeprefix(prefix).split("?")[0]: put.body for put in server.puts}
    about = [CollectedPicture.model_validate_json(body) for name, body in files.items() if name.endswith(".json")]
    assert {name for name in files if name.endswith(".png")} == {f"{each.image_id}.png" for each in about}
    assert all(files[f"{each.image_id}.png"].startswith(b"\x89PNG") for each in about)
    return about
