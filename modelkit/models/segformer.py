"""SegFormer-B0 (Xie et al. 2021): the library transformers' own, from random weights, behind this package's interface.

Several pictures are joined at the first patch embedding.
"""

import torch
from torch import nn
from transformers.models.segformer import (
    SegformerConfig,
    SegformerForSemanticSegmentation,
)

_HEADS = (1, 2, 5, 8)
_DECODER = 8
"""The decoder's channels are so many times the width."""


class SegFormer(nn.Module):  # type: ignore[misc] # torch is not installed where the types are checked
    """Takes `inputs` pictures (N, 3, H, W) float, about zero mean and unit deviation; gives logits (N, classes, H, W).
    H and W are multiples of 32. `width` is the channels of each attention head, 32 as published.
    """

    def __init__(self, classes: int, inputs: int = 1, width: int = 32) -> None:
        super().__init__()
        config = SegformerConfig(
            num_channels=3 * inputs,
            num_labels=classes,
            depths=[2, 2, 2, 2],
            hidden_sizes=[heads * width for heads in _HEADS],
            num_attention_heads=list(_HEADS),
            decoder_hidden_size=_DECODER * width,
            attn_implementation="eager",
        )
        self.net = SegformerForSemanticSegmentation(config)
        with torch.no_grad():
            # Nearly all is background; to begin there saves the first few hundred steps.
            self.net.decode_head.classifier.bias[0] += 3.0
        self.grow = nn.Upsample(scale_factor=4, mode="bilinear", align_corners=False)

    def forward(self, *pictures: torch.Tensor) -> torch.Tensor:
        x = pictures[0] if len(pictures) == 1 else torch.cat(pictures, dim=1)
        return self.grow(self.net(pixel_values=x, return_dict=True).logits)
