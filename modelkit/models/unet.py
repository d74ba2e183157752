"""A small U-Net of operators that the NPU runs: convolution, ReLU, max pooling, nearest upsampling, concatenation.

Batch normalisation is folded into the convolutions by the exporter. The stem halves the picture, so the costly levels
run on a quarter of the pixels; a transposed convolution gives the logits at full size again.
"""

import torch
from torch import nn


def _conv(into: int, out: int, stride: int = 1) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(into, out, 3, stride=stride, padding=1, bias=False), nn.BatchNorm2d(out), nn.ReLU(inplace=True)
    )


class UNet(nn.Module):  # type: ignore[misc] # torch is not installed where the types are checked
    """Takes `inputs` pictures (N, 3, H, W) float, about zero mean and unit deviation; gives logits (N, classes, H, W).
    H and W are multiples of 16. `width` channels at half size; deeper levels have 2, 4 and 6 times as many.
    """

    def __init__(self, classes: int, inputs: int = 1, width: int = 16) -> None:
        super().__init__()
        b = width
        self.stem = nn.Sequential(_conv(3 * inputs, b, stride=2), _conv(b, b))
        self.down = nn.ModuleList(
            nn.Sequential(nn.MaxPool2d(2), _conv(into, out), _conv(out, out))
            for into, out in ((b, 2 * b), (2 * b, 4 * b), (4 * b, 6 * b))
        )
        self.grow = nn.Upsample(scale_factor=2, mode="nearest")
        self.up = nn.ModuleList((_conv(10 * b, 4 * b), _conv(6 * b, 2 * b), _conv(3 * b, b)))
        self.refine = _conv(b, b)
        self.head = nn.ConvTranspose2d(b, classes, 2, stride=2)
        with torch.no_grad():
            # Nearly all is background; to begin there saves the first few hundred steps.
            self.head.bias[0] += 3.0

    def forward(self, *pictures: torch.Tensor) -> torch.Tensor:
        levels = [self.stem(pictures[0] if len(pictures) == 1 else torch.cat(pictures, dim=1))]
        for down in self.down:
            levels.append(down(levels[-1]))
        x = levels.pop()
        for up in self.up:
            x = up(torch.cat([self.grow(x), levels.pop()], dim=1))
        return self.head(self.refine(x))
