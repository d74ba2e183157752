"""BiSeNetV2 (Yu et al. 2021): a wide shallow branch for details, a thin deep one for meaning, each guiding the other.

With attention, each branch and what they give together are gated by channel and by place (Roy et al. 2018). CBAM's own
gate by place takes a maximum over channels, which the toolkit leaves to the CPU; a 1x1 convolution stays on the NPU.
The booster heads of the paper, which serve training alone, are left out. Several pictures are joined at the stem.
"""

import torch
from torch import nn

from modelkit.models.layers import SpatialGate, SqueezeExcite, conv, depthwise, eighths, head, joined


class _Stem(nn.Module):  # type: ignore[misc] # torch is not installed where the types are checked
    """To a quarter of the size, by convolution and by pooling."""

    def __init__(self, into: int, out: int) -> None:
        super().__init__()
        self.first = conv(into, out, stride=2)
        self.left = nn.Sequential(conv(out, eighths(out / 2), 1), conv(eighths(out / 2), out, stride=2))
        self.right = nn.MaxPool2d(3, stride=2, padding=1)
        self.last = conv(2 * out, out)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.first(x)
        return self.last(torch.cat([self.left(x), self.right(x)], dim=1))


class _Gather(nn.Module):  # type: ignore[misc] # torch is not installed where the types are checked
    """Gather and expansion: an inverted residual, with two depthwise convolutions where it shrinks."""

    def __init__(self, into: int, out: int, stride: int, times: int = 6) -> None:
        super().__init__()
        wide = times * into
        middle = [depthwise(wide, stride=stride, activation="none" if stride > 1 else "relu")]
        if stride > 1:
            middle.append(depthwise(wide))
        self.body = nn.Sequential(conv(into, into), conv(into, wide, 1), *middle, conv(wide, out, 1, activation="none"))
        self.past: nn.Module = nn.Identity()
        if stride > 1:
            self.past = nn.Sequential(
                depthwise(into, stride=stride, activation="none"),
                conv(into, out, 1, activation="none"),
            )
        self.last = nn.ReLU(inplace=True)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.last(self.body(x) + self.past(x))


class _Context(nn.Module):  # type: ignore[misc] # torch is not installed where the types are checked
    """Context embedding: the whole picture's mean, added everywhere."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        # No batch normalisation behind the pool: it would have one value a channel and picture to go by.
        self.mean = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Conv2d(channels, channels, 1), nn.ReLU(inplace=True))
        self.last = conv(channels, channels)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.last(x + self.mean(x))


class _Aggregation(nn.Module):  # type: ignore[misc] # torch is not installed where the types are checked
    """Bilateral guided aggregation: details at an eighth and meaning at a 32nd gate each other at both sizes."""

    def __init__(self, channels: int) -> None:
        super().__init__()

        def weighed() -> nn.Sequential:
            return nn.Sequential(depthwise(channels, activation="none"), nn.Conv2d(channels, channels, 1))

        self.detail_kept, self.meaning_kept = weighed(), weighed()
        self.detail_shrunk = nn.Sequential(
            conv(channels, channels, stride=2, activation="none"), nn.AvgPool2d(3, stride=2, padding=1)
        )
        self.meaning_grown = nn.Conv2d(channels, channels, 3, padding=1)
        self.gate = nn.Sigmoid()
        self.grow = nn.Upsample(scale_factor=4, mode="bilinear", align_corners=False)
        self.last = conv(channels, channels)

    def forward(self, detail: torch.Tensor, meaning: torch.Tensor) -> torch.Tensor:
        large = self.detail_kept(detail) * self.gate(self.grow(self.meaning_grown(meaning)))
        small = self.detail_shrunk(detail) * self.gate(self.meaning_kept(meaning))
        return self.last(large + self.grow(small))


def _attention(channels: int) -> nn.Sequential:
    return nn.Sequential(SqueezeExcite(channels), SpatialGate(channels))


class BiSeNetV2(nn.Module):  # type: ignore[misc] # torch is not installed where the types are checked
    """Takes `inputs` pictures (N, 3, H, W) float, about zero mean and unit deviation; gives logits (N, classes, H, W).
    H and W are multiples of 32. `width` is the channels of the details at half size, 64 as published.
    """

    def __init__(self, classes: int, inputs: int = 1, width: int = 64, *, attention: bool = False) -> None:
        super().__init__()
        w, thin, wide = width, eighths(width / 4), 2 * width
        self.detail = nn.Sequential(
            conv(3 * inputs, w, stride=2), conv(w, w),
            conv(w, w, stride=2), conv(w, w), conv(w, w),
            conv(w, wide, stride=2), conv(wide, wide), conv(wide, wide),
        )  # fmt: skip
        self.meaning = nn.Sequential(
            _Stem(3 * inputs, thin),
            _Gather(thin, 2 * thin, 2), _Gather(2 * thin, 2 * thin, 1),
            _Gather(2 * thin, 4 * thin, 2), _Gather(4 * thin, 4 * thin, 1),
            _Gather(4 * thin, wide, 2), *(_Gather(wide, wide, 1) for _ in range(3)),
            _Context(wide),
        )  # fmt: skip
        gates = [_attention(wide) if attention else nn.Identity() for _ in range(3)]
        self.detail_gate, self.meaning_gate, self.joint_gate = gates
        self.aggregation = _Aggregation(wide)
        self.grow = nn.Upsample(scale_factor=8, mode="bilinear", align_corners=False)
        self.head = nn.Sequential(conv(wide, 8 * w), head(8 * w, classes))

    def forward(self, *pictures: torch.Tensor) -> torch.Tensor:
        x = joined(pictures)
        both = self.aggregation(self.detail_gate(self.detail(x)), self.meaning_gate(self.meaning(x)))
        return self.grow(self.head(self.joint_gate(both)))


def bisenetv2_attention(classes: int, inputs: int = 1, width: int = 64) -> BiSeNetV2:
    return BiSeNetV2(classes, inputs, width, attention=True)
