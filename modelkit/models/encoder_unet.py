"""U-Nets on a known encoder: MobileNetV2, MobileNetV3-Large, or ResNet-50 as a large teacher.

Several pictures are joined at the stem. Nearest upsampling and 3x3 convolutions lead back to full size.
"""

from typing import Protocol

import torch
from torch import nn

from modelkit.models import mobilenet
from modelkit.models.layers import conv, eighths, head, joined
from modelkit.models.resnet import ResNet50


class Encoder(Protocol):
    """Gives features at half size, a quarter and so on, the largest first; `channels` are theirs."""

    channels: list[int]

    def __call__(self, x: torch.Tensor) -> list[torch.Tensor]: ...


class EncoderUNet(nn.Module):  # type: ignore[misc] # torch is not installed where the types are checked
    """Takes pictures (N, 3, H, W) float, about zero mean and unit deviation; gives logits (N, classes, H, W).
    H and W are multiples of 32. `widest` is the channels of the first level of the decoder; each next has half.
    """

    def __init__(self, encoder: Encoder, classes: int, widest: int) -> None:
        super().__init__()
        self.encoder = encoder
        self.grow = nn.Upsample(scale_factor=2, mode="nearest")
        levels, into = [], encoder.channels[-1]
        for depth, beside in enumerate([*encoder.channels[-2::-1], 0]):
            out = eighths(widest / 2**depth)
            levels.append(nn.Sequential(conv(into + beside, out), conv(out, out)))
            into = out
        self.levels = nn.ModuleList(levels)
        self.head = head(into, classes)

    def forward(self, *pictures: torch.Tensor) -> torch.Tensor:
        features = self.encoder(joined(pictures))
        x = features.pop()
        for level in self.levels:
            x = self.grow(x)
            x = level(torch.cat([x, features.pop()], dim=1) if features else x)
        return self.head(x)


def unet_mobilenetv2(classes: int, inputs: int = 1, width: int = 32) -> EncoderUNet:
    """`width` is the stem's channels, 32 as published; the decoder begins with 8 times as many."""
    return EncoderUNet(mobilenet.v2(inputs, width), classes, 8 * width)


def unet_mobilenetv3(classes: int, inputs: int = 1, width: int = 16) -> EncoderUNet:
    """`width` is the stem's channels, 16 as published; the decoder begins with 16 times as many."""
    return EncoderUNet(mobilenet.v3(inputs, width), classes, 16 * width)


def unet_resnet50(classes: int, inputs: int = 1, width: int = 64) -> EncoderUNet:
    """`width` is the stem's channels, 64 as published; the decoder begins with 4 times as many. Meant as a teacher."""
    return EncoderUNet(ResNet50(inputs, width), classes, 4 * width)
