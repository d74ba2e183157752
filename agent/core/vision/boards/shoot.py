"""How a camera sees a board: colours, light, blur, noise, placement; or the black and white of a binarised scan."""

from dataclasses import dataclass
from enum import IntEnum
from typing import Final

import cv2
import numpy as np
import numpy.typing as npt

from agent.core.frame import Pixels
from agent.core.vision.boards.artwork import Artwork, Layer


class Material(IntEnum):
    BELT = 0
    SUBSTRATE = 1
    COPPER = 2
    PAD = 3
    HOLE = 4
    PRINT = 5


# Per solder mask: over the bare substrate, over copper. "Bare" is etched copper without a mask.
_MASKS: Final = {
    "green": ((18, 74, 42), (52, 134, 74)),
    "blue": ((18, 38, 92), (50, 92, 158)),
    "red": ((100, 20, 24), (172, 62, 56)),
    "black": ((26, 27, 30), (74, 76, 78)),
    "bare": ((104, 100, 66), (206, 138, 90)),
}
_FINISHES: Final = ((212, 178, 96), (200, 202, 198))


@dataclass(frozen=True, slots=True)
class Look:
    """`palette` (6, 3) uint8 gives each `Material` its RGB; `gain` (3,) scales the light in the middle, at the right
    edge and at the bottom edge; `noise` is a standard deviation in grey levels.
    """

    palette: npt.NDArray[np.uint8]
    blur_px: float
    noise: float
    gain: tuple[float, float, float]
    binarised: bool


def random_look(rng: np.random.Generator, binarised_share: float = 0.0) -> Look:
    """Colour boards, and in `binarised_share` of cases black and white, three quarters of those with black copper."""
    binarised = bool(rng.random() < binarised_share)
    if binarised:
        copper, ground = (0, 255) if rng.random() < 0.75 else (255, 0)
        levels = np.array([ground, ground, copper, copper, ground, ground], np.uint8)
        palette = np.repeat(levels[:, None], 3, axis=1)
        blur_px, noise = float(rng.uniform(0.5, 1.2)), float(rng.uniform(4, 20))
        return Look(palette, blur_px, noise, (1.0, 0.0, 0.0), binarised=True)
    substrate, copper_rgb = _MASKS[list(_MASKS)[int(rng.integers(len(_MASKS)))]]
    pad = _FINISHES[int(rng.integers(len(_FINISHES)))]
    belt = (int(rng.integers(35, 105)),) * 3
    table = np.array([belt, substrate, copper_rgb, pad, (22, 22, 24), (226, 226, 222)], np.float64)
    table = table + rng.normal(0, 7, table.shape) + rng.normal(0, 8, (1, 3))
    if rng.random() < 0.15:
        table[:] = table.mean(axis=1, keepdims=True)
    gain = float(rng.uniform(0.75, 1.35)), float(rng.uniform(-0.25, 0.25)), float(rng.uniform(-0.25, 0.25))
    blur_px, noise = float(rng.uniform(0.3, 1.0)), float(rng.uniform(1, 6))
    return Look(np.clip(table, 0, 255).astype(np.uint8), blur_px, noise, gain, binarised=False)


def materials(art: Artwork, copper: Layer) -> Layer:
    """Return (H, W) uint8 of `Material` for a board whose copper is `copper` after its faults."""
    out = np.full(copper.shape, Material.SUBSTRATE, np.uint8)
    out[art.print > 0] = Material.PRINT
    out[copper > 0] = Material.COPPER
    out[(copper > 0) & (art.pads > 0)] = Material.PAD
    out[art.holes > 0] = Material.HOLE
    return out


def place(layer: Layer, matrix: npt.NDArray[np.float64], height_px: int, width_px: int) -> Layer:
    """Move a layer of ids by an affine (2, 3) matrix from board to picture; outside the board it is 0, the belt."""
    flags = cv2.INTER_NEAREST
    return cv2.warpAffine(layer, matrix, (width_px, height_px), flags=flags, borderValue=0).astype(np.uint8)


def paint(ground: Layer, matrix: npt.NDArray[np.float64], look: Look, height_px: int, width_px: int) -> Pixels:
    """Colour the materials as placed by `matrix`, with smooth edges; (H, W, 3) uint8 without light or noise."""
    double = matrix * 2.0
    double[:, 2] += 0.5
    ids = place(ground, double, 2 * height_px, 2 * width_px)
    colour = np.stack([cv2.LUT(ids, _table(look, channel)) for channel in range(3)], axis=2)
    return cv2.resize(colour, (width_px, height_px), interpolation=cv2.INTER_AREA).astype(np.uint8)


def _table(look: Look, channel: int) -> npt.NDArray[np.uint8]:
    table = np.zeros(256, np.uint8)
    table[: len(look.palette)] = look.palette[:, channel]
    return table


def light(height_px: int, width_px: int, gain: tuple[float, float, float]) -> npt.NDArray[np.float32]:
    """Return (H, W) float32: an even slope of brightness over the picture, never below 0.2."""
    x = np.linspace(-1, 1, width_px, dtype=np.float32)[None, :]
    y = np.linspace(-1, 1, height_px, dtype=np.float32)[:, None]
    return np.maximum(np.float32(gain[0]) + np.float32(gain[1]) * x + np.float32(gain[2]) * y, np.float32(0.2))


def expose(rgb: Pixels, look: Look, rng: np.random.Generator) -> Pixels:
    """Add the lens and the sensor to a painted picture; a binarised look ends in 0 and 255 alone."""
    high, wide = rgb.shape[:2]
    blurred = cv2.GaussianBlur(rgb, (0, 0), look.blur_px)
    lit = blurred.astype(np.float32)
    if not look.binarised:
        lit *= light(high, wide, look.gain)[:, :, None]
    grain = rng.standard_normal((high, wide, 1 if look.binarised else 3), np.float32) * np.float32(look.noise)
    lit += cv2.GaussianBlur(grain, (0, 0), 0.6).reshape(grain.shape) * np.float32(1.6)
    if look.binarised:
        return np.where(lit > 127, np.uint8(255), np.uint8(0)).astype(np.uint8)
    return np.clip(lit, 0, 255).astype(np.uint8)
