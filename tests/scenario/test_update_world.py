"""What the world does to an update: newer wishes, old ones again, cancels, lots, windows, disks that are full."""

import itertools
import json
import subprocess
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from schemas.codes import FailureCode
from schemas.job import JobExecution, JobStatus
from schemas.result import Result, ResultState
from schemas.state import Defer, Phase, ProbationPlan
from tests.scenario import bad_bundle
from tests.scenario.bundle import digest
from tests.scenario.station import TOPICS
from tests.scenario.update_kit import PROBATION, Hall, open_hall, running_hall

ENDLESS = ProbationPlan(frames=1_000_000, max_p95_ratio=1e3, max_ng_drift=1.0)


@pytest.fixture(scope="module")
def hall(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hall]:
    """One station for all: each test begins with the model that the one before has left."""
    with running_hall(tmp_path_factory.mktemp("hall")) as running:
        yield running


def versions(hall: Hall, since: int) -> list[str]:
    """Of the results since then, each change once."""
    return [version for version, _ in itertools.groupby(result.model.version for result in hall.in_order()[since:])]


def version_now(hall: Hall) -> str:
    return str(hall.journal()["current"]["version"])


def test_a_newer_model_takes_the_place_of_one_on_probation(hall: Hall) -> None:
    before, old = len(hall.in_order()), version_now(hall)
    hall.want(hall.desired(hall.bundle("2.0.0"), probation=ENDLESS))
    hall.wait_phase(hall.generation, Phase.PROBATION)
    hall.mes.wait("results of it", lambda: hall.in_order()[-1].model.version == "2.0.0")
    hall.want(hall.desired(hall.bundle("3.0.0")))
    hall.wait_phase(hall.generation, Phase.COMMITTED)
    hall.wait_more(5)
    assert versions(hall, before) == [old, "2.0.0", old, "3.0.0"], "the proved model inspects in between"
    hall.assert_nothing_lost()


def test_of_many_wishes_at_once_the_last_one_comes_true(hall: Hall) -> None:
    for number in range(4, 8):
        hall.want(hall.desired(hall.bundle(f"{number}.0.0")))
    hall.wait_phase(hall.generation, Phase.COMMITTED)
    hall.wait_more(5)
    assert version_now(hall) == "7.0.0"
    hall.assert_nothing_lost()


def test_an_old_wish_that_comes_again_changes_nothing_and_is_told(hall: Hall) -> None:
    first = hall.want(hall.desired(hall.bundle("8.0.0")))
    hall.wait_phase(first.generation, Phase.COMMITTED)
    second = hall.want(hall.desired(hall.bundle("9.0.0")))
    hall.wait_phase(second.generation, Phase.COMMITTED)
    before, told = hall.journal(), len(hall.events(FailureCode.STALE_GENERATION))
    hall.want(first)
    hall.mes.wait("the event", lambda: len(hall.events(FailureCode.STALE_GENERATION)) == told + 1)
    hall.want(second.model_copy(update={"version": "6.6.6"}))
    hall.mes.wait("the event", lambda: len(hall.events(FailureCode.STALE_GENERATION)) == told + 2)
    hall.want(second)
    hall.wait_more(20)
    assert len(hall.events(FailureCode.STALE_GENERATION)) == told + 2
    assert hall.journal() == before
    assert hall.is_in(second.generation, Phase.COMMITTED)
    hall.assert_nothing_lost()


def test_the_model_that_inspects_is_committed_at_once_when_it_is_named_again(hall: Hall) -> None:
    bundle = hall.bundle("10.0.0")
    first = hall.want(hall.desired(bundle))
    hall.wait_phase(first.generation, Phase.COMMITTED)
    before, asked = len(hall.in_order()), len(hall.server.asked)
    again = hall.want(hall.desired(bundle))
    report = hall.wait_phase(again.generation, Phase.COMMITTED)
    hall.wait_more(5)
    assert report.version == "10.0.0"
    assert len(hall.server.asked) == asked
    assert versions(hall, before) == ["10.0.0"]


