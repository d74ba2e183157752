"""What is trained and how long, without the trainer: the commands read it where torch is absent."""

from dataclasses import dataclass
from typing import Final

MEAN: Final = 114.0
DEVIATION: Final = 64.0
"""(byte - MEAN) / DEVIATION is what the network takes, in every channel; converter and exporter bake it in."""


@dataclass(frozen=True, slots=True)
class Plan:
    """`steps` batches of `batch` crops of `crop_px`; the rate rises for a twentieth of them, then falls as a cosine.

    `plates` boards are drawn for training; `validate_every` is in steps.
    A defect's pixel counts `emphasis` times another's at first. `start` is a checkpoint to begin from, if any.
    """

    base: int = 16
    steps: int = 3000
    batch: int = 12
    crop_px: int = 160
    plates: int = 1000
    rate: float = 5e-3
    seed: int = 1
    validate_every: int = 300
    validation_images: int = 48
    threads: int = 1
    emphasis: float = 60.0
    start: str = ""
