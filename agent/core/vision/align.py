"""Lays a golden reference over a camera's picture, so that a model can compare the two.

It is the reference that is moved: results stay in the pixels of the picture as the camera gave it. What the moved
reference does not cover is taken from the picture itself, so that no difference, and no defect, is seen there.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Self

import cv2
import numpy as np
import numpy.typing as npt

from agent.core.frame import Layout, Picture, Pixels
from agent.core.vision import colour

Matrix = npt.NDArray[np.float64]
Grey = npt.NDArray[np.float32]

WORKING_PX = 640
"""Longest side at which the movement is measured."""
_BLUR_PX = 0.8
_GRID = 6
_REACH_PX = 16
_LEAST_TEXTURE = 8.0
_LEAST_PATCHES = 5
_AGREE_PX = 1.5
_ALIKE = 0.975
"""From here on a shift alone will do."""
_CRITERIA = (cv2.TERM_CRITERIA_COUNT | cv2.TERM_CRITERIA_EPS, 40, 1e-5)
_GAIN = 0.01
"""A turn must raise the likeness by this much: where a shift will do, the reference's own pixels stay as they are."""


@dataclass(frozen=True, slots=True)
class Limits:
    """What still counts as the same view. Shift in camera pixels at the picture's middle; `min_likeness` is the
    correlation of the two pictures once they are laid over each other, 1 for the same but for light and contrast.
    """

    max_shift_px: float = 48.0
    max_angle_deg: float = 3.0
    max_scale_change: float = 0.03
    min_likeness: float = 0.6


@dataclass(frozen=True, slots=True)
class Golden:
    """The reference as it is, in RGB, and what is needed of it for every picture, worked out once."""

    rgb: Pixels
    small: Grey
    scale: float

    @classmethod
    def of(cls, reference: Picture) -> Self:
        """Errors: ValueError for a picture that is not what its layout says, or is smaller than 64 px on a side."""
        rgb = colour.to_rgb(reference)
        if min(rgb.shape[:2]) < 64:
            raise ValueError(f"a reference of {rgb.shape[1]}x{rgb.shape[0]} pixels is too small to align with")
        scale = min(1.0, WORKING_PX / max(rgb.shape[:2]))
        return cls(rgb, _small(_luma(Picture(rgb, Layout.RGB)), scale), scale)


@dataclass(frozen=True, slots=True, eq=False)
class Alignment:
    """`matrix` (2, 3) takes camera pixels of the picture to those of the reference. `misfit` is for people, and None
    where the reference fits; without a fit nothing can be decided.
    """

    matrix: Matrix
    shift_px: float
    angle_deg: float
    scale_change: float
    likeness: float
    misfit: str | None


def align(picture: Picture, golden: Golden, limits: Limits | None = None) -> Alignment:
    """Measure how the reference lies to the picture: the shift by normalised correlation, which light and contrast do
    not touch; then turn and scale, first by matching patches, then by climbing (OpenCV's ECC), each where it makes the
    two more alike.

    Errors: ValueError for a picture that is not what its layout says, or of another size than the reference.
    """
    limits = limits or Limits()
    colour.check(picture)
    frame_hw = (picture.height_px, picture.width_px)
    if frame_hw != golden.rgb.shape[:2]:
        high, wide = golden.rgb.shape[:2]
        raise ValueError(f"the reference of {wide}x{high} px is not of the picture's size {frame_hw[1]}x{frame_hw[0]}")
    small = _small(_luma(picture), golden.scale)
    matrix = _shift(small, golden, limits)
    likeness = _likeness(small, golden.small, matrix)
    for turn in (_by_patches, _by_gradient):
        if likeness > _ALIKE:
            break
        turned = turn(small, golden.small, matrix)
        if turned is not None and (better := _likeness(small, golden.small, turned)) > likeness + _GAIN:
            matrix, likeness = turned, better
    return _judged(_at_full_size(matrix, golden.scale), frame_hw, likeness, limits)


