"""What a self-test makes of its measurements."""

from datetime import UTC, datetime
from itertools import pairwise

import pytest

from agent.drive import percentiles
from agent.selftest import judge, measure
from agent.selftest.text import as_text
from schemas.job import Percentiles
from schemas.selftest import (
    BoardFacts,
    CameraFacts,
    CoreFacts,
    Finding,
    Outcome,
    Sample,
    SelfTest,
    TogetherFacts,
    Trend,
)
from schemas.target import Target

MS = Percentiles(p50=1.0, p95=2.0, max=3.0)
OK, LOOK, FAILED = Outcome.OK, Outcome.LOOK, Outcome.FAILED


def sample(at_s: float, hot_c: float | None = 50.0, hz: int | None = None, memory_bytes: int = 10**8) -> Sample:
    heat = {} if hot_c is None else {"soc": 20.0, "npu": hot_c}
    return Sample(
        at_s=at_s, temperature_c=heat, npu_frequency_hz=hz, memory_bytes=memory_bytes, children_memory_bytes=1
    )


def board(target: Target, driver: str | None = None, *, load: bool = False, frequency: bool = False) -> BoardFacts:
    return BoardFacts(
        agent_version="1",
        python_version="3",
        machine="m",
        kernel="k",
        target=target,
        npu_driver=driver,
        npu_load_told=load,
        npu_frequency_told=frequency,
    )


def test_percentiles_are_of_all_values_and_nothing_has_none() -> None:
    assert percentiles([float(ms) for ms in range(101)]) == Percentiles(p50=50, p95=95, max=100)
    with pytest.raises(ValueError, match="no values"):
        percentiles([])


@pytest.mark.parametrize(
    ("points", "expected"),
    [
        ([], 0.0),
        ([(1.0, 5.0)], 0.0),
        ([(1.0, 5.0), (1.0, 9.0)], 0.0),
        ([(0.0, 1.0), (1.0, 3.0), (2.0, 5.0)], 2.0),
        ([(1e9, 1.0), (1e9 + 1, 0.0), (1e9 + 2, -1.0)], -1.0),
        ([(0.0, 0.0), (1.0, 1.0), (2.0, 0.0)], 0.0),
    ],
)
def test_a_slope_is_by_least_squares(points: list[tuple[float, float]], expected: float) -> None:
    assert measure.slope(points) == pytest.approx(expected)


def test_what_a_process_takes_while_it_starts_is_no_trend() -> None:
    start = [sample(at, memory_bytes=at * 10**7) for at in range(10)]
    later = [sample(at, memory_bytes=10**8) for at in range(10, 30)]
    found = measure.trend(start + later, lambda each: each.memory_bytes)
    assert found == Trend(start_bytes=0, end_bytes=10**8, mb_per_hour=0)


def test_a_leak_of_a_kilobyte_a_second_is_3_6_mb_an_hour() -> None:
    leak = [sample(at, memory_bytes=10**8 + at * 1000) for at in range(100)]
    found = measure.trend(leak, lambda each: each.memory_bytes)
    assert found is not None
    assert found.mb_per_hour == pytest.approx(3.6)


def test_few_samples_have_no_trend() -> None:
    assert measure.trend([sample(at) for at in range(6)], lambda each: each.memory_bytes) is None


