"""The architectures by name. Needs torch."""

from collections.abc import Callable
from importlib import import_module
from typing import Final

from torch import nn

from modelkit.models.bisenetv2 import BiSeNetV2, bisenetv2_attention
from modelkit.models.deeplab import DeepLabV3Plus
from modelkit.models.encoder_unet import unet_mobilenetv2, unet_mobilenetv3, unet_resnet50
from modelkit.models.pair_unet import PairUNet
from modelkit.models.unet import UNet

Maker = Callable[[int, int, int], nn.Module]


def _segformer(classes: int, inputs: int, width: int) -> nn.Module:
    # Imported when it is asked for: the library behind it takes seconds, and the others do without.
    return import_module("modelkit.models.segformer").SegFormer(classes, inputs, width)


ARCHITECTURES: Final[dict[str, Maker]] = {
    "pair-unet": PairUNet,
    "unet": UNet,
    "unet-mobilenetv2": unet_mobilenetv2,
    "unet-mobilenetv3": unet_mobilenetv3,
    "unet-resnet50": unet_resnet50,
    "deeplabv3plus-mobilenetv3": DeepLabV3Plus,
    "bisenetv2": BiSeNetV2,
    "bisenetv2-attention": bisenetv2_attention,
    "segformer-b0": _segformer,
}
"""Each takes classes, number of input pictures and width; gives a module whose `forward` takes the pictures, each
(N, 3, H, W) float and normalised, and returns logits (N, classes, H, W). H and W are multiples of 32."""

FULL_WIDTH: Final[dict[str, int]] = {
    "pair-unet": 24,
    "unet": 16,
    "unet-mobilenetv2": 32,
    "unet-mobilenetv3": 16,
    "unet-resnet50": 64,
    "deeplabv3plus-mobilenetv3": 16,
    "bisenetv2": 64,
    "bisenetv2-attention": 64,
    "segformer-b0": 32,
}
"""The published width, or that of the zoo for the two that are this project's own."""


def build(name: str, classes: int, inputs: int, width: int) -> nn.Module:
    """Raises ValueError for a name that is not in ARCHITECTURES."""
    if name not in ARCHITECTURES:
        raise ValueError(f"no architecture {name!r}: there are {', '.join(sorted(ARCHITECTURES))}")
    return ARCHITECTURES[name](classes, inputs, width)
