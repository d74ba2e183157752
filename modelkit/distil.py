"""Knowledge distillation: a student learns from the masks and from how a trained teacher sees the same pictures."""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn
from torch.nn import functional

from modelkit import train
from modelkit.cost import figures
from modelkit.data import Sample
from modelkit.lineage import Change
from modelkit.plan import Plan


@dataclass(frozen=True, slots=True)
class Distil:
    """`teacher` is a checkpoint, of any architecture and size. Logits of both are divided by `temperature` before they
    are compared; `weight` is how much that counts beside the loss of the plan.

    Raises ValueError for a temperature or a weight that is not above 0.
    """

    teacher: str
    temperature: float = 2.0
    weight: float = 1.0

    def __post_init__(self) -> None:
        if not (self.temperature > 0 and self.weight > 0):
            raise ValueError(f"temperature {self.temperature} and weight {self.weight} must be above 0")


def fit(
    how: Distil, plan: Plan, crops: train.Crops, unseen: Sequence[Sample], folder: Path, *, resume: bool = False
) -> Change:
    """Train the plan's network as `train.fit` does, with the teacher beside it; the change is from teacher to student.

    Raises ValueError where the teacher tells other classes apart, or needs an input that the plan has not.
    """
    teacher, theirs, _ = train.load(Path(how.teacher))
    if theirs.classes != plan.classes:
        raise ValueError(f"{how.teacher} tells {theirs.classes} classes apart, the plan {plan.classes}")
    if missing := [role for role in theirs.roles if role not in plan.roles]:
        raise ValueError(f"{how.teacher} needs {', '.join(missing)}, which the plan has not among its roles")
    teacher.requires_grad_(requires_grad=False).to(memory_format=torch.channels_last)
    extra = Softened(teacher, [plan.roles.index(role) for role in theirs.roles], how)
    started = time.monotonic()
    train.fit(plan, crops, unseen, folder, resume=resume, otherwise=train.Otherwise(extra=extra))
    seconds = time.monotonic() - started
    student, _, record = train.load(folder / "best.pt")
    return Change(
        "distil",
        figures(teacher, theirs.roles, unseen),
        figures(student, plan.roles, unseen),
        seconds,
        {
            "parent": f"{theirs.architecture}, width {theirs.width}",
            "temperature": how.temperature,
            "weight": how.weight,
            "steps": int(record["step"]),
        },
    )


def softened(logits: torch.Tensor, taught: torch.Tensor, temperature: float) -> torch.Tensor:
    """Divergence (Kullback-Leibler) of the student's softened classes from the teacher's, times the square of the
    temperature (Hinton et al. 2015), which keeps its gradient beside that of the other losses. Both are
    (N, classes, H, W).

    What the teacher takes for background and what it takes for defects count alike: by pixels, defects would hardly.
    """
    wanted = (taught / temperature).softmax(1)
    apart = functional.kl_div((logits / temperature).log_softmax(1), wanted, reduction="none").sum(1)
    background = wanted[:, 0]
    sides = [(apart * side).sum() / side.sum().clamp(min=1.0) for side in (background, 1 - background)]
    return 0.5 * (sides[0] + sides[1]) * temperature**2


@dataclass(frozen=True, slots=True)
class Softened:
    """The part of the loss that a teacher adds; of the pictures it takes those at `inputs`."""

    teacher: nn.Module
    inputs: list[int]
    how: Distil

    def __call__(self, pictures: list[torch.Tensor], logits: torch.Tensor) -> torch.Tensor:
        with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
            taught = self.teacher(*(pictures[place] for place in self.inputs)).float()
        return self.how.weight * softened(logits, taught, self.how.temperature)