@pytest.mark.parametrize("phase", [Phase.QUEUED, Phase.PROBATION])
def test_a_canceled_update_leaves_the_old_model_at_work(hall: Hall, phase: Phase) -> None:
    before, old = len(hall.in_order()), version_now(hall)
    defer = Defer(until="window", **closed_window()) if phase is Phase.QUEUED else Defer()
    desired = hall.want(hall.desired(hall.bundle("11.0.0"), defer=defer, probation=ENDLESS))
    hall.wait_phase(desired.generation, phase)
    if phase is Phase.PROBATION:
        hall.mes.wait("results of it", lambda: hall.in_order()[-1].model.version == "11.0.0")
    hall.tell("cancel-update", {"commandId": f"c-{desired.generation}", "generation": desired.generation})
    report = hall.wait_error(desired.generation, Phase.CANCELED, FailureCode.CANCELED)
    hall.wait_more(5)
    assert report.version == version_now(hall) == old
    assert versions(hall, before)[-1] == old
    hall.want(desired)
    hall.wait_more(5)
    assert hall.is_in(desired.generation, Phase.CANCELED)
    hall.assert_nothing_lost()


def closed_window() -> dict[str, str]:
    return window(hours=6)


def window(hours: int) -> dict[str, str]:
    """Two hours long, around so many hours from now."""
    middle = datetime.now(UTC) + timedelta(hours=hours)
    start, end = middle - timedelta(hours=1), middle + timedelta(hours=1)
    return {"window_start": f"{start:%H:%M}", "window_end": f"{end:%H:%M}"}


def test_an_update_waits_for_its_window(hall: Hall) -> None:
    old, asked = version_now(hall), len(hall.server.asked)
    waiting = hall.want(hall.desired(hall.bundle("12.0.0"), defer=Defer(until="window", **closed_window())))
    hall.wait_phase(waiting.generation, Phase.QUEUED)
    hall.wait_more(30)
    assert hall.is_in(waiting.generation, Phase.QUEUED)
    assert version_now(hall) == old
    assert len(hall.server.asked) == asked
    opened = hall.want(hall.desired(hall.bundle("12.1.0"), defer=Defer(until="window", **window(hours=0))))
    hall.wait_phase(opened.generation, Phase.COMMITTED)
    assert version_now(hall) == "12.1.0"


def test_an_update_waits_for_the_end_of_the_lot_over_a_restart(hall: Hall) -> None:
    old, boot = version_now(hall), hall.boot()
    hall.tell("lot", {"commandId": "l-1", "lotId": "lot-1", "state": "open"})
    desired = hall.want(hall.desired(hall.bundle("13.0.0"), defer=Defer(until="lotEnd")))
    hall.wait_phase(desired.generation, Phase.QUEUED)
    hall.station.kill()
    hall.station.start()
    hall.wait_boot(boot)
    hall.wait_more(30)
    assert hall.is_in(desired.generation, Phase.QUEUED)
    assert {result.model.version for result in hall.in_order()} == {old}
    hall.tell("lot", {"commandId": "l-2", "lotId": "lot-1", "state": "closed"})
    hall.wait_phase(desired.generation, Phase.COMMITTED)
    hall.assert_nothing_lost()


def inspect(hall: Hall, job_id: str) -> str:
    """Have one part inspected; returns the version of the model that did it."""
    request = {"jobId": job_id, "type": "inspect", "document": {"camera": "top", "partId": f"part-{job_id}"}}
    hall.mes.publish(TOPICS.job_request(job_id), json.dumps(request).encode())

    def ended() -> list[JobExecution]:
        told = [JobExecution.model_validate_json(each.payload) for each in hall.mes.of(f"job/{job_id}/status")]
        return [each for each in told if each.status not in {JobStatus.QUEUED, JobStatus.IN_PROGRESS}]

    hall.mes.wait(f"the end of {job_id}", lambda: bool(ended()))
    assert ended()[0].status is JobStatus.SUCCEEDED, ended()

    def results() -> list[Result]:
        return [each for each in hall.mes.results().values() if each.part_id == f"part-{job_id}"]

    hall.mes.wait(f"the result of {job_id}", lambda: bool(results()))
    (result,) = results()
    assert (result.job_id, result.result_state) == (job_id, ResultState.COMPLETED)
    return result.model.version


@pytest.mark.parametrize("is_good", [True, False])
def test_jobs_are_done_while_the_model_changes(hall: Hall, is_good: bool) -> None:
    old, bundle = version_now(hall), hall.bundle("13.5.0")
    desired = hall.desired(bundle if is_good else bad_bundle.faulty(bundle))
    seen = [inspect(hall, f"before-{desired.generation}")]
    hall.want(desired)
    number = 0
    while not hall.is_in(desired.generation, Phase.COMMITTED, Phase.ROLLED_BACK):
        seen.append(inspect(hall, f"during-{desired.generation}-{number}"))
        number += 1
    hall.wait_more(5)
    seen.append(inspect(hall, f"after-{desired.generation}"))
    assert number
    assert (seen[0], seen[-1]) == (old, "13.5.0" if is_good else old)
    hall.assert_nothing_lost()


