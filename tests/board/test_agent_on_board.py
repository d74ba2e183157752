"""The whole agent on an RK3588: real broker, real updates, and the vendor's library in its children.

One agent serves all tests of this file, in their order; each leaves a model at work.
"""

import itertools
import json
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from schemas.codes import FailureCode
from schemas.recipe import Evaluation
from schemas.state import Phase
from schemas.target import Target
from tests.board.agent_on_board import (
    FIRST,
    SECOND,
    WITHIN_S,
    CpuTwin,
    assert_no_gap,
    candidate,
    completed,
    failed,
    inspecting,
    miscomputed,
    on_board,
    wait_completed,
    wait_end,
    want,
)
from tests.board.emulated_npu import ZOO, EmulatedNpu
from tests.board.npu_control import BoardFault
from tests.scenario.bad_bundle import edit, seal
from tests.scenario.update_kit import Hall

pytestmark = pytest.mark.board

CRASHED_AT_LOAD = BoardFault(stage="init", action="crash")


@pytest.fixture(scope="module")
def running(npu_process: EmulatedNpu, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hall]:
    npu_process.behave()
    with inspecting(tmp_path_factory.mktemp("hall"), on_board(npu_process)) as hall:
        yield hall


@pytest.fixture
def hall(running: Hall, npu: EmulatedNpu) -> Hall:
    return running


def version_now(hall: Hall) -> str:
    return str(hall.journal()["current"]["version"])


def assert_the_old_model_went_on(hall: Hall, since: int, twin: CpuTwin, version: str) -> None:
    results = wait_completed(hall, len(hall.in_order())) and hall.in_order()[since:]
    assert {result.model.version for result in results} == {version}
    assert failed(results) == []
    twin.assert_agrees(results)
    assert_no_gap(hall)


def test_it_starts_and_tells_the_versions_of_the_board(hall: Hall) -> None:
    hall.mes.wait("the model in info", lambda: bool((hall.mes.latest("info") or {}).get("model")))
    info = hall.mes.latest("info")
    assert info is not None
    assert (info["target"], info["npuCores"]) == ("rk3588", 3)
    told = {name: info["model"][name] for name in ("version", "target", "runtimeVersion", "driverVersion")}
    assert told == {
        "version": FIRST, "target": "rk3588", "runtimeVersion": "2.5.0 (emulated)", "driverVersion": "0.9.8",
    }  # fmt: skip
    assert len(hall.station.children()) == 1


def test_it_inspects_and_finds_what_the_cpu_twin_finds(hall: Hall, twin: CpuTwin) -> None:
    results = wait_completed(hall, 0, 12)
    assert failed(results) == []
    twin.assert_agrees(results)
    assert any(result.defects for result in results), "pictures without a fault show nothing"
    assert {result.model.target for result in results} == {Target.RK3588}
    assert_no_gap(hall)
    telemetry = hall.mes.latest("telemetry/inspection")
    assert telemetry is not None
    assert telemetry["model"]["runtime"] == "rknn"
    assert telemetry["model"]["runtimeVersion"] == "2.5.0 (emulated)"
    assert telemetry["latencyMs"]["inference"]["p50"] > 0


def test_a_better_model_takes_over_and_no_frame_is_lost(hall: Hall, twin: CpuTwin) -> None:
    before = len(hall.in_order())
    report = wait_end(hall, want(hall, ZOO / f"pcb-unet-{SECOND}"))
    assert report.phase is Phase.COMMITTED, report.last_error
    assert (report.version, version_now(hall)) == (SECOND, SECOND)
    assert report.measured["selfTestAgreement"] >= 0.92
    results = wait_completed(hall, len(hall.in_order())) and hall.in_order()[before:]
    versions = [version for version, _ in itertools.groupby(result.model.version for result in results)]
    assert versions == [FIRST, SECOND]
    assert failed(results) == []
    twin.assert_agrees(results)
    assert_no_gap(hall)


def of_another_chip(bundle: Path) -> Path:
    """The manifest says that it is for RK3588."""
    shutil.copy(bundle / "model-rk3568.rknn", bundle / "model-rk3588.rknn")
    return seal(bundle)


def for_other_chips(bundle: Path) -> Path:
    def change(document: dict[str, list[dict[str, str]]]) -> None:
        document["variants"] = [each for each in document["variants"] if each["target"] != "rk3588"]

    return edit(bundle, change)


@pytest.mark.parametrize(
    ("spoil", "seen_in"),
    [
        pytest.param(of_another_chip, Phase.VERIFYING, id="the manifest lies"),
        pytest.param(for_other_chips, Phase.DOWNLOADING, id="none for this chip"),
    ],
)
def test_a_model_for_another_chip_is_rejected_before_the_npu_sees_it(
    hall: Hall, npu: EmulatedNpu, twin: CpuTwin, spoil: Callable[[Path], Path], seen_in: Phase
) -> None:
    before, old = len(hall.in_order()), version_now(hall)
    npu.behave(CRASHED_AT_LOAD)
    report = wait_end(hall, want(hall, spoil(candidate(hall))))
    assert report.phase is Phase.REJECTED
    assert report.last_error is not None
    assert report.last_error.code is FailureCode.MODEL_WRONG_TARGET
    assert [each.phase for each in report.phases][-2:] == [seen_in, Phase.REJECTED]
    assert_the_old_model_went_on(hall, before, twin, old)


