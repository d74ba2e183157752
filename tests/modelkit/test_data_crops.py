"""Looks of crops: repeatable, of one picture alone, and what the library and OpenCV both say they are."""

import importlib
from typing import Any

import cv2
import numpy as np
import pytest

from modelkit.data import DataError, Sample
from modelkit.data.crops import Augment, crops
from modelkit.data.look import PLAIN, Look, drawn

PLAIN_SHARES = Augment().scaled_by(0.0)
EVERYTHING = Augment(scaled=1, misplaced=1, worn=1, lit=1, noisy=1, blurred=1, coloured=1)


def a_picture() -> np.ndarray:
    rng = np.random.default_rng(5)
    return cv2.GaussianBlur(rng.integers(60, 180, (64, 48, 3)).astype(np.uint8), (0, 0), 2)


def a_pair(seed: int) -> Sample:
    rng = np.random.default_rng(seed)
    reference = np.repeat(rng.integers(0, 2, (25, 25, 1)).astype(np.uint8) * 255, 8, 0).repeat(8, 1).repeat(3, 2)
    mask = np.zeros((200, 200), np.uint8)
    mask[90:120, 60:80] = 2
    return Sample("a", np.where(mask[:, :, None] > 0, 255 - reference, reference).astype(np.uint8), mask, reference)


@pytest.fixture
def seen() -> Any:
    pytest.importorskip("kornia", reason="the extra modelkit is not installed")
    return importlib.import_module("modelkit.data.look_kornia").seen


def test_shares_of_none_and_all_decide() -> None:
    rng = np.random.default_rng(1)
    assert {drawn(rng, PLAIN_SHARES) for _ in range(20)} == {PLAIN}
    assert all(None not in (look.blur_px, look.light, look.noise, look.colour) for look in [drawn(rng, EVERYTHING)])


def test_without_samples_it_is_said() -> None:
    with pytest.raises(DataError, match="no samples"):
        next(crops([], 32, 1))


def test_pictures_smaller_than_the_crop_are_enlarged_with_their_masks() -> None:
    small = Sample("a", a_picture(), np.full((64, 48), 1, np.uint8))
    crop = next(crops([small], 96, 1, PLAIN_SHARES))
    assert crop.image.shape == (96, 96, 3)
    assert (crop.mask == 1).all()


@pytest.mark.torch
def test_crops_with_every_fault_are_the_same_for_a_seed_and_another_for_another(seen: Any) -> None:
    first, again, other = (crops([a_pair(1), a_pair(2)], 64, seed, EVERYTHING) for seed in (3, 3, 4))
    for _ in range(6):
        a, b, c = next(first), next(again), next(other)
        assert a.reference is not None
        assert b.reference is not None
        assert np.array_equal(a.image, b.image)
        assert np.array_equal(a.mask, b.mask)
        assert np.array_equal(a.reference, b.reference)
        assert not np.array_equal(a.image, c.image)


@pytest.mark.torch
def test_looks_leave_mask_and_picture_aligned(seen: Any) -> None:
    how = Augment(aimed=1.0, misplaced=0, worn=0, lit=1, noisy=1, blurred=1)
    plain, looked = crops([a_pair(1)], 64, 9, how.scaled_by(0)), crops([a_pair(1)], 64, 9, how)
    for _ in range(6):
        crop = next(looked)
        assert crop.reference is not None
        differ = np.abs(crop.image.astype(int) - crop.reference).max(axis=2)
        inner = cv2.erode(crop.mask, np.ones((9, 9), np.uint8)) > 0
        outer = cv2.dilate(crop.mask, np.ones((9, 9), np.uint8)) == 0
        if inner.any():
            assert np.median(differ[inner]) > 2 * np.median(differ[outer])
    assert next(plain).image.max() == 255


@pytest.mark.torch
@pytest.mark.parametrize(
    ("look", "expected"),
    [
        pytest.param(Look(light=(0.7, 20.0)), lambda x: np.clip(x * 0.7 + 20, 0, 255), id="light"),
        pytest.param(Look(light=(1.1, 50.0)), lambda x: np.clip(x * 1.1 + 50, 0, 255), id="light, past white"),
        pytest.param(
            Look(blur_px=0.7),
            lambda x: cv2.GaussianBlur(x, (5, 5), 0.7, borderType=cv2.BORDER_REFLECT_101),
            id="blur",
        ),
        pytest.param(Look(colour=(0.0, 1.0)), lambda x: x, id="no colour changed"),
        pytest.param(
            Look(colour=(0.0, 0.0)), lambda x: np.repeat(x.max(axis=2, keepdims=True), 3, axis=2), id="all colour taken"
        ),
    ],
)
def test_a_look_is_what_it_says(seen: Any, look: Look, expected: Any) -> None:
    picture = a_picture()
    given = seen(picture, look, np.random.default_rng(1))
    assert given.dtype == np.uint8
    assert np.abs(given.astype(float) - expected(picture.astype(np.float32))).max() <= 1


@pytest.mark.torch
def test_grain_is_as_coarse_as_asked_and_grey(seen: Any) -> None:
    flat = np.full((128, 128, 3), 120, np.uint8)
    grain = seen(flat, Look(noise=8.0), np.random.default_rng(1)).astype(int) - 120
    assert grain.std() == pytest.approx(8.0, rel=0.05)
    assert (grain == grain[:, :, :1]).all()
