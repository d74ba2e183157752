"""Drawn endoscopy-like pictures behind the dataset port, with exact masks. They look like it; they are no anatomy.

A wall of tissue with folds, vessels and wet highlights; on it polyps (raised), lesions (flat, of little contrast),
blood, and an instrument before all; seen through a round or clipped window, unevenly lit, often dim and hazy.
"""

from dataclasses import dataclass
from typing import Final

import cv2
import numpy as np

from agent.core.frame import Pixels
from modelkit.data.sample import DataError, Sample
from modelkit.data.tissue import Plane, Scene, soft, wall

CLASSES: Final = ("background", "polyp", "lesion", "bleeding", "instrument")
_SHARES: Final = {"polyp": 0.55, "lesion": 0.4, "bleeding": 0.4, "instrument": 0.4}
_EMPTY: Final = 0.12
_STEELS: Final = ((0.62, 0.64, 0.68), (0.82, 0.82, 0.8), (0.22, 0.36, 0.62), (0.14, 0.14, 0.15))


class Endoscopy:
    """`count` pictures of `size_px` square, the same for the same seed; drawn when they are read. Ids are numbers from
    0. Raises DataError for no picture, and for pictures too small to show anything.
    """

    def __init__(self, count: int, size_px: int = 256, seed: int = 0) -> None:
        if count < 1:
            raise DataError(f"{count} drawn pictures: there must be at least one")
        if size_px < 64:
            raise DataError(f"{size_px} px is too small a side for a drawn picture: at least 64")
        self._count, self._size_px, self._seed = count, size_px, seed

    @property
    def classes(self) -> tuple[str, ...]:
        return CLASSES

    @property
    def ids(self) -> tuple[str, ...]:
        return tuple(f"{number:05d}" for number in range(self._count))

    def read(self, sample_id: str) -> Sample:
        if sample_id not in self.ids:
            raise DataError(f"there is no drawn picture {sample_id}: ids go from 00000 to {self._count - 1:05d}")
        scene = Scene(self._size_px, np.random.default_rng((self._seed, int(sample_id))))
        image = drawn(scene)
        return Sample(sample_id, image, scene.mask)


def drawn(scene: Scene) -> Pixels:
    """The picture (H, W, 3) uint8 RGB; the scene's mask is then filled."""
    rng = scene.rng
    wall(scene)
    shown = set() if rng.random() < _EMPTY else {name for name, share in _SHARES.items() if rng.random() < share}
    if "lesion" in shown:
        _lesion(scene)
    if "polyp" in shown:
        for _ in range(int(rng.choice([1, 1, 2]))):
            _polyp(scene)
    if "bleeding" in shown:
        _bleeding(scene)
    tool = _tool(scene) if "instrument" in shown else None
    picture = scene.shaded()
    if tool is not None:
        share = tool.alpha[..., None]
        picture = picture * (1 - share) + tool.colour * share
        scene.put(tool.alpha, CLASSES.index("instrument"))
    return _camera(scene, _window(scene, picture))


@dataclass(frozen=True, slots=True)
class _Blob:
    """`inward` is 1 in the middle, 0 at the outline and below outside; `radius` in half sides."""

    inward: Plane
    radius: float

    def alpha(self, scene: Scene, edge_px: float = 1.5) -> Plane:
        return soft(self.inward * np.float32(self.radius), 2 * edge_px / scene.size_px)


def _blob(scene: Scene, radius: float, ragged: float = 0.0) -> _Blob:
    rng = scene.rng
    centre = rng.uniform(-0.6, 0.6, 2)
    angle, stretch = rng.uniform(0, np.pi), rng.uniform(0.65, 1.0)
    dx, dy = scene.x - np.float32(centre[0]), scene.y - np.float32(centre[1])
    along = dx * np.cos(angle) + dy * np.sin(angle)
    across = (dy * np.cos(angle) - dx * np.sin(angle)) / stretch
    turn = np.arctan2(across, along)
    reach = 1 + sum(rng.uniform(0, 0.22 / k) * np.cos(k * turn + rng.uniform(0, 6.3)) for k in (2, 3, 4, 5))
    inward = 1 - np.hypot(along, across) / (radius * reach)
    if ragged:
        inward = inward + ragged * scene.noise(9, 4)
    return _Blob(np.asarray(inward, np.float32), radius)


