"""Makes the bundle two_stages/ anew: a model cut in two, its deep part a `.rknn` of rknn-toolkit2.

`.venv/bin/python -m tests.board.make_two_stages .venv-convert/bin/python`: the toolkit lives in an environment of its
own. The twin of the `.rknn` file is the deep part as ONNX; shallow.onnx and whole.onnx lie beside it.
"""

import hashlib
import json
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
from onnx import TensorProto, helper, numpy_helper

from agent.core.model import ModelSpec
from agent.core.stages import Tensor, chain
from modelkit.split import split

FOLDER = Path(__file__).parent / "two_stages"
CLASSES = 5
SHAPE = (64, 96)
TARGET = "rk3588"
CUT = "features"
FEATURES = 16
WHOLE, SHALLOW, DEEP = FOLDER / "whole.onnx", FOLDER / "shallow.onnx", FOLDER / f"model-{TARGET}.rknn"
MODEL = ModelSpec(str(DEEP), 1, (SHAPE,), CLASSES, "logits", batch=3)
CROSSING = Tensor(CUT, "float32", ((1, FEATURES, SHAPE[0] // 2, SHAPE[1] // 2),))
SPECS = chain(MODEL, [str(SHALLOW), str(DEEP)], [[CROSSING]])
_CONVERT = """
import sys
from rknn.api import RKNN
source, features, out, target = sys.argv[1:]
rknn = RKNN(verbose=False)
rknn.config(target_platform=target, quantized_dtype="w8a8")
for step in (lambda: rknn.load_onnx(model=source), lambda: rknn.build(do_quantization=True, dataset=features),
             lambda: rknn.export_rknn(out)):
    if step() != 0:
        sys.exit("the conversion failed; see the log above")
"""


def main(toolkit_python: str) -> None:
    FOLDER.mkdir(exist_ok=True)
    _write_whole(WHOLE)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        cut = split(WHOLE, [CUT], folder, [SHAPE])
        shutil.copyfile(cut.shallow, SHALLOW)
        shutil.copyfile(cut.deep, FOLDER / "model-cpu.onnx")
        picture = np.random.default_rng(1).integers(0, 256, (1, *SHAPE, 3), np.uint8)
        features = ort.InferenceSession(str(cut.shallow)).run(None, {"image": picture})[0]
        np.save(folder / "0.npy", features)
        (folder / "features.txt").write_text(f"{folder / '0.npy'}\n")
        arguments = [cut.deep, folder / "features.txt", DEEP, TARGET]
        subprocess.run([Path(toolkit_python).absolute(), "-c", _CONVERT, *map(str, arguments)], check=True, cwd=folder)
    variants = [
        {"target": target, "file": path.name, "sha256": hashlib.sha256(path.read_bytes()).hexdigest()}
        for target, path in ((TARGET, DEEP), ("cpu", FOLDER / "model-cpu.onnx"))
    ]
    (FOLDER / "manifest.json").write_text(json.dumps({"variants": variants}, indent=1) + "\n")


def _write_whole(path: Path) -> None:
    """(1, H, W, 3) uint8, two convolutions of random weights, one with a stride, one transposed."""
    rng = np.random.default_rng(7)

    def weights(name: str, *dims: int) -> Any:
        return numpy_helper.from_array(rng.normal(0, 0.3, dims).astype(np.float32), name)

    nodes = [
        helper.make_node("Cast", ["image"], ["float"], to=TensorProto.FLOAT),
        helper.make_node("Transpose", ["float"], ["nchw"], perm=[0, 3, 1, 2]),
        helper.make_node("Mul", ["nchw", "scale"], ["small"]),
        helper.make_node("Conv", ["small", "first"], ["raw"], strides=[2, 2], pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["raw"], [CUT]),
        helper.make_node("ConvTranspose", [CUT, "second"], ["logits"], strides=[2, 2]),
    ]
    graph = helper.make_graph(
        nodes,
        "stages",
        [helper.make_tensor_value_info("image", TensorProto.UINT8, [1, *SHAPE, 3])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, [1, CLASSES, *SHAPE])],
        [
            numpy_helper.from_array(np.array(1 / 64, np.float32), "scale"),
            weights("first", FEATURES, 3, 3, 3),
            weights("second", FEATURES, CLASSES, 2, 2),
        ],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)


if __name__ == "__main__":
    main(sys.argv[1])
