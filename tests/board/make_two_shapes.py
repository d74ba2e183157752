"""Makes the bundle two_shapes/ anew: a `.rknn` of rknn-toolkit2 for two input shapes, and its ONNX twin.

`.venv/bin/python -m tests.board.make_two_shapes .venv-convert/bin/python`: the toolkit lives in an environment of its
own. The model is the probe of the contract suite, whose answer is known.
"""

import hashlib
import json
import subprocess
import sys
import tempfile
from pathlib import Path

import cv2
import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from agent.core.model import ModelSpec
from tests.contract import probe_model

FOLDER = Path(__file__).parent / "two_shapes"
CLASSES = 5
SHAPES = ((448, 448), (224, 224))
TARGET = "rk3588"
_CONVERT = """
import json
import sys
from rknn.api import RKNN
source, pictures, out, target, shapes = sys.argv[1:]
rknn = RKNN(verbose=False)
rknn.config(mean_values=[[0, 0, 0]], std_values=[[1, 1, 1]], target_platform=target, quantized_dtype="w8a8",
            dynamic_input=json.loads(shapes))
for step in (lambda: rknn.load_onnx(model=source), lambda: rknn.build(do_quantization=True, dataset=pictures),
             lambda: rknn.export_rknn(out)):
    if step() != 0:
        sys.exit("the conversion failed; see the log above")
"""


def main(toolkit_python: str) -> None:
    FOLDER.mkdir(exist_ok=True)
    twin, model = FOLDER / "model-cpu.onnx", FOLDER / f"model-{TARGET}.rknn"
    spec = probe_model.build(twin, ModelSpec(str(twin), 1, SHAPES, CLASSES, "logits"))
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        _write_source(folder / "source.onnx")
        pictures = probe_model.random_inputs(spec, SHAPES[0], seed=1)
        cv2.imwrite(str(folder / "0.png"), pictures[0])
        (folder / "pictures.txt").write_text(f"{folder / '0.png'}\n")
        dims = json.dumps([[[1, 3, *shape]] for shape in SHAPES])
        arguments = [folder / "source.onnx", folder / "pictures.txt", model, TARGET, dims]
        subprocess.run([toolkit_python, "-c", _CONVERT, *map(str, arguments)], check=True, cwd=folder)
    variants = [
        {"target": target, "file": path.name, "sha256": hashlib.sha256(path.read_bytes()).hexdigest()}
        for target, path in ((TARGET, model), ("cpu", twin))
    ]
    (FOLDER / "manifest.json").write_text(json.dumps({"variants": variants}, indent=1) + "\n")


def _write_source(path: Path) -> None:
    """As the converter takes it: (1, 3, H, W) float."""
    slope, offset = probe_model.weights(CLASSES)
    kernel = np.repeat(slope[:, None] / 3, 3, axis=1)[:, :, None, None].astype(np.float32)
    size = SHAPES[0]
    graph = helper.make_graph(
        [helper.make_node("Conv", ["image", "kernel", "offset"], ["logits"])],
        "probe",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, [1, 3, *size])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, [1, CLASSES, *size])],
        [numpy_helper.from_array(kernel, "kernel"), numpy_helper.from_array(offset, "offset")],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)


if __name__ == "__main__":
    main(sys.argv[1])
