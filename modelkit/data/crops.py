"""Endless crops of samples for training: aimed at defects, turned, scaled, and with looks and faults of the pair.

Blur, light, noise and colour are kornia's (`look_kornia`). Where a crop is cut, and how a pair lies, is numpy and
OpenCV: kornia warps the whole pair and its mask for each crop where a window and a right angle are views, and no
augmentation library gives picture and reference one geometry and each a look, a shift and wear of its own.
"""

from collections.abc import Iterator, Sequence
from importlib import import_module

import cv2
import numpy as np
import numpy.typing as npt

from agent.core.frame import Pixels
from modelkit.data.look import PLAIN, Augment, Rng, drawn
from modelkit.data.sample import DataError, Mask, Sample

__all__ = ["Augment", "crops"]

_SQUARE = np.ones((3, 3), np.uint8)


def crops(samples: Sequence[Sample], size_px: int, seed: int, augment: Augment | None = None) -> Iterator[Sample]:
    """Crops of `size_px` square, without end; smaller samples are enlarged. Raises DataError when there are none."""
    if not samples:
        raise DataError("there are no samples to cut crops from: the training part is empty")
    how = Augment() if augment is None else augment
    rng = np.random.default_rng(seed)
    centres: dict[int, npt.NDArray[np.float64]] = {}
    while True:
        index = int(rng.integers(len(samples)))
        if index not in centres:
            centres[index] = _centres(samples[index].mask)
        cut = _cut(samples[index], centres[index], size_px, rng, how)
        yield _look(_turn(cut, rng), rng, how)


def _centres(mask: Mask) -> npt.NDArray[np.float64]:
    """(N, 2): the middle (x, y) of each defect."""
    count, _, _, middles = cv2.connectedComponentsWithStats((mask > 0).astype(np.uint8), connectivity=8)
    return np.asarray(middles[1:count], np.float64)


def _cut(sample: Sample, centres: npt.NDArray[np.float64], size_px: int, rng: Rng, how: Augment) -> Sample:
    high, wide = sample.mask.shape
    scale = float(rng.uniform(0.8, 1.25)) if rng.random() < how.scaled else 1.0
    side = min(round(size_px / scale), high, wide)
    corner = rng.uniform(0, (wide - side, high - side))
    if len(centres) and rng.random() < how.aimed:
        corner = centres[int(rng.integers(len(centres)))] - rng.uniform(0.1, 0.9, 2) * side
    x, y = (int(np.clip(round(at), 0, most)) for at, most in zip(corner, (wide - side, high - side), strict=True))
    window = np.s_[y : y + side, x : x + side]
    reference = None
    if sample.reference is not None:
        reference = _misplaced(sample.reference, (x, y, side), rng, how.misplaced)
    cut = Sample(sample.id, sample.image[window], sample.mask[window], reference)
    return cut if side == size_px else _resized(cut, size_px)


def _misplaced(reference: Pixels, window: tuple[int, int, int], rng: Rng, share: float) -> Pixels:
    x, y, side = window
    if rng.random() < share:
        reach = 2 if rng.random() < 0.2 else 1
        x = int(np.clip(x + rng.integers(-reach, reach + 1), 0, reference.shape[1] - side))
        y = int(np.clip(y + rng.integers(-reach, reach + 1), 0, reference.shape[0] - side))
    return reference[y : y + side, x : x + side]


def _resized(cut: Sample, size_px: int) -> Sample:
    def scaled(picture: Pixels) -> Pixels:
        return np.asarray(cv2.resize(np.ascontiguousarray(picture), (size_px, size_px)), np.uint8)

    mask = cv2.resize(np.ascontiguousarray(cut.mask), (size_px, size_px), interpolation=cv2.INTER_NEAREST)
    reference = None if cut.reference is None else scaled(cut.reference)
    return Sample(cut.id, scaled(cut.image), np.asarray(mask, np.uint8), reference)


def _turn(cut: Sample, rng: Rng) -> Sample:
    """One of the eight ways to lay a square."""
    quarters, mirrored = int(rng.integers(4)), bool(rng.integers(2))

    def laid(picture: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
        turned = np.rot90(picture, quarters)
        return np.ascontiguousarray(turned[:, ::-1] if mirrored else turned)

    return Sample(cut.id, laid(cut.image), laid(cut.mask), None if cut.reference is None else laid(cut.reference))


def _look(cut: Sample, rng: Rng, how: Augment) -> Sample:
    reference = cut.reference
    if reference is not None:
        if rng.random() < how.worn:
            reference = np.asarray((cv2.dilate if rng.random() < 0.5 else cv2.erode)(reference, _SQUARE), np.uint8)
        reference = _shot(reference, rng, how)
    return Sample(cut.id, _shot(cut.image, rng, how), cut.mask, reference)


def _shot(picture: Pixels, rng: Rng, how: Augment) -> Pixels:
    """The same with light, blur and noise of its own."""
    look = drawn(rng, how)
    if look == PLAIN:
        return picture
    out: Pixels = import_module("modelkit.data.look_kornia").seen(picture, look, rng)
    return out
