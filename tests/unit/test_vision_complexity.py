"""How busy a picture is: on drawn boards, under many lights, lenses and sensors."""

from functools import cache
from itertools import pairwise, product

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.core.frame import Layout, Picture, Pixels
from agent.core.vision import View, complexity, prepare
from agent.core.vision.boards import artwork, shoot
from agent.core.vision.boards.shoot import Look
from modelkit import synthesise
from schemas.manifest import Clahe, Letterbox, Tile

SIDE = 448
PITCHES = (None, 40.0, 26.0, 16.0)
"""From a bare belt, None, to a board of fine lines."""
GREEN, BLACK, COPPER = ((18, 74, 42), (52, 134, 74)), ((26, 27, 30), (74, 76, 78)), ((104, 100, 66), (206, 138, 90))


def _view(
    size_hw: tuple[int, int] = (SIDE, SIDE), fit: Letterbox | Tile | None = None, clahe: Clahe | None = None
) -> View:
    return View(size_hw, None, fit or Letterbox(), clahe, ("image",), ("background",), bytes(256), (0,))


def _of(rgb: Pixels, view: View | None = None) -> float:
    return complexity(prepare(Picture(rgb, Layout.RGB), view or _view()))


@cache
def _ground(pitch_px: float | None, seed: int) -> Pixels:
    if pitch_px is None:
        return np.zeros((SIDE, SIDE), np.uint8)
    art = artwork.draw(np.random.default_rng(seed), SIDE, SIDE, pitch_px)
    return shoot.materials(art, art.copper)


def _shot(pitch_px: float | None, seed: int, colours: tuple[tuple[int, ...], ...], look: tuple[float, ...]) -> Pixels:
    """`look` is gain, blur in pixels, noise in grey levels."""
    gain, blur_px, noise = look
    palette = np.array([(60, 60, 60), *colours, (212, 178, 96), (22, 22, 24), (226, 226, 222)], np.uint8)
    how = Look(palette, blur_px, noise, (gain, 0.1, -0.1), binarised=False)
    still = np.array([[1.0, 0.0, 0.0], [0.0, 1.0, 0.0]])
    return shoot.expose(shoot.paint(_ground(pitch_px, seed), still, how, SIDE, SIDE), how, np.random.default_rng(seed))


def test_a_busier_scene_scores_higher_whatever_the_light_the_lens_and_the_sensor() -> None:
    looks = list(product((0.4, 1.35), ((0.3, 1.0), (2.0, 12.0))))
    ranges = []
    for pitch_px in PITCHES:
        scores = [
            _of(_shot(pitch_px, 1, colours, (gain, *rest)))
            for colours in (GREEN, BLACK, COPPER)
            for gain, rest in looks
        ]
        ranges.append((min(scores), max(scores)))
    assert ranges[0][1] < 0.05
    belt, coarse, _, fine = ranges
    assert belt[1] < coarse[0]
    assert coarse[1] < fine[0], "the calmest fine board is busier than the busiest coarse one"
    assert all(a[0] < b[0] and a[1] < b[1] for a, b in pairwise(ranges))


def test_pictures_of_training_are_busy_and_a_letterbox_does_not_count() -> None:
    samples = [sample.image for sample in synthesise.validation(3, SIDE)]
    assert min(map(_of, samples)) > 0.05
    for rgb in samples:
        wide = np.ascontiguousarray(rgb[: SIDE // 2])
        assert _of(wide) == _of(wide, _view((SIDE // 2, SIDE))), "filled up above and below, and not at all"
    flat = np.full((100, 448, 3), 200, np.uint8)
    assert _of(flat) == 0, "the edge between picture and fill"


@pytest.mark.parametrize("pitch_px", PITCHES)
def test_light_and_the_models_input_size_hardly_matter(pitch_px: float | None) -> None:
    reference = _of(_shot(pitch_px, 3, GREEN, (1.0, 0.5, 2.0)))
    for gain in (0.45, 0.7, 1.3):
        assert _of(_shot(pitch_px, 3, GREEN, (gain, 0.5, 2.0))) == pytest.approx(reference, abs=0.1)
    rgb = _shot(pitch_px, 3, GREEN, (1.0, 0.5, 2.0))
    for size in (224, 320, 640):
        assert _of(rgb, _view((size, size))) == pytest.approx(reference, abs=0.05)


def test_equalisation_and_tiles_do_not_change_it() -> None:
    rgb = _shot(26.0, 3, GREEN, (1.0, 0.5, 2.0))
    assert _of(rgb, _view(clahe=Clahe())) == _of(rgb)
    assert _of(rgb, _view((224, 224), Tile(overlap_px=16))) == _of(rgb)


def test_a_small_fault_on_a_plain_part_is_not_structure() -> None:
    rgb = np.full((SIDE, SIDE, 3), 120, np.uint8)
    cv2.circle(rgb, (200, 200), 4, (20, 20, 20), -1)
    assert _of(rgb) < 0.01


@settings(deadline=None, max_examples=60)
@given(st.integers(1, 900), st.integers(1, 900), st.integers(0, 2**32 - 1), st.booleans())
def test_any_picture_has_a_complexity_from_0_to_1(height: int, width: int, seed: int, plain: bool) -> None:
    rng = np.random.default_rng(seed)
    rgb = (
        np.full((height, width, 3), seed % 256, np.uint8)
        if plain
        else rng.integers(0, 256, (height, width, 3), np.uint8)
    )
    score = _of(rgb, _view((64, 64), Tile(overlap_px=0)))
    assert 0 <= score <= 1
    if plain:
        assert score == 0
