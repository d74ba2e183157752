"""Wet tissue under an endoscope's own light: relief, colour, vessels, folds, shading and highlights. Plain numpy.

Lengths are in half sides of the picture, x to the right and y down, the middle at 0.
"""

from dataclasses import dataclass, field

import cv2
import numpy as np
import numpy.typing as npt

from modelkit.data.sample import Mask

Rng = np.random.Generator
Plane = npt.NDArray[np.float32]


@dataclass
class Scene:
    """What a picture is drawn from, (H, W) each, filled step by step: `relief` towards the camera, `albedo` (H, W, 3) 0
    to 1, `light` that falls on it, `wet` how much it shines, `mask` of class ids. `lamp` is where the light leans to.
    """

    size_px: int
    rng: Rng
    x: Plane = field(init=False)
    y: Plane = field(init=False)
    relief: Plane = field(init=False)
    albedo: Plane = field(init=False)
    light: Plane = field(init=False)
    wet: Plane = field(init=False)
    mask: Mask = field(init=False)
    lamp: tuple[float, float] = field(init=False)

    def __post_init__(self) -> None:
        axis = np.linspace(-1, 1, self.size_px, dtype=np.float32)
        self.x, self.y = (np.ascontiguousarray(each) for each in np.meshgrid(axis, axis))
        self.relief = np.zeros_like(self.x)
        self.light, self.wet = np.ones_like(self.x), np.ones_like(self.x)
        self.albedo = np.ones((*self.x.shape, 3), np.float32)
        self.mask = np.zeros(self.x.shape, np.uint8)
        leaning = self.rng.uniform(-0.35, 0.35, 2)
        self.lamp = float(leaning[0]), float(leaning[1])

    def noise(self, cells: int, octaves: int = 3) -> Plane:
        """About -1 to 1, with so many cells a side at first."""
        return noise(self.rng, self.size_px, cells, octaves)

    def tint(self, alpha: Plane, colour: tuple[float, float, float]) -> None:
        """Mix a colour in."""
        share = alpha[..., None]
        self.albedo = self.albedo * (1 - share) + np.array(colour, np.float32) * share

    def put(self, alpha: Plane, class_id: int) -> None:
        """A pixel that is covered by half or more is of the class."""
        self.mask[alpha >= 0.5] = class_id

    def shaded(self) -> Plane:
        """(H, W, 3), about 0 to 1: diffuse light, and highlights where the wet relief mirrors the lamp."""
        down, right = np.gradient(self.relief * np.float32(self.size_px / 2))
        lean_x, lean_y = self.lamp
        length = float(np.hypot(np.hypot(lean_x, lean_y), 1))
        diffuse = np.clip((1 - right * lean_x - down * lean_y) / (np.sqrt(1 + right**2 + down**2) * length), 0, 1)
        colour = self.albedo * (self.light * (0.25 + 0.75 * diffuse))[..., None]
        ripple_y, ripple_x = np.gradient(self.noise(18, 2) * np.float32(0.02 * self.size_px / 2))
        # Half way between lamp and camera is where a mirror would have to look.
        off = (right + ripple_x + lean_x / 2) ** 2 + (down + ripple_y + lean_y / 2) ** 2
        pools = np.clip(self.noise(6, 2) * 2.0 - 0.15, 0, 1)
        shine = np.exp(-off / 0.012) * pools * self.wet * np.clip(self.light, 0, 1)
        return np.asarray(colour + np.clip(shine * 1.5, 0, 1)[..., None], np.float32)


def noise(rng: Rng, size_px: int, cells: int, octaves: int = 3) -> Plane:
    total = np.zeros((size_px, size_px), np.float32)
    weight = 1.0
    for octave in range(octaves):
        side = min(size_px, cells * 2**octave + 3)
        grid = rng.standard_normal((side, side), np.float32)
        total += weight * np.asarray(cv2.resize(grid, (size_px, size_px), interpolation=cv2.INTER_CUBIC), np.float32)
        weight /= 2
    return np.asarray(total / max(1e-6, float(np.abs(total).max())), np.float32)


def soft(depth: Plane, edge: float) -> Plane:
    """0 to 1 over `edge`, a half where depth is 0."""
    return np.asarray(np.clip(depth / edge + 0.5, 0, 1), np.float32)


