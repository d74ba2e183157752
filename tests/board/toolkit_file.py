"""Writes bundles whose `.rknn` describes its tensors as the toolkit's files do, beside an ONNX twin of a known answer.

The zoo's files come from the toolkit itself, and all take one picture of one size. These have the other kinds.
"""

import hashlib
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

from agent.core.model import ModelSpec
from tests.board.container import wrap
from tests.contract import probe_model
from tests.contract.segmenter_contract import Kind

SCALE = 1 / 64


def write_bundle(folder: Path, kind: Kind) -> ModelSpec:
    """Write the bundle; the spec is of its `.rknn`, for RK3588. The twin takes one picture whatever the batch is."""
    spec = kind.spec(folder / "model-rk3588.rknn")
    twin = folder / "model-cpu.onnx"
    size = kind.shapes[0] if len(kind.shapes) == 1 else ("H", "W")
    probe_model.build(twin, replace(kind, batch=1).spec(twin), height_width=size)
    Path(spec.path).write_bytes(_file(kind))
    variants = [
        {"target": target, "file": path.name, "sha256": hashlib.sha256(path.read_bytes()).hexdigest()}
        for target, path in (("rk3588", Path(spec.path)), ("cpu", twin))
    ]
    (folder / "manifest.json").write_text(json.dumps({"variants": variants}))
    return spec


def _file(kind: Kind) -> bytes:
    inputs = [f"picture{i}" for i in range(kind.inputs)]
    output, channels = ("logits", kind.classes) if kind.output == "logits" else ("class_map", 1)
    types = {name: {"dtype": "int8", "layout": "NHWC"} for name in inputs}
    texts = [str(kind.batch if kind.batch > 1 else 0), json.dumps(_output_type(kind, output)), json.dumps(types)]
    section = b"".join(len(text).to_bytes(4, "little") + text.encode() + b"\0\0\0" for text in texts)
    section += repr(_description(kind, inputs, (output, channels))).encode() + b"\0" * 64
    return wrap(section, {"target_platform": ["rk3588"], "version": "2.5.0"})


def _output_type(kind: Kind, output: str) -> dict[str, Any]:
    return {output: {"dtype": "int8" if kind.output == "logits" else "int64", "layout": "NCHW"}}


def _description(kind: Kind, inputs: list[str], output: tuple[str, int]) -> dict[str, Any]:
    channels = {**dict.fromkeys(inputs, 3), output[0]: output[1]}
    dims = {name: [[1, count, *shape] for shape in kind.shapes] for name, count in channels.items()}
    ranged = [name for name in channels if name in inputs or kind.output == "logits"]
    attrs: dict[str, dict[str, Any]] = {
        name: {"idx": i, "shape": dims[name][0], "is_output": False, "mean": [0.0], "std": [1 / SCALE] * 3}
        for i, name in enumerate(inputs)
    }
    attrs[output[0]] = {"idx": 0, "shape": dims[output[0]][0], "is_output": True}
    return {
        "attrs": attrs,
        "quant_tab": {name: {"min": [0.0], "max": [255 * SCALE]} for name in ranged},
        "dynamic_shapes": dims if len(kind.shapes) > 1 else {},
    }
