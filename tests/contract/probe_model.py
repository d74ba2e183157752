"""Builds a small ONNX model whose answer is known: a 1x1 convolution, so that each pixel's class follows from it alone.

The logit of class c at a pixel of intensity v (the mean of R, G and B of the first input, 0 to 255) is
v * 2c - step * c * c with step = 255 / (classes - 1): a line for each class whose upper envelope makes the class
nearest to v / step the winner. `answer` computes the same without the model.
"""

from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, helper, numpy_helper

from agent.core.frame import Pixels
from agent.core.model import ModelSpec
from tests.contract.segmenter_contract import Kind, SegmenterContract

SHARPNESS = 1 / 64
"""Scales the logits, so that scores vary instead of being 255 everywhere."""

Dim = int | str


def weights(classes: int) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
    """Slope of each class by intensity, and its offset."""
    step = 255 / (classes - 1)
    order = np.arange(classes, dtype=np.float64)
    return (2 * order * SHARPNESS).astype(np.float32), (-step * order**2 * SHARPNESS).astype(np.float32)


def answer(inputs: list[Pixels], classes: int) -> tuple[Pixels, npt.NDArray[np.float64]]:
    """Class map (H, W) uint8, and the softmax of the winner in 1/255, 0 at background.

    Each further input adds its intensity, at a hundredth of the first's weight, so that its content counts.
    """
    slope, offset = weights(classes)
    intensity = sum(share(i) * picture.astype(np.float64).mean(axis=2) for i, picture in enumerate(inputs))
    logits = slope[:, None, None].astype(np.float64) * intensity + offset[:, None, None]
    powers = np.exp(logits - logits.max(axis=0))
    class_map = logits.argmax(axis=0).astype(np.uint8)
    score = 255 / powers.sum(axis=0)
    return class_map, np.where(class_map > 0, score, 0)


def share(index: int) -> float:
    return 1.0 if index == 0 else 0.01


def random_inputs(spec: ModelSpec, shape: tuple[int, int], seed: int) -> list[Pixels]:
    """Grey pictures in which every class occurs, no pixel near the border of two, and no two inputs alike."""
    rng = np.random.default_rng(seed)
    step = 255 / (spec.classes - 1)
    pictures = []
    for _ in range(spec.inputs):
        nudge = rng.integers(-int(step / 4), int(step / 4) + 1, shape)
        grey = np.clip(np.rint(rng.integers(0, spec.classes, shape) * step) + nudge, 0, 255).astype(np.uint8)
        pictures.append(np.repeat(grey[:, :, None], 3, axis=2))
    return pictures


def build(
    path: Path,
    spec: ModelSpec,
    *,
    height_width: tuple[Dim, Dim] = ("H", "W"),
    input_type: int = TensorProto.UINT8,
    channels: int = 3,
) -> ModelSpec:
    """Write the model that `spec` describes, of any size unless told; return `spec`.

    `input_type` and `channels` are there to build what a spec does not describe.
    """
    slope, offset = weights(spec.classes)
    names = [f"picture{i}" for i in range(spec.inputs)]
    nodes = []
    for i, name in enumerate(names):
        kernel = np.repeat(slope[:, None] * share(i) / channels, channels, axis=1)[:, :, None, None]
        zero = np.zeros_like(offset) if i else offset
        nodes += _branch(name, kernel.astype(np.float32), zero)
    nodes.append(helper.make_node("Sum", [f"{name}_logits" for name in names], ["logits"]))
    if spec.output == "classMap":
        nodes.append(helper.make_node("ArgMax", ["logits"], ["class_map"], axis=1, keepdims=1))
    graph = helper.make_graph(
        nodes,
        "probe",
        [
            helper.make_tensor_value_info(name, input_type, [_pictures(spec, height_width), *height_width, channels])
            for name in names
        ],
        [_output(spec, height_width)],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.checker.check_model(model)
    path.write_bytes(model.SerializeToString())
    return spec


def _branch(name: str, kernel: npt.NDArray[np.float32], offset: npt.NDArray[np.float32]) -> list[onnx.NodeProto]:
    constants = {
        f"{name}_kernel": numpy_helper.from_array(kernel),
        f"{name}_offset": numpy_helper.from_array(offset),
    }
    return [
        *(helper.make_node("Constant", [], [key], value=value) for key, value in constants.items()),
        helper.make_node("Cast", [name], [f"{name}_float"], to=TensorProto.FLOAT),
        helper.make_node("Transpose", [f"{name}_float"], [f"{name}_nchw"], perm=[0, 3, 1, 2]),
        helper.make_node("Conv", [f"{name}_nchw", *constants], [f"{name}_logits"]),
    ]


def _output(spec: ModelSpec, height_width: tuple[Dim, Dim]) -> onnx.ValueInfoProto:
    kind: Literal["logits", "classMap"] = spec.output
    pictures = _pictures(spec, height_width)
    if kind == "classMap":
        return helper.make_tensor_value_info("class_map", TensorProto.INT64, [pictures, 1, *height_width])
    return helper.make_tensor_value_info("logits", TensorProto.FLOAT, [pictures, spec.classes, *height_width])


def _pictures(spec: ModelSpec, height_width: tuple[Dim, Dim]) -> Dim:
    """Open where the size is open and a call takes several."""
    return "N" if spec.batch > 1 and isinstance(height_width[0], str) else spec.batch


class ProbeContract(SegmenterContract):
    """The contract's hooks for adapters that run this model."""

    @classmethod
    def model(cls, kind: Kind, folder: Path) -> ModelSpec:
        spec = kind.spec(folder / "probe.onnx")
        return build(Path(spec.path), spec, height_width=kind.shapes[0] if len(kind.shapes) == 1 else ("H", "W"))

    def inputs(self, spec: ModelSpec, shape: tuple[int, int], seed: int) -> list[Pixels]:
        return random_inputs(spec, shape, seed)

    def answer(self, spec: ModelSpec, inputs: list[Pixels]) -> tuple[Pixels, npt.NDArray[np.float64]]:
        class_map, score = answer(inputs, spec.classes)
        return class_map, score if spec.output == "logits" else np.where(class_map > 0, 255.0, 0.0)
