"""What is trained and how long, without the trainer: the commands read it where torch is absent."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

MEAN: Final = 114.0
DEVIATION: Final = 64.0
"""(byte - MEAN) / DEVIATION is what the network takes, in every channel; converter and exporter bake it in."""
LOSSES: Final = ("cross-entropy", "dice", "focal", "lovasz", "boundary")
"""What can be mixed; `modelkit.losses` says what each is."""


@dataclass(frozen=True, slots=True)
class Plan:
    """`steps` batches of `batch` crops of `crop_px`. The rate rises over the first fiftieth, then falls as a cosine.

    `architecture` and `width` are those of `modelkit.models`; `roles` are the inputs. `emphasis`: how many times
    another pixel's a defect's counts at first and at the end. The running mean of the weights forgets all but
    `mean_decay` a step. `faults` scales the shares of crops with light, noise, misplacement and the like of their own.
    `validate_every` is in steps. `start` is a checkpoint of the same network to begin from, if any. `loss` is a mix,
    `NAME=WEIGHT` each, of LOSSES. Training stops early after `patience` validations in a row without a better mIoU; 0
    is never.

    Raises ValueError for a mix that is none.
    """

    classes: int = 7
    architecture: str = "pair-unet"
    roles: tuple[str, ...] = ("image", "reference")
    width: int = 24
    steps: int = 6000
    batch: int = 16
    crop_px: int = 160
    rate: float = 4e-3
    emphasis: tuple[float, float] = (12.0, 1.5)
    mean_decay: float = 0.998
    faults: float = 1.0
    validate_every: int = 400
    seed: int = 1
    threads: int = 1
    start: str = ""
    loss: tuple[str, ...] = ("cross-entropy=1", "dice=0.5")
    patience: int = 0

    def __post_init__(self) -> None:
        mix(self.loss)


def mix(parts: Sequence[str]) -> dict[str, float]:
    """Weights by name of the losses, from `NAME=WEIGHT` each. Raises ValueError."""
    out: dict[str, float] = {}
    for part in parts:
        name, _, text = part.partition("=")
        try:
            weight = float(text)
        except ValueError:
            weight = -1.0
        if name not in LOSSES or name in out or not (math.isfinite(weight) and weight > 0):
            raise ValueError(f"{part!r} in the loss is not NAME=WEIGHT, once for each of {', '.join(LOSSES)}")
        out[name] = weight
    if not out:
        raise ValueError("the loss is empty: nothing would be learned")
    return out
