"""What training makes small: a mix of losses by name, each of which is 0 for a sure and right answer.

Shapes: logits (N, classes, H, W) float; mask (N, H, W) int64 of class ids, 0 being the background.
"""

from collections.abc import Callable, Mapping
from typing import Final

import torch
from kornia.losses import lovasz_softmax_loss
from torch.nn import functional

_GAMMA: Final = 2.0
_NEAR_PX: Final = 5
"""The square around a pixel that must be of one class for the pixel not to be on a boundary."""


def mixed_loss(
    logits: torch.Tensor, mask: torch.Tensor, emphasis: float, weights: Mapping[str, float] | None = None
) -> torch.Tensor:
    """The weighted sum of `parts`, of cross-entropy and half of Dice unless told."""
    by_name = {"cross-entropy": 1.0, "dice": 0.5} if weights is None else weights
    values = parts(logits, mask, emphasis, tuple(by_name))
    return torch.stack([by_name[name] * value for name, value in values.items()]).sum()


def parts(logits: torch.Tensor, mask: torch.Tensor, emphasis: float, names: tuple[str, ...]) -> dict[str, torch.Tensor]:
    """Each named loss by itself. `emphasis` is how many times a background pixel's a defect's counts, in those losses
    that are means over pixels.
    """
    weight = torch.full((logits.shape[1],), emphasis, dtype=logits.dtype)
    weight[0] = 1.0
    return {name: _LOSSES[name](logits, mask, weight) for name in names}


def _entropy(logits: torch.Tensor, mask: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    return functional.cross_entropy(logits, mask, weight=weight)


def _dice(logits: torch.Tensor, mask: torch.Tensor, _: torch.Tensor) -> torch.Tensor:
    """One minus the soft Dice of the defect classes over the batch."""
    share = logits.softmax(1)[:, 1:]
    truth = functional.one_hot(mask, logits.shape[1]).permute(0, 3, 1, 2)[:, 1:].float()
    overlap = (share * truth).sum((0, 2, 3))
    dice = (2 * overlap + 1) / (share.sum((0, 2, 3)) + truth.sum((0, 2, 3)) + 1)
    return 1 - dice.mean()


def _focal(logits: torch.Tensor, mask: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    """Cross-entropy in which what is nearly right hardly counts (Lin et al. 2017)."""
    entropy = functional.cross_entropy(logits, mask, reduction="none")
    counts = weight[mask]
    return (counts * (1 - (-entropy).exp()) ** _GAMMA * entropy).sum() / counts.sum()


def _lovasz(logits: torch.Tensor, mask: torch.Tensor, _: torch.Tensor) -> torch.Tensor:
    """The smooth extension of one minus the IoU (Berman et al. 2018), by picture and class."""
    value: torch.Tensor = lovasz_softmax_loss(logits, mask)
    return value


def _boundary(logits: torch.Tensor, mask: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    """Cross-entropy over the pixels within 2 px of another class, 0 where there are none."""
    ids = mask[:, None].to(logits.dtype)
    reach = _NEAR_PX // 2
    highest = functional.max_pool2d(ids, _NEAR_PX, stride=1, padding=reach)
    lowest = -functional.max_pool2d(-ids, _NEAR_PX, stride=1, padding=reach)
    counts = (highest != lowest)[:, 0] * weight[mask]
    entropy = functional.cross_entropy(logits, mask, reduction="none")
    return (counts * entropy).sum() / counts.sum().clamp(min=1.0)


_LOSSES: Final[dict[str, Callable[[torch.Tensor, torch.Tensor, torch.Tensor], torch.Tensor]]] = {
    "cross-entropy": _entropy,
    "dice": _dice,
    "focal": _focal,
    "lovasz": _lovasz,
    "boundary": _boundary,
}
