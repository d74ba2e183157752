"""Makes the bundle batch_of_4/ anew: a `.rknn` of rknn-toolkit2 with `rknn_batch_size`, and its ONNX twin.

`.venv/bin/python -m tests.board.make_batch_of_4 .venv-convert/bin/python`: the toolkit lives in an environment of its
own. The model is the probe of the contract suite, whose answer is known; the twin takes one picture.
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

FOLDER = Path(__file__).parent / "batch_of_4"
BATCH = 4
CLASSES = 5
SHAPE = (128, 160)
TARGET = "rk3588"
MODEL = FOLDER / f"model-{TARGET}.rknn"
SPEC = ModelSpec(str(MODEL), 1, (SHAPE,), CLASSES, "logits", BATCH)
_CONVERT = """
import sys
from rknn.api import RKNN
source, pictures, out, target, batch = sys.argv[1:]
rknn = RKNN(verbose=False)
rknn.config(mean_values=[[0, 0, 0]], std_values=[[1, 1, 1]], target_platform=target, quantized_dtype="w8a8")
for step in (lambda: rknn.load_onnx(model=source),
             lambda: rknn.build(do_quantization=True, dataset=pictures, rknn_batch_size=int(batch)),
             lambda: rknn.export_rknn(out)):
    if step() != 0:
        sys.exit("the conversion failed; see the log above")
"""


def main(toolkit_python: str) -> None:
    FOLDER.mkdir(exist_ok=True)
    twin = FOLDER / "model-cpu.onnx"
    spec = probe_model.build(twin, ModelSpec(str(twin), 1, (SHAPE,), CLASSES, "logits"), height_width=SHAPE)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        _write_source(folder / "source.onnx")
        cv2.imwrite(str(folder / "0.png"), probe_model.random_inputs(spec, SHAPE, seed=1)[0])
        (folder / "pictures.txt").write_text(f"{folder / '0.png'}\n")
        arguments = [folder / "source.onnx", folder / "pictures.txt", MODEL, TARGET, BATCH]
        subprocess.run([Path(toolkit_python).absolute(), "-c", _CONVERT, *map(str, arguments)], check=True, cwd=folder)
    variants = [
        {"target": target, "file": path.name, "sha256": hashlib.sha256(path.read_bytes()).hexdigest()}
        for target, path in ((TARGET, MODEL), ("cpu", twin))
    ]
    (FOLDER / "manifest.json").write_text(json.dumps({"variants": variants}, indent=1) + "\n")


def _write_source(path: Path) -> None:
    """As the converter takes it: (1, 3, H, W) float."""
    slope, offset = probe_model.weights(CLASSES)
    kernel = np.repeat(slope[:, None] / 3, 3, axis=1)[:, :, None, None].astype(np.float32)
    graph = helper.make_graph(
        [helper.make_node("Conv", ["image", "kernel", "offset"], ["logits"])],
        "probe",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, [1, 3, *SHAPE])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, [1, CLASSES, *SHAPE])],
        [numpy_helper.from_array(kernel, "kernel"), numpy_helper.from_array(offset, "offset")],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)


if __name__ == "__main__":
    main(sys.argv[1])
