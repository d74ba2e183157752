"""Endless crops of samples for training: aimed at defects, turned, scaled, and with looks and faults of the pair.

Plain numpy and OpenCV: a pair shares its geometry, while light, noise, blur and a shift of a pixel or two are each
picture's own, which the augmentation libraries that are still kept up and of a free licence do not express; and
right angles and thresholds need no library.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields, replace
from typing import Self

import cv2
import numpy as np
import numpy.typing as npt

from agent.core.frame import Pixels
from modelkit.data.sample import Mask, Sample

Rng = np.random.Generator
_SQUARE = np.ones((3, 3), np.uint8)


@dataclass(frozen=True, slots=True)
class Augment:
    """Shares of the crops, 0 to 1, that get each fault; the rest is as the camera saw it but for right angles.

    `aimed` are centred near a defect where the sample has one. `misplaced`: the reference lies 1 px off, seldom 2.
    `worn`: the reference is a pixel wider or narrower. `lit`: light and contrast of their own. `scaled`: 0.8 to 1.25.
    """

    aimed: float = 0.8
    scaled: float = 0.25
    misplaced: float = 0.2
    worn: float = 0.1
    lit: float = 0.2
    noisy: float = 0.15
    blurred: float = 0.15

    def scaled_by(self, factor: float) -> Self:
        """The same aim, with `factor` times the share of every fault."""
        faults = {spec.name: getattr(self, spec.name) * factor for spec in fields(self) if spec.name != "aimed"}
        return replace(self, **faults)


def crops(samples: Sequence[Sample], size_px: int, seed: int, augment: Augment | None = None) -> Iterator[Sample]:
    """Crops of `size_px` square, without end; samples must be at least 1.25 times as large."""
    how = Augment() if augment is None else augment
    rng = np.random.default_rng(seed)
    centres = [_centres(sample.mask) for sample in samples]
    while True:
        index = int(rng.integers(len(samples)))
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
    if rng.random() < how.blurred:
        picture = np.asarray(cv2.GaussianBlur(picture, (0, 0), float(rng.uniform(0.4, 0.9))), np.uint8)
    lit, noisy = rng.random() < how.lit, rng.random() < how.noisy
    if not (lit or noisy):
        return picture
    values = picture.astype(np.float32)
    if lit:
        values = values * np.float32(rng.uniform(0.65, 1.1)) + np.float32(rng.uniform(0, 50))
    if noisy:
        grain = rng.standard_normal(picture.shape[:2], np.float32) * np.float32(rng.uniform(2, 14))
        values += grain[:, :, None]
    return np.clip(values, 0, 255).astype(np.uint8)