def test_a_model_that_is_too_new_for_the_runtime_is_rejected(hall: Hall, npu: EmulatedNpu, twin: CpuTwin) -> None:
    before, old = len(hall.in_order()), version_now(hall)
    npu.behave(runtime_version="1.6.0", newest_format=5)
    report = wait_end(hall, want(hall, candidate(hall)))
    assert report.phase is Phase.REJECTED
    assert report.last_error is not None
    assert report.last_error.code is FailureCode.RUNTIME_TOO_OLD
    assert "Invalid RKNN model version 6" in report.last_error.text
    assert_the_old_model_went_on(hall, before, twin, old)


def test_a_candidate_that_the_npu_computes_wrongly_is_caught_by_its_golden_frames(
    hall: Hall, npu: EmulatedNpu, twin: CpuTwin
) -> None:
    before, old = len(hall.in_order()), version_now(hall)
    report = wait_end(hall, want(hall, miscomputed(candidate(hall), npu)))
    assert report.phase is Phase.REJECTED
    assert report.last_error is not None
    assert report.last_error.code is FailureCode.SELF_TEST_FAILED
    assert report.measured["selfTestAgreement"] < 0.5
    assert [each.phase for each in report.phases][-2:] == [Phase.SELF_TEST, Phase.REJECTED]
    assert_the_old_model_went_on(hall, before, twin, old)


@pytest.mark.parametrize("fits_alone", [False, True], ids=["not even alone", "alone"])
def test_where_memory_is_short_the_candidate_gets_the_place_of_the_old_model(
    hall: Hall, npu: EmulatedNpu, twin: CpuTwin, fits_alone: bool
) -> None:
    before, old = len(hall.in_order()), version_now(hall)
    npu.behave(BoardFault(stage="init", action="fail", code=-4, calls=1 if fits_alone else 2))
    bundle = candidate(hall)
    report = wait_end(hall, want(hall, bundle))
    new = json.loads((bundle / "manifest.json").read_text())["version"]
    if fits_alone:
        assert report.phase is Phase.COMMITTED, report.last_error
    else:
        assert report.phase is Phase.REJECTED, report.last_error
        assert report.last_error is not None
        assert report.last_error.code is FailureCode.NPU_OUT_OF_MEMORY
    tries = [each.phase for each in report.phases].count(Phase.DOWNLOADING)
    assert tries == 1, "it was tried again beside the old model, not in its place"
    results = wait_completed(hall, len(hall.in_order())) and hall.in_order()[before:]
    assert version_now(hall) == results[-1].model.version == (new if fits_alone else old)
    assert failed(results) == []
    twin.assert_agrees(results)
    assert_no_gap(hall)


@pytest.mark.parametrize(
    ("action", "told"),
    [
        ("crash", (FailureCode.NPU_CRASHED, "SIGSEGV")),
        ("hang", (FailureCode.NPU_HUNG, "E RKNN: last words")),
    ],
    ids=["crash", "hang"],
)
def test_the_frame_that_the_library_dies_of_is_a_fault_and_the_next_is_inspected(
    hall: Hall, npu: EmulatedNpu, twin: CpuTwin, action: str, told: tuple[FailureCode, str]
) -> None:
    before, children, (code, words) = len(hall.in_order()), hall.station.children(), told
    npu.behave(BoardFault.model_validate({"stage": "run", "action": action, "text": "last words", "calls": 1}))
    hall.mes.wait("the fault", lambda: failed(hall.in_order()[before:]) != [], WITHIN_S)
    fell = time.monotonic()
    (fault,) = failed(hall.in_order()[before:])
    wait_completed(hall, fault.sequence_number, 1)
    print(f"after a {action} the next result came {time.monotonic() - fell:.1f} s after the fault's")
    results = wait_completed(hall, fault.sequence_number) and hall.in_order()[before:]
    assert failed(results) == [fault]
    assert (fault.result_evaluation, fault.defects) == (Evaluation.UNDEFINED, [])
    assert fault.fault is not None
    assert fault.fault.code is code
    assert words in fault.fault.text
    twin.assert_agrees(completed(results))
    assert_no_gap(hall)
    hall.mes.wait("the end of the alarm", lambda: hall.mes.latest(f"alarm/{code.value}") is None)
    assert [event["kind"] for event in hall.events(code)][-2:] == ["raised", "cleared"]
    assert len(hall.station.children()) == 1
    assert hall.station.children() != children
