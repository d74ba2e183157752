"""Every architecture: logits of full size, the same from ONNX as from torch, and a model for each of six targets."""

import importlib
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

import modelkit
from agent.core.rknn_header import parse_header, require_target
from modelkit.convert_rknn import TARGETS, Job, convert
from modelkit.data import Sample
from modelkit.plan import DEVIATION, MEAN
from schemas.target import Target

NAMES = (
    "bisenetv2",
    "bisenetv2-attention",
    "deeplabv3plus-mobilenetv3",
    "pair-unet",
    "segformer-b0",
    "unet",
    "unet-mobilenetv2",
    "unet-mobilenetv3",
    "unet-resnet50",
)
WIDTH = 8
ATTENTION = {"Reshape", "Transpose", "exSoftmax13"}
FALLBACKS = {"segformer-b0": {"rk3588": {"Reshape"}, "rk3566": ATTENTION, "rk3568": ATTENTION}}
"""Operators that the toolkit leaves to the CPU, by architecture and target; all else runs on the NPU. At 512x512 and
full width SegFormer has none on RK3588."""
CONVERTER = Path(modelkit.__file__).parent.parent / ".venv-convert"

pytestmark = pytest.mark.torch


@pytest.fixture(autouse=True)
def torch() -> Any:
    pytest.importorskip("transformers", reason="the extra modelkit is not installed")
    torch = pytest.importorskip("torch", reason="the extra modelkit is not installed")
    torch.manual_seed(1)
    return torch


def a_network(torch: Any, name: str, inputs: int = 1) -> Any:
    """Small, and normalised by what it saw of one batch, but for a tenth: a channel that was constant stays tame."""
    net = importlib.import_module("modelkit.models").build(name, 7, inputs, WIDTH)
    for module in net.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.momentum = 0.9
    with torch.no_grad():
        net.train()(*(0.7 * torch.randn(2, 3, 64, 64) + 0.3 for _ in range(inputs)))
    return net.eval()


def a_sample(size_px: int = 64) -> Sample:
    rng = np.random.default_rng(3)
    image, reference = (rng.integers(0, 256, (size_px, size_px, 3)).astype(np.uint8) for _ in range(2))
    return Sample("a", image, np.zeros((size_px, size_px), np.uint8), reference)


def test_all_architectures_are_tested_here() -> None:
    models = importlib.import_module("modelkit.models")
    assert tuple(sorted(models.ARCHITECTURES)) == NAMES
    assert set(models.FULL_WIDTH) == set(NAMES)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("inputs", [1, 2])
def test_logits_are_of_full_size_and_every_input_counts(torch: Any, name: str, inputs: int) -> None:
    net = a_network(torch, name, inputs)
    pictures = [torch.randn(2, 3, 64, 96) for _ in range(inputs)]
    with torch.inference_mode():
        logits = net(*pictures)
        assert tuple(logits.shape) == (2, 7, 64, 96)
        for index in range(inputs):
            changed = [-picture if number == index else picture for number, picture in enumerate(pictures)]
            assert not torch.allclose(net(*changed), logits, atol=1e-4)


@pytest.mark.parametrize("name", NAMES)
def test_every_trained_weight_gets_a_gradient(torch: Any, name: str) -> None:
    net = a_network(torch, name).train()
    net(torch.randn(2, 3, 64, 64)).square().mean().backward()
    assert [key for key, p in net.named_parameters() if p.requires_grad and p.grad is None] == []


@pytest.mark.parametrize(
    ("name", "millions"),
    [
        ("unet-mobilenetv2", (3.5, 4.5)),
        ("unet-mobilenetv3", (4.0, 5.5)),
        ("unet-resnet50", (30, 35)),
        ("deeplabv3plus-mobilenetv3", (3.0, 4.5)),
        ("bisenetv2", (2.5, 3.6)),
        ("bisenetv2-attention", (2.5, 3.6)),
        ("segformer-b0", (3.6, 3.8)),
    ],
)
def test_at_full_width_it_is_as_large_as_published(name: str, millions: tuple[float, float]) -> None:
    models = importlib.import_module("modelkit.models")
    net = models.build(name, 7, 1, models.FULL_WIDTH[name])
    least, most = millions
    assert least * 1e6 < sum(p.numel() for p in net.parameters()) < most * 1e6


@pytest.mark.parametrize("name", NAMES)
def test_onnx_gives_what_torch_gives(torch: Any, name: str, tmp_path: Path) -> None:
    export = importlib.import_module("modelkit.export_onnx").export
    done = export(a_network(torch, name, 2), ("image", "reference"), a_sample(), tmp_path)
    assert done.worst_difference < 1e-4


@pytest.mark.skipif(not (CONVERTER / "complete").exists(), reason="the converter's environment is not made")
@pytest.mark.parametrize("name", NAMES)
def test_the_converter_makes_a_model_for_each_target(torch: Any, name: str, tmp_path: Path) -> None:
    sample = a_sample()
    export = importlib.import_module("modelkit.export_onnx").export
    onnx = export(a_network(torch, name), ("image",), sample, tmp_path).conversion
    picture, calibration = tmp_path / "picture.png", tmp_path / "calibration.txt"
    cv2.imwrite(str(picture), sample.image)
    calibration.write_text(f"{picture}\n")
    job = Job(
        onnx=str(onnx),
        mean=MEAN,
        deviation=DEVIATION,
        targets=TARGETS,
        calibration=str(calibration),
        simulate=(),
        out=str(tmp_path / "rknn"),
    )
    done = convert(job, CONVERTER)
    fallbacks = {target: {each.operator for each in found} for target, found in done.fallbacks.items() if found}
    assert fallbacks == FALLBACKS.get(name, {})
    for target in TARGETS:
        header = parse_header((tmp_path / "rknn" / f"{target}.rknn").read_bytes())
        require_target(header, Target(target))
