"""Which pictures are chosen to calibrate with, and how well they cover the scene."""

import importlib
from pathlib import Path

import cv2
import numpy as np
import pytest

from modelkit.calibration import Coverage, EmptyCalibration, Grid, Look, choose, coverage, look, looks_of
from modelkit.data import Sample


def scene(count: int = 200, seed: int = 0) -> list[Look]:
    """Mostly alike, with a few bright and a few dark pictures."""
    rng = np.random.default_rng(seed)
    usual = [Look(f"usual-{i}", float(b), float(c)) for i, (b, c) in enumerate(rng.normal((120, 40), 3, (count, 2)))]
    odd = [Look(f"odd-{i}", b, c) for i, (b, c) in enumerate(((20.0, 5.0), (240.0, 10.0), (60.0, 90.0), (200.0, 60.0)))]
    return usual + odd


def test_rare_light_is_chosen_too() -> None:
    chosen = choose(scene(), 24)
    assert {each.id for each in chosen} >= {"odd-0", "odd-1", "odd-2", "odd-3"}
    assert len(chosen) == len({each.id for each in chosen}) == 24
    assert coverage(scene(), chosen).share == 1.0


def test_the_choice_covers_more_than_the_first_pictures_do() -> None:
    population = scene()
    assert coverage(population, choose(population, 30)).share > coverage(population, population[:30]).share


def test_the_same_pictures_in_another_order_give_the_same_choice() -> None:
    population = scene()
    again = choose(population[::-1], 30)
    assert choose(population, 30) == again
    assert choose(population, 30, seed=1) == again


def test_the_seed_decides_between_pictures_that_look_the_same() -> None:
    alike = [Look(f"{number:03}", 100.0, 20.0) for number in range(50)]
    assert choose(alike, 5, seed=1) != choose(alike, 5, seed=2)


def test_within_a_cell_those_far_apart_are_chosen() -> None:
    cell = [Look(str(value), 97.0 + value / 10, 33.0) for value in range(100)]
    chosen = sorted(float(each.id) for each in choose(cell, 3))
    assert chosen[0] == 0
    assert chosen[2] == 99
    assert 40 < chosen[1] < 60


@pytest.mark.parametrize(
    ("chosen", "words"),
    [
        pytest.param(scene()[:5], "only 5 pictures", id="few"),
        pytest.param(scene()[:60], "cover", id="the usual light alone"),
        pytest.param([Look(str(i), 120.0, 40.0) for i in range(30)], "alike", id="all the same"),
        pytest.param(scene(), None, id="all"),
    ],
)
def test_thin_coverage_is_warned_of(chosen: list[Look], words: str | None) -> None:
    warnings = coverage(scene(), chosen).warnings
    assert warnings == () if words is None else any(words in each for each in warnings)


def test_coverage_counts_pictures_by_cell_and_tells_the_ranges() -> None:
    two = Grid(2, 2)
    covered = coverage([Look("a", 10, 10), Look("b", 200, 10), Look("c", 250, 100)], [Look("a", 10, 10)], two)
    assert covered.population == ((1, 1), (0, 1))
    assert covered.chosen == ((1, 0), (0, 0))
    assert covered.share == pytest.approx(1 / 3, abs=1e-4)
    assert covered.brightness_range == (10.0, 10.0)


def test_an_empty_set_is_an_error() -> None:
    with pytest.raises(EmptyCalibration, match="empty"):
        choose([], 5)
    with pytest.raises(EmptyCalibration, match="empty"):
        coverage(scene(), [])


def test_senseless_numbers_are_refused() -> None:
    with pytest.raises(ValueError, match="0 pictures"):
        choose(scene(), 0)
    with pytest.raises(ValueError, match="at least one cell"):
        Grid(0, 4)


def test_brightness_and_contrast_are_those_of_luma() -> None:
    picture = np.zeros((4, 4, 3), np.uint8)
    picture[:2, :, 1] = 100
    seen = look("half green", picture)
    assert seen.brightness == pytest.approx(29.35, abs=0.01)
    assert seen.contrast == pytest.approx(29.35, abs=0.01)
    assert looks_of([Sample("half green", picture, np.zeros((4, 4), np.uint8))]) == [seen]


def test_pictures_at_the_ends_fall_into_the_last_cells() -> None:
    assert Grid(4, 4).cell(Look("white", 255.0, 127.9)) == (3, 3)
    assert Grid(4, 4).cell(Look("beyond", 256.0, 128.0)) == (3, 3)


@pytest.mark.torch
def test_the_coverage_is_drawn(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib", reason="the extra modelkit is not installed")
    plot = importlib.import_module("modelkit.calibration_plot").plot
    covered: Coverage = coverage(scene(), choose(scene(), 24))
    plot(covered, tmp_path / "coverage.png")
    drawn = cv2.imread(str(tmp_path / "coverage.png"))
    assert drawn is not None
    assert drawn.shape == (360, 480, 3)
    assert [each.name for each in tmp_path.iterdir()] == ["coverage.png"]
