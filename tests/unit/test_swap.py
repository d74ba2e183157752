"""What a reader makes of a change of the model, from the stream of results alone."""

from datetime import UTC, datetime, timedelta

import pytest

from fleet.core.swap import Mark, gaps, phases
from schemas.state import Phase, PhaseTime, ReportedModel

BEGAN = datetime(2026, 1, 1, tzinfo=UTC)


def mark(at_ms: float, number: int, *, failed: bool = False) -> Mark:
    return Mark(BEGAN + timedelta(milliseconds=at_ms), number, "1", failed)


def steady(first: int = 1, count: int = 20) -> list[Mark]:
    """Every 100 ms, the last one at the change."""
    return [mark(-100.0 * (count - i), first + i) for i in range(count)]


@pytest.mark.parametrize(
    ("during", "longest", "lost"),
    [
        pytest.param([mark(50, 21), mark(150, 22), mark(250, 23)], 150, 0, id="nothing happens"),
        pytest.param([mark(50, 21), mark(250, 22), mark(350, 23)], 200, 0, id="a gap in the middle"),
        pytest.param([mark(190, 21), mark(250, 22)], 290, 0, id="a gap at the beginning"),
        pytest.param([mark(50, 21), mark(150, 23), mark(250, 24)], 150, 1, id="a number is missing"),
        pytest.param([mark(50, 21), mark(150, 22, failed=True), mark(250, 23)], 150, 1, id="a frame was not inspected"),
    ],
)
def test_gaps_and_losses_of_a_swap_are_those_of_its_results(during: list[Mark], longest: float, lost: int) -> None:
    after = mark(during[-1].at.timestamp() * 1e3 - BEGAN.timestamp() * 1e3 + 100, during[-1].number + 1)
    found = gaps([*reversed(during), *steady(), after], BEGAN, BEGAN + timedelta(milliseconds=260))
    assert found is not None
    assert found.longest == pytest.approx(longest)
    assert found.steady_p99 == pytest.approx(100)
    assert found.lost == lost


@pytest.mark.parametrize("marks", [[], steady(), [mark(-1, 1), mark(300, 2)]], ids=["none", "no after", "no before"])
def test_without_results_on_either_side_there_is_nothing_to_say(marks: list[Mark]) -> None:
    assert gaps(marks, BEGAN, BEGAN + timedelta(milliseconds=260)) is None


def test_phases_have_lengths_but_for_the_last() -> None:
    times = [PhaseTime(phase=phase, time=BEGAN + timedelta(seconds=i)) for i, phase in enumerate(
        (Phase.QUEUED, Phase.DOWNLOADING, Phase.REJECTED))]  # fmt: skip
    report = ReportedModel(observed_generation=1, phase=Phase.REJECTED, time=BEGAN, phases=times)
    assert [(each["phase"], each["ms"]) for each in phases(report)] == [
        ("QUEUED", 1000.0), ("DOWNLOADING", 1000.0), ("REJECTED", None),
    ]  # fmt: skip
