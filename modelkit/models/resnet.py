"""ResNet-50 as an encoder: features at five sizes instead of a class (He et al. 2016, table 1)."""

import torch
from torch import nn

from modelkit.models.layers import conv

_REPEATS = (3, 4, 6, 3)


class _Bottleneck(nn.Module):  # type: ignore[misc] # torch is not installed where the types are checked
    """1x1, 3x3 (with the stride), 1x1, added to what came in."""

    def __init__(self, into: int, inner: int, stride: int) -> None:
        super().__init__()
        out = 4 * inner
        self.body = nn.Sequential(
            conv(into, inner, 1), conv(inner, inner, stride=stride), conv(inner, out, 1, activation="none")
        )
        same = into == out and stride == 1
        self.past = nn.Identity() if same else conv(into, out, 1, stride=stride, activation="none")
        self.last = nn.ReLU(inplace=True)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.last(self.body(x) + self.past(x))


class ResNet50(nn.Module):  # type: ignore[misc] # torch is not installed where the types are checked
    """Takes (N, 3 * inputs, H, W); gives features at H/2, H/4, H/8, H/16 and H/32, of `channels`.

    `width` 64 is the published network, whose last feature has 32 times as many channels.
    """

    def __init__(self, inputs: int, width: int) -> None:
        super().__init__()
        self.stem = conv(3 * inputs, width, 7, stride=2)
        self.channels = [width, *(4 * width * 2**level for level in range(4))]
        stages, into = [], width
        for level, repeats in enumerate(_REPEATS):
            blocks: list[nn.Module] = [nn.MaxPool2d(3, stride=2, padding=1)] if level == 0 else []
            for index in range(repeats):
                blocks.append(_Bottleneck(into, width * 2**level, 2 if index == 0 and level > 0 else 1))
                into = self.channels[level + 1]
            stages.append(nn.Sequential(*blocks))
        self.stages = nn.ModuleList(stages)

    def forward(self, x: torch.Tensor) -> list[torch.Tensor]:
        features = [self.stem(x)]
        for stage in self.stages:
            features.append(stage(features[-1]))
        return features