def laid(golden: Golden, alignment: Alignment, picture: Picture) -> Picture:
    """The reference as the camera would have seen it in the place of `picture`, RGB and of its size."""
    high, wide = golden.rgb.shape[:2]
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    moved = cv2.warpAffine(golden.rgb, alignment.matrix, (wide, high), flags=flags, borderMode=cv2.BORDER_REPLICATE)
    covered = np.full((high, wide), 255, np.uint8)
    covered = np.asarray(cv2.warpAffine(covered, alignment.matrix, (wide, high), flags=flags), np.uint8)
    if covered.min() < 255:
        uncovered = covered < 255
        moved[uncovered] = colour.to_rgb(picture)[uncovered]
    return Picture(np.asarray(moved, np.uint8), Layout.RGB)


def _luma(picture: Picture) -> Pixels:
    if picture.layout is Layout.NV12:
        return picture.pixels[: picture.height_px]
    return np.asarray(cv2.cvtColor(picture.pixels, cv2.COLOR_RGB2GRAY), np.uint8)


def _small(grey: Pixels, scale: float) -> Grey:
    size = max(1, round(grey.shape[1] * scale)), max(1, round(grey.shape[0] * scale))
    scaled = grey if scale == 1 else cv2.resize(grey, size, interpolation=cv2.INTER_AREA)
    return np.asarray(cv2.GaussianBlur(scaled, (0, 0), _BLUR_PX), np.float32)