def _polyp(scene: Scene) -> None:
    rng = scene.rng
    blob = _blob(scene, float(rng.uniform(0.16, 0.38)))
    alpha = blob.alpha(scene, edge_px=float(rng.uniform(1.0, 3.0)))
    shade = cv2.GaussianBlur(alpha, (0, 0), scene.size_px * blob.radius * 0.12)
    shift = np.array([[1, 0, -scene.lamp[0] * 14], [0, 1, -scene.lamp[1] * 14]], np.float32)
    shade = cv2.warpAffine(shade, shift, shade.shape[::-1])
    scene.light *= 1 - np.float32(rng.uniform(0.15, 0.4)) * np.asarray(shade, np.float32) * (1 - alpha)
    inside = np.clip(1 - (1 - blob.inward) ** 2, 0, 1)
    scene.relief *= 1 - 0.7 * alpha
    # Smoothed, since the lobes of the outline would run to the middle as creases.
    dome = cv2.GaussianBlur(inside.astype(np.float32) ** 0.8, (0, 0), scene.size_px * blob.radius * 0.06)
    scene.relief += np.asarray(blob.radius * rng.uniform(0.45, 0.9) * dome, np.float32) * alpha
    base = scene.albedo.mean((0, 1))
    paler = rng.random() < 0.3
    change = np.array([1.12, 1.15, 1.15]) if paler else np.array([1.02, 0.72, 0.74])
    colour = np.clip(base * (change + rng.uniform(-0.06, 0.06, 3)), 0, 1)
    scene.tint(alpha * np.float32(rng.uniform(0.55, 0.9)), (float(colour[0]), float(colour[1]), float(colour[2])))
    scene.albedo *= 1 + (alpha * scene.noise(34, 2))[..., None] * np.array([0.06, 0.14, 0.12], np.float32)
    scene.wet += alpha * np.float32(0.8)
    scene.put(alpha, CLASSES.index("polyp"))


def _lesion(scene: Scene) -> None:
    rng = scene.rng
    blob = _blob(scene, float(rng.uniform(0.22, 0.45)), ragged=float(rng.uniform(0.25, 0.55)))
    alpha = blob.alpha(scene, edge_px=2.0)
    pale = rng.random() < 0.6
    colour = (0.88, 0.74, 0.58) if pale else (0.66, 0.24, 0.22)
    grain = np.clip(1 + 0.5 * scene.noise(30, 3), 0.3, 1.3)
    scene.tint(alpha * np.asarray(rng.uniform(0.35, 0.7) * grain, np.float32), colour)
    scene.relief += alpha * scene.noise(24, 2) * np.float32(0.012)
    scene.wet *= 1 - 0.6 * alpha
    scene.put(alpha, CLASSES.index("lesion"))


def _bleeding(scene: Scene) -> None:
    """A pool with an uneven edge, and runnels from it."""
    rng, size = scene.rng, scene.size_px
    blob = _blob(scene, float(rng.uniform(0.12, 0.28)), ragged=float(rng.uniform(0.3, 0.6)))
    alpha = blob.alpha(scene)
    runnels = np.zeros((size, size), np.uint8)
    top, left = np.unravel_index(int(blob.inward.argmax()), blob.inward.shape)
    heading = rng.uniform(0, 6.3)
    for _ in range(int(rng.integers(0, 4))):
        at, width = np.array([left, top], float), float(rng.uniform(2.0, 4.5)) * size / 256
        way = heading + rng.normal(0, 0.5)
        for _ in range(int(rng.integers(6, 20))):
            way += rng.normal(0, 0.22)
            after = at + size / 40 * np.array([np.cos(way), np.sin(way)])
            ends = [(round(float(p[0]) * 8), round(float(p[1]) * 8)) for p in (at, after)]
            cv2.line(runnels, ends[0], ends[1], 255, max(2, round(width)), cv2.LINE_AA, shift=3)
            at, width = after, width * 0.95
    alpha = np.maximum(alpha, np.asarray(cv2.GaussianBlur(runnels, (0, 0), 0.8), np.float32) / 255)
    dark = rng.uniform(0.7, 1.1)
    thick = np.clip(0.85 + 0.15 * scene.noise(8, 2), 0, 1)
    scene.tint(alpha * np.asarray(thick, np.float32), (0.5 * dark, 0.055 * dark, 0.05 * dark))
    scene.relief *= 1 - 0.35 * alpha
    scene.wet += alpha * np.float32(1.2)
    scene.put(alpha, CLASSES.index("bleeding"))


@dataclass(frozen=True, slots=True)
class _Tool:
    alpha: Plane
    colour: Plane


