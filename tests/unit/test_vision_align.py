"""A golden reference laid over a picture that was taken from a slightly other place."""

import cv2
import numpy as np
import pytest

from agent.core.frame import Layout, Picture, Pixels
from agent.core.vision.align import Alignment, Golden, Limits, align, laid
from agent.core.vision.boards import artwork, shoot


def board(seed: int = 3, size_px: int = 320) -> Pixels:
    """A drawn board in green."""
    rng = np.random.default_rng(seed)
    art = artwork.draw(rng, size_px, size_px, 24.0)
    look = shoot.random_look(np.random.default_rng(1))
    flat = np.array([[1.0, 0.0, 0.0], [0.0, 1.0, 0.0]])
    return shoot.paint(shoot.materials(art, art.copper), flat, look, size_px, size_px)


def moved(rgb: Pixels, shift: tuple[float, float], angle_deg: float = 0.0, scale: float = 1.0) -> Pixels:
    high, wide = rgb.shape[:2]
    matrix = cv2.getRotationMatrix2D(((wide - 1) / 2, (high - 1) / 2), angle_deg, scale)
    matrix[:, 2] += np.array(shift)
    return np.asarray(cv2.warpAffine(rgb, matrix, (wide, high), borderMode=cv2.BORDER_REFLECT), np.uint8)


def aligned(picture: Pixels, reference: Pixels, limits: Limits | None = None) -> Alignment:
    return align(Picture(picture, Layout.RGB), Golden.of(Picture(reference, Layout.RGB)), limits)


@pytest.mark.parametrize(
    ("shift", "angle_deg", "within_px"),
    [
        pytest.param((0, 0), 0.0, 0.0, id="in place: not a pixel is touched"),
        pytest.param((7, -4), 0.0, 0.0, id="shifted by whole pixels: exactly"),
        pytest.param((-21, 16), 0.0, 0.0, id="shifted far"),
        pytest.param((3, 5), 1.0, 2.0, id="shifted and turned"),
        pytest.param((-6, 2), -2.0, 2.0, id="turned the other way"),
    ],
)
def test_the_movement_is_found(shift: tuple[int, int], angle_deg: float, within_px: float) -> None:
    reference = board()
    found = aligned(moved(reference, shift, angle_deg), reference)
    assert found.misfit is None
    there = cv2.getRotationMatrix2D((159.5, 159.5), angle_deg, 1.0)
    there[:, 2] += shift
    back = cv2.invertAffineTransform(there)
    points = np.array([[60.0, 260.0, 160.0], [60.0, 80.0, 240.0], [1.0, 1.0, 1.0]])
    assert np.abs(found.matrix @ points - back @ points).max() <= within_px
    assert found.shift_px == pytest.approx(np.hypot(*shift), abs=1.0)
    assert abs(found.angle_deg) == pytest.approx(abs(angle_deg), abs=0.4)


def test_light_contrast_and_a_defect_do_not_mislead_it() -> None:
    reference = board()
    picture = moved(reference, (5, 9))
    picture = np.clip(picture * 0.6 + 40, 0, 255).astype(np.uint8)
    cv2.circle(picture, (150, 150), 12, (10, 10, 10), -1)
    found = aligned(picture, reference)
    assert found.misfit is None
    assert np.abs(found.matrix - [[1, 0, -5], [0, 1, -9]]).max() == 0


def test_a_large_picture_is_measured_small_and_still_found_within_a_pixel() -> None:
    reference = np.asarray(cv2.resize(board(size_px=512), (1600, 1600), interpolation=cv2.INTER_CUBIC), np.uint8)
    found = aligned(moved(reference, (20, -13)), reference)
    assert np.abs(found.matrix - [[1, 0, -20], [0, 1, 13]]).max() < 1


@pytest.mark.parametrize(
    ("picture", "limits", "says"),
    [
        pytest.param(board(seed=8), Limits(), "view", id="another board"),
        pytest.param(np.full((320, 320, 3), 90, np.uint8), Limits(), "view", id="nothing to see"),
        pytest.param(moved(board(), (12, 0)), Limits(max_shift_px=10), "off the reference by 12 px", id="too far"),
        pytest.param(moved(board(), (0, 0), 2.0), Limits(max_angle_deg=1), "turned", id="turned too much"),
        pytest.param(moved(board(), (0, 0), 0.0, 1.02), Limits(max_scale_change=0.01), "scaled", id="too near"),
    ],
)
def test_a_picture_of_something_else_is_a_misfit_with_a_reason(picture: Pixels, limits: Limits, says: str) -> None:
    found = aligned(picture, board(), limits)
    assert found.misfit is not None
    assert says in found.misfit


def test_a_laid_reference_shows_no_difference_where_nothing_differs() -> None:
    reference = board()
    picture = Picture(moved(reference, (14, 6)), Layout.RGB)
    golden = Golden.of(Picture(reference, Layout.RGB))
    over = laid(golden, align(picture, golden), picture)
    assert over.layout is Layout.RGB
    assert np.array_equal(over.pixels, picture.pixels), "whole pixels are kept, the rim is the picture's own"


def test_a_picture_in_nv12_is_aligned_too() -> None:
    reference = board()
    picture = moved(reference, (6, 4))
    yuv = cv2.cvtColor(picture, cv2.COLOR_RGB2YUV_I420)
    high, wide = picture.shape[:2]
    planes = yuv[high:].reshape(2, high // 2 * wide // 2)
    nv12 = np.concatenate([yuv[:high].ravel(), planes.T.ravel()]).reshape(high * 3 // 2, wide)
    golden = Golden.of(Picture(reference, Layout.RGB))
    found = align(Picture(np.ascontiguousarray(nv12), Layout.NV12), golden)
    assert np.abs(found.matrix - [[1, 0, -6], [0, 1, -4]]).max() == 0
    assert laid(golden, found, Picture(nv12, Layout.NV12)).pixels.shape == picture.shape


@pytest.mark.parametrize(
    ("picture", "reference", "says"),
    [
        pytest.param(board(size_px=256), board(), "not of the picture's size", id="another size"),
        pytest.param(board(), np.zeros((48, 48, 3), np.uint8), "too small", id="a tiny reference"),
        pytest.param(np.zeros((320, 320), np.uint8), board(), "RGB is", id="not what the layout says"),
    ],
)
def test_what_cannot_be_compared_is_refused(picture: Pixels, reference: Pixels, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        aligned(picture, reference)