def _shift(small: Grey, golden: Golden, limits: Limits) -> Matrix:
    """Of the places that are as good as the best, the one nearest to no shift: along a straight trace all are."""
    margin = min(round(limits.max_shift_px * golden.scale) + 4, min(small.shape) // 4)
    unlike = 1 - cv2.matchTemplate(golden.small, small[margin:-margin, margin:-margin], cv2.TM_CCOEFF_NORMED)
    rows, columns = np.nonzero(unlike <= 1.02 * float(unlike.min()) + 1e-4)
    nearest = int(np.argmin(np.hypot(rows - margin, columns - margin)))
    y, x = int(rows[nearest]), int(columns[nearest])
    offset = np.zeros(2) if golden.scale == 1 else _vertex(unlike, y, x)
    return np.array([[1.0, 0.0, x - margin + offset[0]], [0.0, 1.0, y - margin + offset[1]]])


def _vertex(unlike: npt.NDArray[Any], y: int, x: int) -> npt.NDArray[np.float64]:
    """(x, y) of the least value between pixels, by a parabola through three of them, on each axis."""

    def along(line: npt.NDArray[Any], at: int) -> float:
        if not 0 < at < len(line) - 1:
            return 0.0
        before, here, after = (float(value) for value in line[at - 1 : at + 2])
        bend = before - 2 * here + after
        return 0.5 * (before - after) / bend if bend > 1e-9 else 0.0

    return np.clip([along(unlike[y], x), along(unlike[:, x], y)], -0.5, 0.5)


def _by_gradient(small: Grey, reference: Grey, matrix: Matrix) -> Matrix | None:
    """Shift and turn near to `matrix`, at half the size, where it is quick; None where the search leads nowhere."""
    a, b = (cv2.GaussianBlur(each, (0, 0), 2.0)[::2, ::2] for each in (small, reference))
    start = np.array(matrix, np.float32)
    start[:, 2] /= 2
    try:
        _, found = cv2.findTransformECC(a, b, start, cv2.MOTION_EUCLIDEAN, _CRITERIA)
    except cv2.error:
        # What OpenCV throws when no step brings the two nearer.
        return None
    out = np.array(found, np.float64)
    out[:, 2] *= 2
    return out


def _by_patches(small: Grey, reference: Grey, matrix: Matrix) -> Matrix | None:
    """Shift, turn and scale on which most patches agree; None where too few are telling."""
    here, there = [], []
    for middle, patch, window, corner in _patches(small, reference, matrix[:, 2]):
        match = cv2.matchTemplate(window, patch, cv2.TM_CCOEFF_NORMED)
        _, best, _, (x, y) = cv2.minMaxLoc(match)
        if best > 0.5:
            half = np.array(patch.shape[::-1]) / 2
            here.append(middle)
            there.append(corner + np.array([x, y]) + half + _vertex(1 - match, y, x))
    if len(here) < _LEAST_PATCHES:
        return None
    found, inliers = cv2.estimateAffinePartial2D(
        np.array(here), np.array(there), method=cv2.RANSAC, ransacReprojThreshold=_AGREE_PX
    )
    if found is None or int(inliers.sum()) < _LEAST_PATCHES:
        return None
    return np.asarray(found, np.float64)


def _patches(
    small: Grey, reference: Grey, shift: npt.NDArray[np.float64]
) -> Iterator[tuple[npt.NDArray[np.float64], Grey, Grey, npt.NDArray[np.float64]]]:
    """Middle of a textured patch of the picture, the patch, the part of the reference where it may lie, its corner."""
    high, wide = small.shape
    side_y, side_x = high // _GRID, wide // _GRID
    for top in range(0, high - side_y + 1, side_y):
        for left in range(0, wide - side_x + 1, side_x):
            patch = small[top : top + side_y, left : left + side_x]
            y0, x0 = (max(0, round(at) - _REACH_PX) for at in (top + shift[1], left + shift[0]))
            window = reference[y0 : y0 + side_y + 2 * _REACH_PX, x0 : x0 + side_x + 2 * _REACH_PX]
            fits = window.shape[0] >= side_y and window.shape[1] >= side_x
            if fits and float(patch.std()) > _LEAST_TEXTURE:
                middle = np.array([left + side_x / 2, top + side_y / 2])
                yield middle, patch, window, np.array([x0, y0], np.float64)


def _likeness(small: Grey, reference: Grey, matrix: Matrix) -> float:
    """Correlation where the two overlap; 0 where one of them shows nothing."""
    high, wide = small.shape
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    moved = cv2.warpAffine(reference, matrix, (wide, high), flags=flags, borderValue=(-1e6,))
    both = moved >= 0
    a, b = small[both], moved[both]
    if not a.size or min(float(a.std()), float(b.std())) < 1:
        return 0.0
    return float(np.corrcoef(a, b)[0, 1])


def _at_full_size(matrix: Matrix, scale: float) -> Matrix:
    """The same movement in camera pixels; a pixel's middle lies at half of it at both sizes."""
    out = matrix.copy()
    offset = np.full(2, 0.5 * (1 - scale))
    out[:, 2] = (matrix[:, 2] + offset - matrix[:, :2] @ offset) / scale
    return out


def _judged(matrix: Matrix, frame_hw: tuple[int, int], likeness: float, limits: Limits) -> Alignment:
    linear = matrix[:, :2]
    middle = np.array([frame_hw[1] - 1, frame_hw[0] - 1]) / 2
    shift_px = float(np.hypot(*(linear @ middle + matrix[:, 2] - middle)))
    angle_deg = float(np.degrees(np.arctan2(linear[1, 0], linear[0, 0])))
    scale_change = float(abs(np.hypot(linear[0, 0], linear[1, 0]) - 1))
    misfit = None
    if likeness < limits.min_likeness:
        misfit = f"picture is not of the reference's view: likeness {likeness:.2f}, least {limits.min_likeness:g}"
    elif shift_px > limits.max_shift_px:
        misfit = f"picture is off the reference by {shift_px:.0f} px, most {limits.max_shift_px:g}"
    elif abs(angle_deg) > limits.max_angle_deg:
        misfit = f"picture is turned against the reference by {angle_deg:.1f} degrees, most {limits.max_angle_deg:g}"
    elif scale_change > limits.max_scale_change:
        misfit = f"picture is scaled against the reference by {scale_change:.1%}, most {limits.max_scale_change:.1%}"
    return Alignment(matrix, shift_px, angle_deg, scale_change, likeness, misfit)
