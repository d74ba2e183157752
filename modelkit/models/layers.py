"""Layers that the architectures share, of operators that the NPU runs."""

from collections.abc import Sequence
from typing import Final, Literal

import torch
from torch import nn

Activation = Literal["relu", "relu6", "hard-swish", "none"]
_ACTIVATIONS: Final[dict[str, type[nn.Module]]] = {"relu": nn.ReLU, "relu6": nn.ReLU6, "hard-swish": nn.Hardswish}


def conv(into: int, out: int, kernel: int = 3, stride: int = 1, activation: Activation = "relu") -> nn.Sequential:
    """Convolution that keeps the size (but for the stride), batch normalisation, activation.

    The exporter folds the normalisation into the convolution.
    """
    core = nn.Conv2d(into, out, kernel, stride=stride, padding=kernel // 2, bias=False)
    return nn.Sequential(core, nn.BatchNorm2d(out), *_active(activation))


def depthwise(
    channels: int, kernel: int = 3, stride: int = 1, dilation: int = 1, activation: Activation = "relu"
) -> nn.Sequential:
    """The same on each channel alone."""
    reach = dilation * (kernel // 2)
    core = nn.Conv2d(
        channels, channels, kernel, stride=stride, padding=reach, dilation=dilation, groups=channels, bias=False
    )
    return nn.Sequential(core, nn.BatchNorm2d(channels), *_active(activation))


def _active(activation: Activation) -> list[nn.Module]:
    return [] if activation == "none" else [_ACTIVATIONS[activation](inplace=True)]


def separable(into: int, out: int, *, dilation: int = 1) -> nn.Sequential:
    """3x3 on each channel alone, then 1x1 over the channels."""
    return nn.Sequential(depthwise(into, dilation=dilation), conv(into, out, 1))


def eighths(channels: float) -> int:
    """The next multiple of 8, at least 8: the NPU computes whole groups of channels whether they are there or not."""
    return max(8, int(channels + 4) // 8 * 8)


def head(into: int, classes: int) -> nn.Conv2d:
    """Logits from features. Nearly all is background; to begin there saves the first few hundred steps."""
    last = nn.Conv2d(into, classes, 1)
    with torch.no_grad():
        last.bias[0] += 3.0
    return last


def joined(pictures: Sequence[torch.Tensor]) -> torch.Tensor:
    """Early fusion: the channels of all pictures side by side, (N, 3 * inputs, H, W)."""
    return pictures[0] if len(pictures) == 1 else torch.cat(list(pictures), dim=1)


class SqueezeExcite(nn.Module):  # type: ignore[misc] # torch is not installed where the types are checked
    """Scales each channel by a gate that is computed from the means of all (Hu et al. 2018), with a hard sigmoid."""

    def __init__(self, channels: int, reduced: int | None = None) -> None:
        super().__init__()
        reduced = eighths(channels / 4) if reduced is None else reduced
        self.gate = nn.Sequential(
            nn.AdaptiveAvgPool2d(1),
            nn.Conv2d(channels, reduced, 1),
            nn.ReLU(inplace=True),
            nn.Conv2d(reduced, channels, 1),
            nn.Hardsigmoid(),
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x * self.gate(x)


class SpatialGate(nn.Module):  # type: ignore[misc] # torch is not installed where the types are checked
    """Scales each place by a gate that is computed from its channels (Roy et al. 2018)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.gate = nn.Sequential(nn.Conv2d(channels, 1, 1), nn.Sigmoid())

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x * self.gate(x)
