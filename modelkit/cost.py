"""What a network costs and how good it is, in the figures by which a compressed one is held against its parent."""

from collections.abc import Sequence

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from modelkit.data import Sample
from modelkit.evaluate import Tally
from modelkit.lineage import Figures
from modelkit.train import validate


def figures(net: nn.Module, roles: Sequence[str], unseen: Sequence[Sample]) -> Figures:
    """Measured on `unseen`, which must not be empty; MACs for pictures of the size of its first."""
    tally = validate(net, roles, unseen)
    return Figures(parameters(net), macs(net, len(roles), unseen[0].mask.shape), tally.miou(), region_f1(tally))


def parameters(net: nn.Module) -> int:
    return sum(each.numel() for each in net.parameters())


def macs(net: nn.Module, inputs: int, picture_hw: Sequence[int]) -> int:
    """Multiplications with addition for one picture (or pair); of convolutions and matrix products alone."""
    was_training = net.training
    net.eval()
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        net(*(torch.zeros(1, 3, *picture_hw) for _ in range(inputs)))
    net.train(was_training)
    return int(counter.get_total_flops()) // 2


def region_f1(tally: Tally) -> float | None:
    """Of connected regions; None where neither map has any."""
    precision, recall = tally.precision(), tally.recall()
    if precision is None or recall is None:
        return None
    return 2 * precision * recall / (precision + recall) if precision + recall else 0.0
