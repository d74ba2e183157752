"""Boards passing by on a belt, frame by frame, the same for the same seed."""

from dataclasses import dataclass
from typing import Final

import cv2
import numpy as np
import numpy.typing as npt

from agent.core.frame import Pixels
from agent.core.vision.boards import artwork, shoot
from agent.core.vision.boards.artwork import Layer
from agent.core.vision.boards.defects import Defect, flaw

_TRAVEL: Final = 24
"""Frames that a board takes from its place to the next one's."""
_STOP: Final = 36
"""Frames for which the belt stands, one board in the middle."""
_KEPT: Final = 3
_MODEL_PX: Final = 512


@dataclass(frozen=True, slots=True)
class Shot:
    """What the camera sees: (H, W, 3) uint8 RGB, (H, W) uint8 of `Defect`, and the number of the middle board."""

    rgb: Pixels
    mask: npt.NDArray[np.uint8]
    board: int


@dataclass(frozen=True, slots=True)
class _Board:
    rgb: Pixels
    mask: Layer
    top_px: int


class Conveyor:
    """A camera over a belt. Boards come from the left, stop in the middle, and leave to the right.

    `good_share` of the boards have no fault; the others have one to five. Drawing a board takes some tens of
    milliseconds, at the first frame that shows it; the last three are kept.
    """

    def __init__(self, seed: int, height_px: int, width_px: int, good_share: float = 0.5) -> None:
        if min(height_px, width_px) < 240 or not 0 <= good_share <= 1:
            raise ValueError(
                f"the picture is {width_px}x{height_px} px (least 240), good_share {good_share:g} (0 to 1)"
            )
        self._seed, self._high, self._wide, self._good_share = seed, height_px, width_px, good_share
        rng = np.random.default_rng((seed, 0))
        self._look = shoot.random_look(rng)
        gain = float(rng.uniform(0.95, 1.15)), float(rng.uniform(-0.15, 0.15)), float(rng.uniform(-0.15, 0.15))
        sloped = shoot.light(height_px, width_px, gain)
        # One multiplication of bytes a frame: 128 stands for a gain of 1.
        self._light = np.repeat(np.clip(sloped * 128, 0, 255).astype(np.uint8)[:, :, None], 3, axis=2)
        grain = rng.normal(8, 2.2, (height_px + 64, width_px + 64, 3))
        self._grain = np.clip(grain, 0, 16).astype(np.uint8)
        self._belt = self._look.palette[shoot.Material.BELT]
        self._spacing_px = round(0.94 * width_px)
        self._boards: dict[int, _Board] = {}

    def frame(self, n: int) -> Shot:
        """The n-th frame, n >= 0."""
        if n < 0:
            raise ValueError(f"frame {n}")
        passed, phase = divmod(n, _TRAVEL + _STOP)
        moved = self._spacing_px * max(0, phase - _STOP) / _TRAVEL
        rgb = np.empty((self._high, self._wide, 3), np.uint8)
        rgb[:] = self._belt
        mask = np.zeros((self._high, self._wide), np.uint8)
        for number in (passed - 1, passed, passed + 1):
            self._lay(rgb, mask, number, round(moved - (number - passed) * self._spacing_px))
        return Shot(self._shine(rgb, n), mask, passed + round(moved / self._spacing_px))

    def _lay(self, rgb: Pixels, mask: Layer, number: int, shift_px: int) -> None:
        """Put a board on the belt, `shift_px` to the right of the middle."""
        wide = round(0.86 * self._wide)
        left = (self._wide - wide) // 2 + shift_px
        seen = slice(max(0, left), min(self._wide, left + wide))
        if number < 0 or seen.start >= seen.stop:
            return
        board = self._board(number)
        part = slice(seen.start - left, seen.stop - left)
        rows = slice(board.top_px, board.top_px + board.rgb.shape[0])
        rgb[rows, seen] = board.rgb[:, part]
        mask[rows, seen] = board.mask[:, part]

    def _shine(self, rgb: Pixels, n: int) -> Pixels:
        lit = cv2.multiply(rgb, self._light, scale=1 / 128)
        dy, dx = np.random.default_rng((self._seed, 1, n)).integers(0, 64, 2).tolist()
        grain = self._grain[dy : dy + self._high, dx : dx + self._wide]
        return np.asarray(cv2.addWeighted(lit, 1.0, grain, 1.0, -8.0), np.uint8)

    def _board(self, number: int) -> _Board:
        if number not in self._boards:
            if len(self._boards) >= _KEPT:
                del self._boards[max(self._boards, key=lambda kept: abs(kept - number))]
            self._boards[number] = self._draw(number)
        return self._boards[number]

    def _draw(self, number: int) -> _Board:
        rng = np.random.default_rng((self._seed, 2, number))
        # Detail is set so that it has the model's scale once the picture is letterboxed.
        detail = max(self._high, self._wide) / _MODEL_PX
        wide, high = round(0.86 * self._wide), round(0.86 * self._high)
        inner_w, inner_h = round(0.97 * wide), round(0.97 * high)
        art = artwork.draw(rng, inner_h, inner_w, float(rng.uniform(20, 30)) * detail)
        good = rng.random() < self._good_share
        kinds = [] if good else [Defect(int(k)) for k in rng.integers(1, 7, int(rng.integers(1, 6)))]
        flawed = flaw(art, rng, kinds, detail * float(rng.uniform(1.4, 2.0)))
        angle = float(rng.normal(0, 0.5))
        matrix = np.asarray(cv2.getRotationMatrix2D((inner_w / 2, inner_h / 2), angle, 1.0), np.float64)
        matrix[:, 2] += (wide - inner_w) / 2, (high - inner_h) / 2
        rgb = shoot.paint(shoot.materials(art, flawed.copper), matrix, self._look, high, wide)
        rgb = cv2.GaussianBlur(rgb, (0, 0), 0.4 + 0.3 * detail).astype(np.uint8)
        jitter = round(float(rng.uniform(-0.05, 0.05)) * self._high)
        return _Board(rgb, shoot.place(flawed.mask, matrix, high, wide), (self._high - high) // 2 + jitter)
