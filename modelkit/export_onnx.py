"""Two ONNX files from one network: what the RKNN converter reads, and what a board without an NPU runs."""

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnxruntime as ort
import torch
from torch import nn

from modelkit.data import Sample
from modelkit.plan import DEVIATION, MEAN

OPSET = 17


class _Raw(nn.Module):  # type: ignore[misc] # torch is not installed where the types are checked
    """The network with the camera's bytes as its inputs: each (1, H, W, 3) uint8."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net

    def forward(self, *pictures: torch.Tensor) -> torch.Tensor:
        return self.net(*(_normalised(picture) for picture in pictures))


@dataclass(frozen=True, slots=True)
class Exported:
    """`conversion` takes (1, 3, H, W) float32, normalised; `cpu` takes (1, H, W, 3) uint8. Both give logits, and name
    their inputs by role.
    """

    conversion: Path
    cpu: Path
    worst_difference: float


def export(net: nn.Module, roles: Sequence[str], example: Sample, folder: Path) -> Exported:
    """Write `conversion.onnx` and `cpu.onnx` for pictures of the example's size.

    Raises ValueError if either differs from torch by more than 0.01 on the example.
    """
    folder.mkdir(parents=True, exist_ok=True)
    conversion, cpu = folder / "conversion.onnx", folder / "cpu.onnx"
    pictures = [torch.from_numpy(np.ascontiguousarray(each))[None] for each in example.inputs(roles)]
    floats = [_normalised(each).contiguous() for each in pictures]
    _write(net, floats, roles, conversion)
    _write(_Raw(net).eval(), pictures, roles, cpu)
    with torch.inference_mode():
        wanted = net(*floats).numpy()
    given = [_run(conversion, floats), _run(cpu, pictures)]
    worst = max(float(np.abs(logits - wanted).max()) for logits in given)
    if worst > 0.01:
        raise ValueError(f"the exported networks differ from the trained one by {worst:g}")
    return Exported(conversion, cpu, worst)


def _normalised(picture: torch.Tensor) -> torch.Tensor:
    return (picture.permute(0, 3, 1, 2).float() - MEAN) / DEVIATION


def _write(module: nn.Module, examples: list[torch.Tensor], roles: Sequence[str], path: Path) -> None:
    with warnings.catch_warnings():
        # The converter reads what the TorchScript exporter writes, and torch warns that it is the old one.
        warnings.simplefilter("ignore", DeprecationWarning)
        torch.onnx.export(
            module,
            tuple(examples),
            str(path),
            dynamo=False,
            opset_version=OPSET,
            input_names=list(roles),
            output_names=["logits"],
        )


def _run(path: Path, pictures: list[torch.Tensor]) -> npt.NDArray[np.float32]:
    session = ort.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    feed: dict[str, Any] = {spec.name: each.numpy() for spec, each in zip(session.get_inputs(), pictures, strict=True)}
    return np.asarray(session.run(None, feed)[0], np.float32)
