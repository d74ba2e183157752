"""How one picture of a crop looks. What is drawn by lot here is done by `look_kornia`, which needs torch."""

from dataclasses import dataclass, fields, replace
from typing import Self

import numpy as np

Rng = np.random.Generator


@dataclass(frozen=True, slots=True)
class Augment:
    """Shares of the crops, 0 to 1, that get each fault; the rest is as the camera saw it but for right angles.

    `aimed` are centred near a defect where the sample has one. `misplaced`: the reference lies 1 px off, seldom 2.
    `worn`: the reference is a pixel wider or narrower. `lit`: light and contrast of their own. `scaled`: 0.8 to 1.25.
    `coloured`: hue up to 10 degrees off and colours paler or stronger by up to 0.3, for pictures in colour.
    """

    aimed: float = 0.8
    scaled: float = 0.25
    misplaced: float = 0.2
    worn: float = 0.1
    lit: float = 0.2
    noisy: float = 0.15
    blurred: float = 0.15
    coloured: float = 0.0

    def scaled_by(self, factor: float) -> Self:
        """The same aim, with `factor` times the share of every fault."""
        faults = {spec.name: getattr(self, spec.name) * factor for spec in fields(self) if spec.name != "aimed"}
        return replace(self, **faults)


@dataclass(frozen=True, slots=True)
class Look:
    """What is done, None for what is not: `blur_px` the deviation of a Gaussian; `light` a contrast, and levels that
    are added; `noise` the deviation of grain in levels, the same in all channels; `colour` a turn of the hue in
    radians, and a factor of the saturation.
    """

    blur_px: float | None = None
    light: tuple[float, float] | None = None
    noise: float | None = None
    colour: tuple[float, float] | None = None


PLAIN = Look()


def drawn(rng: Rng, how: Augment) -> Look:
    """A look by lot; the lots are as many whatever falls, so that what follows does not hang on it."""
    blurred, lit, noisy, coloured = (rng.random() < share for share in (how.blurred, how.lit, how.noisy, how.coloured))
    blur_px, contrast, level, grain = (
        float(rng.uniform(*span)) for span in ((0.4, 0.9), (0.65, 1.1), (0, 50), (2, 14))
    )
    hue, saturation = float(rng.uniform(-0.17, 0.17)), float(rng.uniform(0.7, 1.3))
    return Look(
        blur_px=blur_px if blurred else None,
        light=(contrast, level) if lit else None,
        noise=grain if noisy else None,
        colour=(hue, saturation) if coloured else None,
    )