def _tool(scene: Scene) -> _Tool:
    """A round shaft from the edge, with jaws or a snare, and its shadow on the tissue."""
    rng, size = scene.rng, scene.size_px
    angle = rng.uniform(0, 2 * np.pi)
    start = 1.5 * np.array([np.cos(angle), np.sin(angle)])
    tip = rng.uniform(-0.45, 0.45, 2)
    way = (tip - start) / np.hypot(*(tip - start))
    dx, dy = scene.x - np.float32(tip[0]), scene.y - np.float32(tip[1])
    behind, aside = -(dx * way[0] + dy * way[1]), dy * way[0] - dx * way[1]
    half = float(rng.uniform(0.05, 0.11))
    depth = np.minimum(half - np.abs(aside), behind + 0.3 * half)
    round_ = np.sqrt(np.clip(1 - (aside / half) ** 2, 0, 1))
    steel = np.array(_STEELS[int(rng.integers(len(_STEELS)))], np.float32)
    bands = np.where(np.mod(behind, 0.3) < 0.03, 0.5, 1.0) if rng.random() < 0.4 else 1.0
    colour = steel * ((0.25 + 0.75 * round_) * bands)[..., None]
    colour = colour + np.exp(-(((aside / half) - rng.uniform(-0.4, 0.4)) ** 2) / 0.02)[..., None] * np.float32(0.5)
    if rng.random() < 0.6:
        spread = rng.uniform(0.1, 0.5)
        for side in (-1, 1):
            reach, lean = -behind, side * aside - np.float32(spread) * np.clip(-behind, 0, None)
            jaw = np.minimum(0.32 * half - np.abs(lean - 0.3 * half), np.minimum(reach + half, 2.2 * half - reach))
            depth = np.maximum(depth, jaw)
    else:
        ring = np.abs(np.hypot((behind + 3.4 * half) / 3.4, aside / 2.0) - half) * 2.2
        depth = np.maximum(depth, 0.16 * half + 0.8 / size - ring)
    alpha = soft(np.asarray(depth, np.float32), 2.4 / size)
    cast = cv2.GaussianBlur(alpha, (0, 0), size * 0.02)
    shift = np.array([[1, 0, -scene.lamp[0] * 30 - 4], [0, 1, -scene.lamp[1] * 30 + 5]], np.float32)
    scene.light *= 1 - np.float32(0.45) * np.asarray(cv2.warpAffine(cast, shift, cast.shape[::-1]), np.float32)
    glow = np.clip(scene.light, 0.35, 1)[..., None]
    return _Tool(alpha, np.asarray(colour * glow + np.array([0.05, 0.015, 0.01]), np.float32))


def _window(scene: Scene, picture: Plane) -> Plane:
    """Black outside of the round, clipped or full window; nothing is annotated there."""
    kind, radius = scene.rng.integers(3), scene.rng.uniform(1.0, 1.2)
    round_ = np.float32(radius) - np.hypot(scene.x, scene.y)
    clipped = np.minimum(1.42 - np.abs(scene.x) - np.abs(scene.y), 0.97 - np.maximum(abs(scene.x), abs(scene.y)))
    inside = soft(np.asarray((round_, clipped, np.ones_like(round_))[kind], np.float32), 4 / scene.size_px)
    scene.mask[inside < 0.5] = 0
    return picture * inside[..., None]


def _camera(scene: Scene, picture: Plane) -> Pixels:
    """Vignette, exposure, haze, white balance, blur and grain."""
    rng = scene.rng
    vignette = 1 - rng.uniform(0.1, 0.35) * (scene.x**2 + scene.y**2) / 2
    exposed = picture * (vignette * (1 + 0.25 * scene.noise(2, 1)))[..., None] * rng.uniform(0.55, 1.15)
    contrast = rng.uniform(0.4, 1.0)
    haze = np.array([0.42, 0.26, 0.22]) * rng.uniform(0.6, 1.1)
    lit = exposed.max(2, keepdims=True) > 0.02
    hazy = np.where(lit, haze + contrast * (exposed - haze), exposed)
    balanced = np.clip(hazy * rng.uniform(0.93, 1.07, 3), 0, 1).astype(np.float32)
    blurred = cv2.GaussianBlur(balanced, (0, 0), float(rng.uniform(0.35, 0.9)))
    grain = rng.standard_normal(picture.shape[:2], np.float32)[..., None] * np.float32(rng.uniform(1.0, 5.0))
    return np.clip(np.rint(255 * np.asarray(blurred) + grain), 0, 255).astype(np.uint8)
