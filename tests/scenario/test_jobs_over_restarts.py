"""Jobs that outlive the process, and those that meet an update."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from schemas.job import (
    CollectedPicture,
    CollectOutput,
    JobStatus,
    JobType,
    RestartOutput,
)
from schemas.state import Phase
from tests.contract.test_uploader import put_server
from tests.scenario.job_kit import ENDS, ask, board, sent, wait_for
from tests.scenario.station import DEADLINE_S, gaps
from tests.scenario.update_kit import Hall, open_hall, running_hall


@pytest.fixture
def own(tmp_path: Path) -> Iterator[Hall]:
    with open_hall(tmp_path, board) as hall, hall.station:
        hall.mes.wait("results", lambda: len(hall.mes.results()) >= 5)
        yield hall


def test_a_collection_goes_on_after_the_agent_was_killed(own: Hall) -> None:
    folder = own.station.folder / "data" / "collected" / "survivor"
    ask(own, "survivor", JobType.COLLECT, {"cameras": ["top"], "count": 60, "seconds": 600.0})
    own.mes.wait("some pictures", lambda: folder.exists() and len(list(folder.glob("*.json"))) >= 5)
    own.station.kill()
    kept = {path.name for path in folder.glob("*.json")}
    own.station.start()
    done = CollectOutput.model_validate(wait_for(own, "survivor", *ENDS, within_s=60.0).status_details)
    assert (done.stage, done.collected) == ("done", 60)
    names = {path.name for path in folder.glob("*.json")}
    assert len(names) == 60
    assert names >= kept
    assert {path.stem for path in folder.glob("*.png")} == {Path(name).stem for name in names}


def test_an_upload_goes_on_after_the_agent_was_killed(own: Hall) -> None:
    with put_server() as server:
        server.script = [201] * 6
        document = {"cameras": ["top"], "count": 10, "seconds": 60.0, "upload": f"{server.url}/in"}
        server.how = "silent"
        ask(own, "parcel", JobType.COLLECT, document)
        assert server.reached.wait(DEADLINE_S)
        own.station.kill()
        server.how = "honest"
        own.station.start()
        done = CollectOutput.model_validate(wait_for(own, "parcel", *ENDS, within_s=60.0).status_details)
        assert (done.stage, done.collected, done.uploaded) == ("done", 10, 10)
        assert len(sent(server, "/in/")) == 10


def test_a_restart_has_succeeded_when_another_boot_says_so(own: Hall) -> None:
    before = own.boot()
    ask(own, "again", JobType.RESTART)
    process = own.station.process
    assert process is not None
    assert process.wait(DEADLINE_S) == 0
    wait_for(own, "again", JobStatus.IN_PROGRESS)
    own.station.process = None
    own.station.start()  # as systemd does
    done = wait_for(own, "again", JobStatus.SUCCEEDED)
    boot = own.wait_boot(before)
    assert RestartOutput.model_validate(done.status_details).boot_id == boot
    ask(own, "again", JobType.RESTART)
    ask(own, "alive", JobType.LOGS, {"lines": 1})
    wait_for(own, "alive", JobStatus.SUCCEEDED)
    assert own.boot() == boot, "the same id again restarts nothing"


def test_an_update_of_the_model_during_a_collection_ends_well_and_so_does_the_collection(tmp_path: Path) -> None:
    with running_hall(tmp_path) as hall:
        ask(hall, "meanwhile", JobType.COLLECT, {"cameras": ["top"], "count": 100_000, "seconds": 3600.0})
        wait_for(hall, "meanwhile", JobStatus.IN_PROGRESS)
        hall.want(hall.desired(hall.bundle("2.0.0")))
        ask(hall, "one", JobType.INSPECT, {"camera": "top"})
        hall.wait_phase(1, Phase.COMMITTED)
        wait_for(hall, "one", JobStatus.SUCCEEDED)
        folder = hall.station.folder / "data" / "collected" / "meanwhile"
        hall.mes.wait("pictures of the new model", lambda: "2.0.0" in versions(folder))
        assert hall.station.stop() == 0
        hall.mes.wait("the goodbye", lambda: hall.mes.statuses()[-1].reason == "shutdown")
        boot, last = hall.boot(), hall.mes.statuses()[-1].last_sequence_number or 0
        assert gaps(hall.mes.results(), boot, last) == []
        hall.assert_nothing_lost()
        assert versions(folder) == {"1.0.0", "2.0.0"}
        by_id = hall.mes.results()
        for path in folder.glob("*.json"):
            about = CollectedPicture.model_validate_json(path.read_bytes())
            assert by_id[about.result_id].model == about.model


def versions(folder: Path) -> set[str]:
    return {json.loads(path.read_bytes())["model"]["version"] for path in folder.glob("*.json")}
