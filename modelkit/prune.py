"""Structured pruning: whole channels go, and with them all that depends on them; then the rest is trained on.

What depends on what is torch-pruning's dependency graph: channels that are added or concatenated go together.
"""

import copy
import math
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Final, Literal

import torch
import torch_pruning as tp
from torch import nn

from modelkit import train
from modelkit.cost import figures, parameters
from modelkit.data import Sample
from modelkit.distil import Distil, Softened
from modelkit.lineage import Change
from modelkit.plan import Plan
from modelkit.structure import pictures

_MOST_RATIO: Final = 0.97
_HALVINGS: Final = 7
_IMPORTANCES: Final = {
    "l2": lambda: tp.importance.GroupMagnitudeImportance(p=2),
    "bn": tp.importance.BNScaleImportance,
}


@dataclass(frozen=True, slots=True)
class Prune:
    """`parent` is a checkpoint. What stays: at most `most_parameters`, or all but `ratio` (0 to 1) of the channels of
    each layer; one of the two is given. Channels count as much as their group's weights (`l2`) or as the scale of
    their batch normalisation (`bn`). Layers keep a multiple of `round_to` channels, 8 or 16 as the NPU computes them.
    Channels go in `rounds`, with training between them; a network that lost too many at once takes all for background
    and learns slowly. `taught` is how much it counts in training to see what the parent sees; 0 is nothing.

    Raises ValueError.
    """

    parent: str
    most_parameters: int | None = None
    ratio: float | None = None
    importance: Literal["l2", "bn"] = "l2"
    round_to: int = 8
    rounds: int = 2
    taught: float = 1.0

    def __post_init__(self) -> None:
        if (self.most_parameters is None) == (self.ratio is None):
            raise ValueError("give either most_parameters or ratio, to prune to")
        if self.ratio is not None and not 0 < self.ratio < 1:
            raise ValueError(f"a ratio of {self.ratio} is not between 0 and 1")
        if self.importance not in _IMPORTANCES:
            raise ValueError(f"no importance {self.importance!r}: there are {', '.join(_IMPORTANCES)}")
        if self.rounds < 1 or self.taught < 0:
            raise ValueError(f"{self.rounds} rounds, taught with weight {self.taught}: at least 1, and at least 0")
        if self.round_to not in (1, 4, 8, 16, 32):
            raise ValueError(f"channels are rounded to 1, 4, 8, 16 or 32, not {self.round_to}")


