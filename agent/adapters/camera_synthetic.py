"""Drawn circuit boards on a conveyor as a camera: the demonstration needs no hardware and knows the truth."""

import threading
import time
from dataclasses import dataclass

from agent.core.frame import Layout, Picture, Pixels
from agent.core.rate import Rate
from agent.core.vision.boards.conveyor import Conveyor
from agent.errors import Retryable
from schemas.codes import FailureCode


@dataclass(frozen=True, slots=True)
class SyntheticOptions:
    """good_share is the part of boards without a defect; equal options give equal pictures."""

    seed: int = 1
    height_px: int = 720
    width_px: int = 1280
    good_share: float = 0.35
    rate_hz: float | None = 5.0


class SyntheticCamera:
    """Gives picture after picture of the conveyor; RGB (height_px, width_px, 3). It never ends by itself."""

    def __init__(self, options: SyntheticOptions) -> None:
        self._conveyor = Conveyor(options.seed, options.height_px, options.width_px, options.good_share)
        self._rate = Rate.of_hz(options.rate_hz)
        self._closed = threading.Event()
        self._closed.set()
        self._next = 0

    def open(self) -> None:
        """Go on after the last picture: a conveyor doesn't turn back when a camera reconnects."""
        self._closed.clear()

    def read(self) -> Picture:
        if self._closed.wait(self._rate.wait_s(time.monotonic())):
            raise Retryable(FailureCode.CAMERA_LOST, "the camera is closed")
        self._rate = self._rate.taken(time.monotonic())
        shot = self._conveyor.frame(self._next)
        self._next += 1
        return Picture(shot.rgb, Layout.RGB)

    def close(self) -> None:
        self._closed.set()

    def truth(self, index: int) -> Pixels:
        """Return the class map (H, W) uint8 of the picture that the `index`-th `read` gave, from 0."""
        return self._conveyor.frame(index).mask
