"""Updates of the model on a whole agent: what a fleet's owner must be able to rely on."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from schemas.state import Phase, ShadowPlan
from tests.contract.file_server import Answer
from tests.scenario.bundle import digest
from tests.scenario.update_kit import Hall, running_hall


@pytest.fixture
def hall(tmp_path: Path) -> Iterator[Hall]:
    with running_hall(tmp_path) as running:
        yield running


def test_a_better_model_takes_over_and_no_result_is_missing(hall: Hall) -> None:
    bundle = hall.bundle("2.0.0")
    hall.want(hall.desired(bundle, shadow=ShadowPlan(frames=10, least_agreement=0.99)))
    last = hall.wait_phase(1, Phase.COMMITTED)
    hall.wait_more(20)
    assert hall.station.stop() == 0
    hall.mes.wait("the goodbye", lambda: hall.mes.statuses()[-1].reason == "shutdown")
    in_order = hall.in_order()
    assert len(in_order) == hall.mes.statuses()[-1].last_sequence_number
    hall.assert_nothing_lost()
    versions = [result.model.version for result in in_order]
    flip = versions.index("2.0.0")
    assert set(versions[:flip]) == {"1.0.0"}
    assert set(versions[flip:]) == {"2.0.0"}
    assert {result.model.generation for result in in_order[flip:]} == {1}
    assert last.version == "2.0.0"
    assert last.sha256 == digest(bundle / "manifest.json")
    assert last.measured["selfTestAgreement"] == 1.0
    assert last.measured["shadowAgreement"] == 1.0
    assert last.measured["shadowFrames"] == 10
    assert last.measured["probationResults"] >= 30
    assert [each.phase.value for each in last.phases] == [
        "QUEUED", "DOWNLOADING", "VERIFYING", "LOADING", "SELF_TEST", "SHADOW", "PROBATION", "COMMITTED",
    ]  # fmt: skip


def test_the_committed_model_inspects_after_a_restart_without_its_server(hall: Hall) -> None:
    bundle = hall.bundle("2.0.0")
    hall.want(hall.desired(bundle))
    hall.wait_phase(1, Phase.COMMITTED)
    hall.station.stop()
    shutil.rmtree(bundle)
    for path in ("manifest.json", "cpu.onnx"):
        hall.server.script(f"/{bundle.name}/{path}", Answer(status=404))
    before = hall.boot()
    hall.station.start()
    boot = hall.wait_boot(before)
    hall.station.stop()
    assert {result.model.version for result in hall.in_order(boot)} == {"2.0.0"}
