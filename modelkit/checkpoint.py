"""What training leaves: a state of the network with the plan that made it; only numbers and texts are unpickled."""

from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch
from torch import nn

from modelkit.models import build
from modelkit.plan import Plan
from modelkit.structure import rebuilt


def load(checkpoint: Path) -> tuple[nn.Module, Plan, dict[str, Any]]:
    """The network, ready for inference, its plan, and the record (plan, step, miou, parameters).

    Raises ValueError for a file that is no checkpoint.
    """
    state = read(checkpoint)
    plan = Plan(**state["plan"])
    net = build(plan.architecture, plan.classes, len(plan.roles), plan.width)
    net = rebuilt(net, state.get("structure", {}), len(plan.roles))
    net.load_state_dict(state["model"])
    record = {key: state[key] for key in ("plan", "step", "miou")}
    return net.eval(), plan, record | {"parameters": sum(p.numel() for p in net.parameters())}


def read(path: Path) -> dict[str, Any]:
    """Raises ValueError for a file that is missing or no checkpoint."""
    try:
        state = torch.load(path, weights_only=True)
    except (OSError, RuntimeError, EOFError, UnpicklingError) as error:
        raise ValueError(f"{path} is missing or no checkpoint of this trainer: {error}") from None
    if not isinstance(state, dict) or "model" not in state:
        raise ValueError(f"{path} is no checkpoint of this trainer")
    return state


def save(state: dict[str, Any], path: Path) -> None:
    """Whole or not at all."""
    part = path.with_suffix(".part")
    torch.save(state, part)
    part.replace(path)