def wall(scene: Scene) -> None:
    """The gut's wall, seen along it or from the front."""
    rng = scene.rng
    red = rng.uniform(0.72, 0.9)
    scene.albedo *= np.array([red, red * rng.uniform(0.46, 0.66), red * rng.uniform(0.36, 0.56)], np.float32)
    patches = scene.noise(3)[..., None] * np.array([0.06, 0.13, 0.13], np.float32)
    scene.albedo *= 1 + patches + scene.noise(28, 3)[..., None] * np.float32(rng.uniform(0.03, 0.08))
    scene.relief += scene.noise(5, 2) * np.float32(0.07) + scene.noise(26, 2) * np.float32(0.006)
    if rng.random() < 0.6:
        _along(scene)
    else:
        _in_front(scene)
    vessels(scene, int(rng.integers(0, 7)))


def _along(scene: Scene) -> None:
    """Into the tube: dark where it goes on, folds in rings around that."""
    rng = scene.rng
    centre = rng.uniform(-0.55, 0.55, 2)
    dx, dy = scene.x - np.float32(centre[0]), scene.y - np.float32(centre[1])
    away = np.hypot(dx, dy) * (1 + 0.18 * scene.noise(3, 2))
    turn = np.arctan2(dy, dx)
    lobes = 0.65 + 0.35 * np.cos(3 * turn + rng.uniform(0, 6.3))
    phase = np.log(away + 0.22) * rng.uniform(1.1, 2.1) + 0.22 * scene.noise(4, 2) + rng.uniform(0, 1)
    _fold(scene, np.asarray(phase, np.float32), np.asarray(lobes * np.clip(away, 0.15, 1) * 0.22, np.float32))
    scene.light *= np.asarray(np.clip((away - 0.02) / rng.uniform(0.5, 0.9), 0, 1) ** 0.9 * 0.95 + 0.05, np.float32)


def _in_front(scene: Scene) -> None:
    """A wall close by: folds cross it, and the light falls off from a spot."""
    rng = scene.rng
    angle = rng.uniform(0, np.pi)
    across = scene.x * np.float32(np.cos(angle)) + scene.y * np.float32(np.sin(angle))
    phase = across * rng.uniform(0.5, 1.1) + 0.3 * scene.noise(3, 2) + rng.uniform(0, 1)
    _fold(scene, np.asarray(phase, np.float32), np.asarray(0.1 + 0.08 * scene.noise(3, 1), np.float32))
    spot = rng.uniform(-0.4, 0.4, 2)
    away = (scene.x - np.float32(spot[0])) ** 2 + (scene.y - np.float32(spot[1])) ** 2
    scene.light *= np.asarray(0.2 + 0.85 * np.exp(-away / rng.uniform(0.5, 1.3)), np.float32)


def _fold(scene: Scene, phase: Plane, amount: Plane) -> None:
    """A crest at each whole phase, and its shade behind it."""
    near = np.mod(phase, 1) - 0.5
    crest = np.exp(-((near / 0.16) ** 2))
    scene.relief += np.asarray(amount * crest, np.float32)
    scene.light *= np.asarray(1 - 0.35 * np.exp(-(((near + 0.24) / 0.12) ** 2)), np.float32)
    scene.wet *= np.asarray(0.6 + 0.8 * crest, np.float32)


def vessels(scene: Scene, trees: int) -> None:
    """Thin branching lines under the surface."""
    rng, size = scene.rng, scene.size_px
    layer = np.zeros((size, size), np.uint8)
    waiting = [(rng.uniform(0, size, 2), rng.uniform(0, 6.3), rng.uniform(1.0, 2.4)) for _ in range(trees)]
    for _ in range(trees * 6):
        if not waiting:
            break
        at, heading, width = waiting.pop(0)
        for _ in range(int(rng.integers(6, 18))):
            heading += rng.normal(0, 0.32)
            after = at + size / 36 * np.array([np.cos(heading), np.sin(heading)])
            ends = [(round(float(p[0]) * 8), round(float(p[1]) * 8)) for p in (at, after)]
            cv2.line(layer, ends[0], ends[1], 255, max(1, round(width)), cv2.LINE_AA, shift=3)
            at = after
            if rng.random() < 0.2 and width > 0.8:
                waiting.append((at, heading + rng.choice([-0.8, 0.8]), width * 0.7))
    thin = np.asarray(cv2.GaussianBlur(layer, (0, 0), 0.8), np.float32) / 255
    strength = np.float32(rng.uniform(0.15, 0.45))
    scene.albedo *= 1 - thin[..., None] * strength * np.array([0.55, 1.0, 0.9], np.float32)
