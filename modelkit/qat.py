"""Quantisation-aware training: from a trained float network to one whose int8 ranges were learned with its weights.

`export` writes them as QuantizeLinear and DequantizeLinear; the RKNN toolkit takes such a model's scales as they are.
"""

import time
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort
import torch
from torch import nn

from modelkit import train
from modelkit.batches import batches, tensor
from modelkit.cost import figures
from modelkit.data import Sample
from modelkit.export_onnx import OPSET, Exported
from modelkit.fake_quant import Quantised
from modelkit.lineage import Change, Setting
from modelkit.plan import DEVIATION, MEAN, Plan
from modelkit.structure import folded, pictures


@dataclass(frozen=True, slots=True)
class Qat:
    """`parent` is a float checkpoint. Ranges begin as what `observed` batches of training crops reach."""

    parent: str
    observed: int = 16

    def __post_init__(self) -> None:
        if self.observed < 1:
            raise ValueError(f"ranges need at least one batch to begin with, not {self.observed}")


def fit(
    how: Qat, plan: Plan, crops: train.Crops, unseen: Sequence[Sample], folder: Path, *, resume: bool = False
) -> Change:
    """Train the parent on, rounded as the NPU rounds; a twentieth of the rate that made it will do. Of the plan,
    architecture, width, classes and roles are the parent's. The change's child was measured with its rounding.

    Raises ValueError where the parent is quantised already.
    """
    parent, theirs, _ = train.load(Path(how.parent))
    ours = replace(plan, **{name: getattr(theirs, name) for name in ("architecture", "width", "classes", "roles")})
    before = figures(parent, theirs.roles, unseen)
    started = time.monotonic()
    net = train.load(folder / "last.pt")[0] if resume else prepared(parent, len(ours.roles))
    if not resume:
        observe(net, ours, crops, how.observed)
    unlearned = figures(net, ours.roles, unseen)
    train.fit(ours, crops, unseen, folder, resume=resume, otherwise=train.Otherwise(net=net.train()))
    seconds = time.monotonic() - started
    child, _, record = train.load(folder / "best.pt")
    after = replace(figures(child, ours.roles, unseen), parameters=before.parameters)
    told: dict[str, Setting] = {"parent": f"{theirs.architecture}, width {theirs.width}", "observed": how.observed}
    return Change(
        "qat", before, after, seconds, told | {"steps": int(record["step"]), "unlearnedMiou": round(unlearned.miou, 4)}
    )


def prepared(net: nn.Module, inputs: int) -> Quantised:
    """`net`, which is changed, with its batch normalisation folded and all its values rounded; ranges are empty."""
    if isinstance(net, Quantised):
        raise ValueError("the network is quantised already")  # noqa: TRY004 # a wrong checkpoint, not a wrong type
    pairs = folded(net.eval(), inputs)
    return Quantised(net, pictures(inputs), pairs)


def observe(net: Quantised, plan: Plan, crops: train.Crops, count: int) -> None:
    """Widen the ranges to what `count` batches of the plan's crops reach, in float."""
    net.observe(on=True)
    given = batches(crops(plan.seed), plan)
    with torch.no_grad():
        for _ in range(count):
            net(*next(given)[0])
    given.close()
    net.observe(on=False)


class _Raw(nn.Module):  # type: ignore[misc] # torch is not installed where the types are checked
    """The network with the camera's bytes as its inputs: each (1, H, W, 3) uint8."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net

    def forward(self, *given: torch.Tensor) -> torch.Tensor:
        return self.net(*((each.permute(0, 3, 1, 2).float() - MEAN) / DEVIATION for each in given))


def export(net: Quantised, roles: Sequence[str], example: Sample, folder: Path) -> Exported:
    """Write `conversion.onnx` and `cpu.onnx` with the learned scales in them, for pictures of the example's size.

    Raises ValueError if either differs from torch, on the mean over the example, by more than a step of the logits:
    where a value lies between two steps, runtimes round it to one or the other.
    """
    folder.mkdir(parents=True, exist_ok=True)
    conversion, cpu = folder / "conversion.onnx", folder / "cpu.onnx"
    given = [np.ascontiguousarray(each) for each in example.inputs(roles)]
    floats = [tensor([each]).contiguous() for each in given]
    raw = [torch.from_numpy(each)[None] for each in given]
    _write(net, floats, roles, conversion)
    _write(_Raw(net).eval(), raw, roles, cpu)
    with torch.no_grad():
        wanted = net(*floats).numpy()
    step = net.ranges[net.sites[-1]].grid()[0]
    differences = [np.abs(_run(path, each) - wanted) for path, each in ((conversion, floats), (cpu, raw))]
    worst = max(float(each.mean()) for each in differences)
    if worst > step:
        raise ValueError(f"the exported networks differ from the trained one by {worst:g}, a step being {step:g}")
    return Exported(conversion, cpu, max(float(each.max()) for each in differences))


def _write(module: nn.Module, examples: list[torch.Tensor], roles: Sequence[str], path: Path) -> None:
    with warnings.catch_warnings():
        # The converter reads what the TorchScript exporter writes, which torch calls old; and each scale is meant to
        # be a constant, which the tracer warns of.
        warnings.simplefilter("ignore", DeprecationWarning)
        warnings.simplefilter("ignore", torch.jit.TracerWarning)
        torch.onnx.export(
            module,
            tuple(examples),
            str(path),
            dynamo=False,
            opset_version=OPSET,
            input_names=list(roles),
            output_names=["logits"],
        )


def _run(path: Path, given: list[torch.Tensor]) -> Any:
    session = ort.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    feed = {spec.name: each.numpy() for spec, each in zip(session.get_inputs(), given, strict=True)}
    return np.asarray(session.run(None, feed)[0], np.float32)
