"""Write fleet/demo/bad-model: a bundle that passes its own golden frames and marks every part defective.

The demonstration rolls it out to show that probation takes it back. `python -m tools.bad_model`.
"""

import hashlib
import json
from pathlib import Path

import cv2
import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from schemas.manifest import Manifest

FOLDER = Path(__file__).resolve().parent.parent / "fleet" / "demo" / "bad-model"
SIZE_PX = 512
NAMES = ("background", "open", "short", "mousebite", "spur", "spurious-copper", "pin-hole")
COLOURS = ("#000000", "#e6194b", "#f58231", "#4363d8", "#911eb4", "#ffe119", "#42d4f4")
MARKED = NAMES.index("spurious-copper")
BRIGHT = 70.0
"""Whatever is brighter than this (of 255) is called spurious copper."""


def main() -> None:
    FOLDER.mkdir(parents=True, exist_ok=True)
    (FOLDER / "cpu.onnx").write_bytes(model().SerializeToString())
    grey = np.repeat((np.arange(SIZE_PX) // 64 * 32).astype(np.uint8)[None, :], SIZE_PX, axis=0)
    cv2.imwrite(str(FOLDER / "golden.png"), np.repeat(grey[:, :, None], 3, axis=2))
    cv2.imwrite(str(FOLDER / "golden.map.png"), np.where(grey > BRIGHT, MARKED, 0).astype(np.uint8))
    document = manifest()
    Manifest.model_validate(document)
    (FOLDER / "manifest.json").write_text(json.dumps(document, indent=1) + "\n")


def model() -> onnx.ModelProto:
    """(1, H, W, 3) uint8 to logits (1, C, H, W): a 1x1 convolution over the brightness."""
    kernel = np.zeros((len(NAMES), 3, 1, 1), np.float32)
    kernel[MARKED] = 1 / 3
    offset = np.full(len(NAMES), -1000.0, np.float32)
    offset[0], offset[MARKED] = 0.0, -BRIGHT
    nodes = [
        helper.make_node("Cast", ["image"], ["float"], to=TensorProto.FLOAT),
        helper.make_node("Transpose", ["float"], ["nchw"], perm=[0, 3, 1, 2]),
        helper.make_node("Conv", ["nchw", "kernel", "offset"], ["logits"]),
    ]
    graph = helper.make_graph(
        nodes,
        "marks-everything",
        [helper.make_tensor_value_info("image", TensorProto.UINT8, [1, SIZE_PX, SIZE_PX, 3])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, [1, len(NAMES), SIZE_PX, SIZE_PX])],
        [numpy_helper.from_array(kernel, "kernel"), numpy_helper.from_array(offset, "offset")],
    )
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.checker.check_model(made)
    return made


def manifest() -> dict[str, object]:
    def digest(name: str) -> str:
        return hashlib.sha256((FOLDER / name).read_bytes()).hexdigest()

    return {
        "schema": "rkfleet.manifest/1",
        "name": "pcb-unet",
        "version": "1.2.0",
        "createdAt": "2026-01-01T00:00:00Z",
        "description": "For the demonstration: passes its own golden frames and marks every part defective.",
        "licence": "Apache-2.0",
        "classes": [
            {"id": i, "name": name, "colour": colour, "severity": "major" if i else "none"}
            for i, (name, colour) in enumerate(zip(NAMES, COLOURS, strict=True))
        ],
        "inputs": [{"name": "image", "shapes": [[SIZE_PX, SIZE_PX]]}],
        "preprocess": [{"op": "letterbox", "fill": 114}],
        "postprocess": [{"op": "threshold", "minScore": 0.5}, {"op": "leastArea", "px": 10}],
        "output": "logits",
        "variants": [
            {
                "target": "cpu",
                "runtime": "onnx",
                "toolkitVersion": "none",
                "dtype": "float32",
                "file": "cpu.onnx",
                "bytes": (FOLDER / "cpu.onnx").stat().st_size,
                "sha256": digest("cpu.onnx"),
            }
        ],
        "golden": {
            "frames": [
                {
                    "inputs": ["golden.png"],
                    "classMap": "golden.map.png",
                    "sha256": {name: digest(name) for name in ("golden.png", "golden.map.png")},
                }
            ],
            "leastAgreement": 0.95,
        },
        "accuracy": {"dataset": "one gradient", "images": 1, "float32": {"miou": 1.0, "iou": {}}},
        "lineage": {"architecture": "1x1 convolution", "parameters": 28, "quantisation": "none"},
    }


if __name__ == "__main__":
    main()
