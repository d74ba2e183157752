"""Two ONNX files from one checkpoint: what the RKNN converter reads, and what a board without an NPU runs."""

import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnxruntime as ort
import torch
from torch import nn

from modelkit import synthesise
from modelkit.train import load
from modelkit.unet import UNet, normalised

OPSET = 17


class _Raw(nn.Module):  # type: ignore[misc] # torch is not installed where the types are checked
    """The network with the camera's bytes as its input: (1, H, W, 3) uint8."""

    def __init__(self, net: UNet) -> None:
        super().__init__()
        self.net = net

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        return self.net(normalised(image.permute(0, 3, 1, 2)))


@dataclass(frozen=True, slots=True)
class Exported:
    """`conversion` takes (1, 3, S, S) float32, normalised; `cpu` takes (1, S, S, 3) uint8. Both give logits."""

    conversion: Path
    cpu: Path
    worst_difference: float


def export(checkpoint: Path, folder: Path, size_px: int = synthesise.PLATE_PX) -> Exported:
    """Write `conversion.onnx` and `cpu.onnx`; raises ValueError if either differs from torch by more than 0.01."""
    net, _ = load(checkpoint)
    folder.mkdir(parents=True, exist_ok=True)
    conversion, cpu = folder / "conversion.onnx", folder / "cpu.onnx"
    _write(net, torch.zeros(1, 3, size_px, size_px), conversion)
    _write(_Raw(net).eval(), torch.zeros(1, size_px, size_px, 3, dtype=torch.uint8), cpu)
    picture = torch.from_numpy(synthesise.validation(1, size_px)[0].rgb)[None]
    wanted_input = normalised(picture.permute(0, 3, 1, 2))
    with torch.inference_mode():
        wanted = net(wanted_input).numpy()
    given = [_run(conversion, wanted_input.numpy()), _run(cpu, picture.numpy())]
    worst = max(float(np.abs(logits - wanted).max()) for logits in given)
    if worst > 0.01:
        raise ValueError(f"the exported networks differ from the trained one by {worst:g}")
    return Exported(conversion, cpu, worst)


def _write(module: nn.Module, example: torch.Tensor, path: Path) -> None:
    with warnings.catch_warnings():
        # The converter reads what the TorchScript exporter writes, and torch warns that it is the old one.
        warnings.simplefilter("ignore", DeprecationWarning)
        torch.onnx.export(
            module,
            (example,),
            str(path),
            dynamo=False,
            opset_version=OPSET,
            input_names=["image"],
            output_names=["logits"],
        )


def _run(path: Path, picture: npt.NDArray[Any]) -> npt.NDArray[np.float32]:
    session = ort.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    return np.asarray(session.run(None, {"image": picture})[0], np.float32)
