"""The architectures by name. Needs torch."""

from collections.abc import Callable
from typing import Final

from torch import nn

from modelkit.models.pair_unet import PairUNet
from modelkit.models.unet import UNet

Maker = Callable[[int, int, int], nn.Module]
ARCHITECTURES: Final[dict[str, Maker]] = {"pair-unet": PairUNet, "unet": UNet}
"""Each takes classes, number of input pictures and width; gives a module whose `forward` takes the pictures, each
(N, 3, H, W) float and normalised, and returns logits (N, classes, H, W)."""


def build(name: str, classes: int, inputs: int, width: int) -> nn.Module:
    """Raises ValueError for a name that is not in ARCHITECTURES."""
    if name not in ARCHITECTURES:
        raise ValueError(f"no architecture {name!r}: there are {', '.join(sorted(ARCHITECTURES))}")
    return ARCHITECTURES[name](classes, inputs, width)