CASES: list[tuple[str, Finding | None, Outcome | None]] = [
    ("no NPU on a laptop", judge.board(board(Target.CPU)), OK),
    ("a board without a driver", judge.board(board(Target.RK3588)), LOOK),
    ("a driver whose load is root's", judge.board(board(Target.RK3588, "0.9.8", frequency=True)), LOOK),
    ("all of the NPU", judge.board(board(Target.RK3588, "0.9.8", load=True, frequency=True)), OK),
    ("cool", judge.temperature([sample(0), sample(1, 79)]), OK),
    ("warm", judge.temperature([sample(0), sample(1, 80)]), LOOK),
    ("hot for a moment", judge.temperature([sample(0), sample(1, 90), sample(2, 50)]), FAILED),
    ("no thermal zone", judge.temperature([sample(0, None)]), LOOK),
    ("no frequency", judge.throttling([sample(0)]), None),
    ("one clock", judge.throttling([sample(0, hz=10**9), sample(1, hz=10**9)]), OK),
    ("throttled", judge.throttling([sample(0, hz=10**9), sample(1, hz=9 * 10**8)]), LOOK),
    ("synchronised", judge.clock(synced=True, offset_ms=None), OK),
    ("not synchronised", judge.clock(synced=False, offset_ms=None), LOOK),
    ("clock unknown", judge.clock(synced=None, offset_ms=None), LOOK),
    ("a short run that grows", judge.memory("memory", Trend(start_bytes=1, end_bytes=9, mb_per_hour=99), 60), OK),
    ("a long run that grows", judge.memory("memory", Trend(start_bytes=1, end_bytes=9, mb_per_hour=99), 3600), FAILED),
    ("a long run that is flat", judge.memory("memory", Trend(start_bytes=1, end_bytes=1, mb_per_hour=0.1), 3600), OK),
    ("too few samples", judge.memory("memory", None, 3600), LOOK),
]


@pytest.mark.parametrize(("found", "outcome"), [case[1:] for case in CASES], ids=[case[0] for case in CASES])
def test_a_verdict(found: Finding | None, outcome: Outcome | None) -> None:
    assert (found and found.outcome) == outcome


@pytest.mark.parametrize(
    ("cores", "ratio", "shared", "outcome"),
    [(1, 0.5, False, OK), (3, 0.95, False, OK), (3, 0.84, False, LOOK), (3, 0.99, True, LOOK)],
)
def test_cores_that_hold_each_other_up_are_told(cores: int, ratio: float, shared: bool, outcome: Outcome) -> None:
    facts = TogetherFacts(seconds=1, calls=1, rate_hz=1, ratio=ratio, call_ms=MS)
    assert judge.together(facts, cores, is_shared=shared).outcome is outcome


@pytest.mark.parametrize(("agreement", "outcome"), [(1.0, OK), (0.99, OK), (0.98, FAILED)])
def test_a_core_that_computes_wrong_numbers_has_failed(agreement: float, outcome: Outcome) -> None:
    facts = CoreFacts(load_ms=1, golden_frames=2, least_agreement=agreement, calls=1, rate_hz=1, call_ms=MS)
    found = judge.golden("core-1", facts, 0.99)
    assert (found.what, found.outcome) == ("core-1.golden", outcome)


@pytest.mark.parametrize(("wanted_hz", "outcome"), [(None, OK), (10.0, OK), (30.0, LOOK)])
def test_a_camera_slower_than_asked_for_is_told(wanted_hz: float | None, outcome: Outcome) -> None:
    facts = CameraFacts(width_px=640, height_px=480, layout="nv12", frames=30, rate_hz=9.5)
    assert judge.camera("top", facts, wanted_hz).outcome is outcome


def test_the_text_is_aligned_and_ends_with_what_failed() -> None:
    findings = [judge.failed("broker", "gone"), judge.ok("clock", "synchronised"), judge.look("npu", "hidden")]
    report = SelfTest(
        time=datetime(2030, 1, 1, tzinfo=UTC),
        seconds=2,
        asked_seconds=60,
        is_ended_early=True,
        is_agent_running=False,
        ok=judge.is_well(findings),
        board=board(Target.CPU),
        findings=findings,
    )
    lines = as_text(report).splitlines()
    assert [line.split()[0] for line in lines[2:5]] == ["OK", "look", "FAILED"]
    columns = [line.index(text) for line, text in zip(lines[2:5], ("synchronised", "hidden", "gone"), strict=True)]
    assert all(before == after for before, after in pairwise(columns))
    assert lines[-1] == "1 OK, 1 to look at, 1 failed in 2 s, ended early"
    assert not report.ok
