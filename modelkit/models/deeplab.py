"""DeepLabV3+ (Chen et al. 2018) on MobileNetV3-Large at a sixteenth of the size, with separable convolutions.

The pooled branch of its pyramid is added after its share of the projection, which is the same arithmetic as to enlarge
and concatenate it, and needs no resizing from one pixel. Several pictures are joined at the stem.
"""

import torch
from torch import nn

from modelkit.models import mobilenet
from modelkit.models.layers import conv, eighths, head, joined, separable

_RATES = (6, 12, 18)


class _Pyramid(nn.Module):  # type: ignore[misc] # torch is not installed where the types are checked
    def __init__(self, into: int, out: int) -> None:
        super().__init__()
        self.branches = nn.ModuleList([conv(into, out, 1), *(separable(into, out, dilation=rate) for rate in _RATES)])
        self.project = nn.Conv2d((1 + len(_RATES)) * out, out, 1, bias=False)
        # No batch normalisation behind the pool: it would have one value a channel and picture to go by.
        self.pooled = nn.Sequential(
            nn.AdaptiveAvgPool2d(1), nn.Conv2d(into, out, 1), nn.ReLU(inplace=True), nn.Conv2d(out, out, 1)
        )
        self.last = nn.Sequential(nn.BatchNorm2d(out), nn.ReLU(inplace=True))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        near = self.project(torch.cat([branch(x) for branch in self.branches], dim=1))
        return self.last(near + self.pooled(x))


class DeepLabV3Plus(nn.Module):  # type: ignore[misc] # torch is not installed where the types are checked
    """Takes `inputs` pictures (N, 3, H, W) float, about zero mean and unit deviation; gives logits (N, classes, H, W).
    H and W are multiples of 16. `width` is the stem's channels, 16 as published; the decoder has 16 times as many.
    """

    def __init__(self, classes: int, inputs: int = 1, width: int = 16) -> None:
        super().__init__()
        wide, thin = eighths(16 * width), eighths(3 * width)
        self.encoder = mobilenet.v3(inputs, width, dilated=True)
        self.pyramid = _Pyramid(self.encoder.channels[-1], wide)
        self.narrow = conv(self.encoder.channels[1], thin, 1)
        self.grow = nn.Upsample(scale_factor=4, mode="bilinear", align_corners=False)
        self.refine = nn.Sequential(separable(wide + thin, wide), separable(wide, wide))
        self.head = head(wide, classes)

    def forward(self, *pictures: torch.Tensor) -> torch.Tensor:
        features = self.encoder(joined(pictures))
        far = self.grow(self.pyramid(features[-1]))
        return self.grow(self.head(self.refine(torch.cat([far, self.narrow(features[1])], dim=1))))
