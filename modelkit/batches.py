"""Samples as the tensors that a network takes, cut while it works on those before."""

from collections.abc import Generator, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import torch

from modelkit.data import Sample
from modelkit.plan import DEVIATION, MEAN, Plan

Batch = tuple[list[torch.Tensor], torch.Tensor]
"""Pictures of each input, (N, 3, H, W) normalised, and the masks (N, H, W) int64."""


def normalised(pictures: torch.Tensor) -> torch.Tensor:
    """(N, 3, H, W) of 0 to 255 to what the network takes; the converter bakes in the same two numbers."""
    return (pictures.float() - MEAN) / DEVIATION


def tensor(pictures: list[Any]) -> torch.Tensor:
    """(N, 3, H, W) normalised, of N pictures (H, W, 3) uint8."""
    stacked = torch.from_numpy(np.stack(pictures)).permute(0, 3, 1, 2)
    return normalised(stacked).contiguous(memory_format=torch.channels_last)


def batches(samples: Iterator[Sample], plan: Plan) -> Generator[Batch]:
    """Batches, the next ones being cut while the network works on this one."""

    def gather() -> Batch:
        chosen = [next(samples) for _ in range(plan.batch)]
        by_input = zip(*(sample.inputs(plan.roles) for sample in chosen), strict=True)
        return [tensor(list(each)) for each in by_input], torch.from_numpy(np.stack([s.mask for s in chosen])).long()

    with ThreadPoolExecutor(1) as pool:
        following = pool.submit(gather)
        while True:
            batch = following.result()
            following = pool.submit(gather)
            yield batch
