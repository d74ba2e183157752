"""A U-Net that compares a picture with its golden reference, of operators that the NPU runs.

Both pictures become grey inside the network. A thin level at full size keeps the exact edges of what differs, the wide
levels below tell what kind of fault it is. Batch normalisation is folded into the convolutions by the exporter.
"""

import torch
from torch import nn

_GREY = (0.299, 0.587, 0.114)


def _conv(into: int, out: int, stride: int = 1) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(into, out, 3, stride=stride, padding=1, bias=False), nn.BatchNorm2d(out), nn.ReLU(inplace=True)
    )


class PairUNet(nn.Module):  # type: ignore[misc] # torch is not installed where the types are checked
    """Takes `inputs` pictures (N, 3, H, W) float, about zero mean and unit deviation; gives logits (N, classes, H, W).
    H and W are multiples of 16. `width` is the number of channels at half size.
    """

    def __init__(self, classes: int, inputs: int = 2, width: int = 24) -> None:
        super().__init__()
        w, thin = width, max(8, width // 3)
        self.grey = nn.Conv2d(3, 1, 1, bias=False)
        with torch.no_grad():
            self.grey.weight.copy_(torch.tensor(_GREY).view(1, 3, 1, 1))
        self.grey.weight.requires_grad_(requires_grad=False)
        self.fine = nn.Sequential(_conv(inputs, thin), _conv(thin, thin))
        self.stem = nn.Sequential(_conv(thin, w, stride=2), _conv(w, w))
        self.down = nn.ModuleList(
            nn.Sequential(nn.MaxPool2d(2), _conv(into, out), _conv(out, out))
            for into, out in ((w, 2 * w), (2 * w, 4 * w), (4 * w, 16 * w // 3))
        )
        self.grow = nn.Upsample(scale_factor=2, mode="nearest")
        deepest = nn.Sequential(_conv(16 * w // 3 + 4 * w, 8 * w // 3), _conv(8 * w // 3, 8 * w // 3))
        self.up = nn.ModuleList((deepest, _conv(8 * w // 3 + 2 * w, 2 * w), _conv(3 * w, w)))
        self.narrow = nn.Conv2d(w, w // 2, 1)
        self.join = _conv(w // 2 + thin, 2 * thin)
        self.head = nn.Conv2d(2 * thin, classes, 1)
        with torch.no_grad():
            # Nearly all is background; to begin there saves the first few hundred steps.
            self.head.bias[0] += 3.0

    def forward(self, *pictures: torch.Tensor) -> torch.Tensor:
        edge = self.fine(torch.cat([self.grey(picture) for picture in pictures], dim=1))
        levels = [self.stem(edge)]
        for down in self.down:
            levels.append(down(levels[-1]))
        x = levels.pop()
        for up in self.up:
            x = up(torch.cat([self.grow(x), levels.pop()], dim=1))
        return self.head(self.join(torch.cat([self.grow(self.narrow(x)), edge], dim=1)))