def fit(
    how: Prune, plan: Plan, crops: train.Crops, unseen: Sequence[Sample], folder: Path, *, resume: bool = False
) -> Change:
    """Prune the parent in rounds, each of which trains what is left by an equal part of the plan's steps, and keep the
    last as `train.fit` does; `train.load` knows its channels. Of the plan, architecture, width, classes and roles are
    the parent's. A resumed run goes on with the last round.

    Raises ValueError where the parent cannot be pruned so far.
    """
    parent, theirs, _ = train.load(Path(how.parent))
    inherited = {name: getattr(theirs, name) for name in ("architecture", "width", "classes", "roles")}
    ours = replace(plan, **inherited, steps=max(1, plan.steps // how.rounds))
    started = time.monotonic()
    extra = None
    if how.taught:
        teacher = copy.deepcopy(parent).requires_grad_(requires_grad=False)
        extra = Softened(teacher, list(range(len(ours.roles))), Distil(how.parent, weight=how.taught))
    net = train.load(folder / "last.pt")[0] if resume else parent
    for number, most in enumerate([] if resume else _targets(parent, how, len(ours.roles)), 1):
        net = net if parameters(net) <= most else _reduced(net, most, how, len(ours.roles))
        if number < how.rounds:
            place = folder / f"round-{number}"
            train.fit(ours, crops, unseen, place, otherwise=train.Otherwise(net.train(), extra))
            net = train.load(place / "best.pt")[0]
    untrained = figures(net, ours.roles, unseen)
    train.fit(ours, crops, unseen, folder, resume=resume, otherwise=train.Otherwise(net.train(), extra))
    seconds = time.monotonic() - started
    child, _, record = train.load(folder / "best.pt")
    told = {name: value for name, value in asdict(how).items() if value is not None}
    return Change(
        "prune",
        figures(parent, theirs.roles, unseen),
        figures(child, ours.roles, unseen),
        seconds,
        told
        | {"parent": f"{theirs.architecture}, width {theirs.width}, {parameters(parent)} parameters"}
        | {"steps": int(record["step"]), "untrainedMiou": round(untrained.miou, 4)},
    )


def pruned(net: nn.Module, how: Prune, inputs: int) -> nn.Module:
    """A copy pruned at once, in evaluation mode, of as many channels as the target allows. Raises ValueError."""
    return _reduced(net, _most(net, how, inputs), how, inputs)


def _most(net: nn.Module, how: Prune, inputs: int) -> int:
    if how.ratio is not None:
        return parameters(_without(net, how.ratio, how, inputs))
    most = how.most_parameters or 0
    if parameters(net) <= most:
        raise ValueError(f"the parent has {parameters(net)} parameters, which are no more than {most}")
    least = parameters(_without(net, _MOST_RATIO, how, inputs))
    if least > most:
        raise ValueError(f"{least} parameters are the fewest that can be left, more than {most}")
    return most


def _targets(net: nn.Module, how: Prune, inputs: int) -> list[int]:
    """The most parameters after each round, each round taking the same share."""
    whole, most = parameters(net), _most(net, how, inputs)
    return [max(most, int(whole * (most / whole) ** (number / how.rounds))) for number in range(1, how.rounds + 1)]


def _reduced(net: nn.Module, most: int, how: Prune, inputs: int) -> nn.Module:
    """By bisection, since a number of parameters follows from no ratio of channels. Raises ValueError."""
    low, high, best = 0.0, _MOST_RATIO, None
    for _ in range(_HALVINGS):
        middle = (low + high) / 2 if best is not None else high
        tried = _without(net, middle, how, inputs)
        if parameters(tried) <= most:
            high, best = middle, tried
        elif best is None:
            raise ValueError(f"{parameters(tried)} parameters are the fewest that can be left, more than {most}")
        else:
            low = middle
    return best or net


def _without(net: nn.Module, ratio: float, how: Prune, inputs: int) -> nn.Module:
    child = copy.deepcopy(net).eval()
    example = tuple(pictures(inputs))
    with torch.no_grad():
        wanted = child(*example).shape
    frozen = [layer for layer in child.modules() if _has_frozen(layer)]
    try:
        tp.pruner.BasePruner(
            child,
            example,
            importance=_IMPORTANCES[how.importance](),
            pruning_ratio_dict=_ratios(child, ratio, how.round_to),
            ignored_layers=[*frozen, _last(child, example)],
            round_to=how.round_to,
        ).step()
        with torch.no_grad():
            given = child(*example).shape
    except (RuntimeError, AssertionError, IndexError) as error:
        raise ValueError(f"this architecture cannot be pruned by {ratio:.0%}: {error}") from error
    if given != wanted:
        raise ValueError(f"pruned by {ratio:.0%} the network gives {tuple(given)}, not {tuple(wanted)}")
    return child


def _ratios(net: nn.Module, ratio: float, round_to: int) -> dict[nn.Module, float]:
    """By layer, rounded so that more stays: half of a narrow layer spares little and costs much."""
    ratios = {}
    for layer in net.modules():
        if isinstance(layer, nn.Conv2d | nn.ConvTranspose2d | nn.Linear):
            channels = layer.out_features if isinstance(layer, nn.Linear) else layer.out_channels
            stay = min(channels, math.ceil(channels * (1 - ratio) / round_to) * round_to)
            ratios[layer] = 1 - min(1.0, (stay + 0.5) / channels)
    return ratios


def _has_frozen(layer: nn.Module) -> bool:
    return any(not each.requires_grad for each in layer.parameters(recurse=False))


def _last(net: nn.Module, example: tuple[torch.Tensor, ...]) -> nn.Module:
    """The layer that gives the classes: the last with weights that is reached."""
    reached: list[nn.Module] = []
    layers = [each for each in net.modules() if isinstance(each, nn.Conv2d | nn.ConvTranspose2d | nn.Linear)]
    hooks = [each.register_forward_hook(lambda layer, _taken, _made: reached.append(layer)) for each in layers]
    with torch.no_grad():
        net(*example)
    for hook in hooks:
        hook.remove()
    return reached[-1]
