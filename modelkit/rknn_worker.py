"""Runs inside the conversion environment: builds the int8 models and asks the simulator what they give.

`python -m modelkit.rknn_worker JOB.json`, where JOB.json is what `modelkit.convert_rknn.Job` wrote. Imports nothing
of the project but `modelkit.classmap`.
"""

import json
import sys
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from rknn.api import RKNN

from modelkit.classmap import best


def _build(job: dict[str, Any], target: str) -> RKNN:
    rknn = RKNN(verbose=False)
    channels, inputs = 3, job["inputs"]
    steps = (
        lambda: rknn.config(
            mean_values=[[job["mean"]] * channels] * inputs,
            std_values=[[job["deviation"]] * channels] * inputs,
            target_platform=target,
            quantized_dtype="w8a8",
            quantized_algorithm=job["algorithm"],
        ),
        lambda: rknn.load_onnx(model=job["onnx"]),
        lambda: rknn.build(do_quantization=True, dataset=job["calibration"]),
        lambda: rknn.export_rknn(str(Path(job["out"]) / f"{target}.rknn")),
    )
    for number, step in enumerate(steps, 1):
        # The toolkit answers -1 and tells the reason in its log alone.
        result: object = step()  # type: ignore[no-untyped-call] # the toolkit has no types
        if result not in (0, None):
            raise SystemExit(f"{target}: step {number} of the conversion failed; see the log above")
    return rknn


def _simulate(rknn: RKNN, samples: list[list[str]], out: Path) -> None:
    """Write `NAME.map.png` and `NAME.score.png` for each sample, NAME being that of its first picture."""
    if rknn.init_runtime() != 0:
        raise SystemExit("the simulator does not start; see the log above")
    for paths in samples:
        pictures = [np.ascontiguousarray(np.asarray(cv2.imread(path), np.uint8)[None, :, :, ::-1]) for path in paths]
        outputs = rknn.inference(inputs=pictures, data_format=["nhwc"] * len(pictures))
        if outputs is None:
            raise SystemExit(f"the simulator gave nothing for {paths[0]}; see the log above")
        winner, score = best(np.asarray(outputs[0], np.float32)[0])
        cv2.imwrite(str(out / f"{Path(paths[0]).stem}.map.png"), winner)
        cv2.imwrite(str(out / f"{Path(paths[0]).stem}.score.png"), score)


def main() -> None:
    job = json.loads(Path(sys.argv[1]).read_text())
    for number, target in enumerate(job["targets"]):
        rknn = _build(job, target)
        if number == 0:
            _simulate(rknn, job["simulate"], Path(job["out"]))
        rknn.release()
        print(f"{target}: done", flush=True)


if __name__ == "__main__":
    main()