def test_a_bad_model_goes_though_the_journal_cannot_be_written(hall: Hall) -> None:
    before, old = len(hall.in_order()), version_now(hall)
    bundle = bad_bundle.seeing_defects_everywhere(hall.bundle("14.0.0"))
    plan = ProbationPlan(frames=120, max_p95_ratio=1e3, max_ng_drift=0.1)
    desired = hall.want(hall.desired(bundle, probation=plan))
    hall.wait_phase(desired.generation, Phase.PROBATION)
    in_the_way = hall.station.folder / "data" / "update.journal.partial"
    in_the_way.mkdir()
    report = hall.wait_error(desired.generation, Phase.ROLLED_BACK, FailureCode.PROBATION_FAILED)
    hall.mes.wait("the old model", lambda: versions(hall, before) == [old, "14.0.0", old])
    assert report.version == old
    assert hall.journal()["phase"] == "PROBATION"
    assert hall.mes.latest("alarm/internal") is not None
    in_the_way.rmdir()
    hall.mes.wait("the journal", lambda: hall.journal()["phase"] == "ROLLED_BACK")
    hall.mes.wait("the end of the alarm", lambda: hall.mes.latest("alarm/internal") is None)
    hall.assert_nothing_lost()


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Hall]:
    """The agent's data are on a disk of 24 MB."""
    with open_hall(tmp_path) as opened:
        data = opened.station.folder / "data"
        data.mkdir()
        mount = ["mount", "-t", "tmpfs", "-o", "size=24m", "none", str(data)]
        if subprocess.run(mount, capture_output=True, check=False).returncode != 0:
            pytest.skip("needs the right to mount a tmpfs")
        try:
            opened.station.environ = {"RKFLEET_STORAGE__STORE_RESERVE_BYTES": "2000000"}
            with opened.station:
                opened.mes.wait("results", lambda: len(opened.mes.results()) >= 40)
                yield opened
        finally:
            subprocess.run(["umount", "-l", str(data)], check=True)


def test_a_model_that_does_not_fit_the_disk_is_not_fetched(small_disk: Hall) -> None:
    hall = small_disk
    bundle = hall.large_bundle("2.0.0", ballast_bytes=25_000_000)
    desired = hall.want(hall.desired(bundle))
    hall.wait_error(desired.generation, Phase.DOWNLOADING, FailureCode.DISK_FULL)
    hall.wait_more(10)
    assert {each.path for each in hall.server.asked} == {f"/{bundle.name}/manifest.json"}
    smaller = hall.want(hall.desired(hall.large_bundle("3.0.0", ballast_bytes=100_000)))
    hall.wait_phase(smaller.generation, Phase.COMMITTED)
    hall.assert_nothing_lost()


def test_a_full_disk_holds_an_update_up_and_loses_nothing(small_disk: Hall) -> None:
    hall = small_disk
    plan = PROBATION.model_copy(update={"frames": 150})
    desired = hall.want(hall.desired(hall.bundle("2.0.0"), probation=plan))
    hall.wait_phase(desired.generation, Phase.PROBATION)
    filler = hall.station.folder / "data" / "filler"
    with filler.open("wb", buffering=0) as file, pytest.raises(OSError, match="No space left"):
        file.writelines(itertools.repeat(bytes(4096)))
    hall.mes.wait("the alarm", lambda: hall.mes.latest("alarm/disk-full") is not None)
    assert hall.is_in(desired.generation, Phase.PROBATION)
    filler.unlink()
    hall.wait_phase(desired.generation, Phase.COMMITTED)
    hall.mes.wait("the end of the alarm", lambda: not is_full(hall))
    hall.wait_more(10)
    assert hall.journal()["current"]["manifest_sha256"] == digest(hall.folder / "bundle-1" / "manifest.json")
    hall.assert_nothing_lost()


def is_full(hall: Hall) -> bool:
    """As the spool or the journal has it; the small disk as such is an alarm of its own."""
    alarm = hall.mes.latest("alarm/disk-full")
    return alarm is not None and any(each["source"] != "host" for each in alarm["sources"])
