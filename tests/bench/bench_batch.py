"""What several pictures in one call gain and cost: the zoo's model on the CPU in a child, 1, 2 and 4 pictures a call.

The model is made to take any number by opening its batch axis; a child that is always given one picture is the
baseline of the same run. A picture waits for its whole call, so the time of a call is what a picture pays. On one CPU
core little is gained but the price of a call; what an NPU gains depends on its model and is told by a board alone.
"""

import json
import statistics
import tempfile
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx

from agent.adapters.bundle_fs import read_bundle
from agent.adapters.golden_fs import read_golden
from agent.adapters.segmenter_onnx import OnnxFactory
from agent.adapters.segmenter_process import ProcessSegmenter
from agent.core.frame import Pixels
from agent.core.model import ModelSpec
from schemas.target import Target

BUNDLE = Path("modelkit/zoo/pcb-unet-1.1.0")
SIZES = (1, 2, 4)
ROUNDS = 12
WARM_UP = 2
DEADLINE_S = 60.0


def run() -> dict[str, dict[str, float]]:
    """By pictures a call: pictures a second, the median time of a call, both against one a call, and the memory."""
    bundle = read_bundle(BUNDLE, Target.CPU)
    items = [frame.inputs for frame in read_golden(bundle)][: max(SIZES)]
    with tempfile.TemporaryDirectory() as folder:
        spec = open_batch(bundle.spec, Path(folder, "open.onnx"), max(SIZES))
        children = {size: _child(replace(spec, batch=size)) for size in SIZES}
        try:
            _require_same(children, items)
            calls = [{size: _call_ms(child, items[:size]) for size, child in children.items()} for _ in range(ROUNDS)]
            memory = {size: child.memory_bytes() for size, child in children.items()}
        finally:
            for child in children.values():
                child.close()
    call_ms = {size: statistics.median(call[size] for call in calls[WARM_UP:]) for size in SIZES}
    rate_hz = {size: 1_000 * size / call_ms[size] for size in SIZES}
    return {
        f"pictures{size}": {
            "rateHz": round(rate_hz[size], 2),
            "callMs": round(call_ms[size], 2),
            "rateRatio": round(rate_hz[size] / rate_hz[1], 3),
            "waitRatio": round(call_ms[size] / call_ms[1], 3),
            "childBytes": memory[size],
        }
        for size in SIZES
    }


def open_batch(spec: ModelSpec, path: Path, batch: int) -> ModelSpec:
    """Write the model with an open batch axis. The graph must not name the number of pictures itself."""
    model = onnx.load(spec.path)
    for value in (*model.graph.input, *model.graph.output):
        value.type.tensor_type.shape.dim[0].dim_param = "N"
    del model.graph.value_info[:]
    onnx.save(model, path)
    return replace(spec, path=str(path), batch=batch)


def _child(spec: ModelSpec) -> ProcessSegmenter:
    return ProcessSegmenter(OnnxFactory(spec), spec, deadline_s=DEADLINE_S, load_deadline_s=DEADLINE_S)


def _require_same(children: dict[int, ProcessSegmenter], items: Sequence[Sequence[Pixels]]) -> None:
    """A quicker wrong answer is no gain."""
    alone = [children[1].segment(inputs).class_map.copy() for inputs in items]
    for size, child in children.items():
        for made, wanted in zip(child.segment_all(items[:size]), alone, strict=False):
            if not np.array_equal(made.class_map, wanted):
                raise RuntimeError(f"{size} pictures in a call are answered otherwise than one by one")


def _call_ms(child: ProcessSegmenter, items: Sequence[Sequence[Pixels]]) -> float:
    started_s = time.perf_counter()
    child.segment_all(items)
    return (time.perf_counter() - started_s) * 1_000


def main() -> None:
    print(json.dumps(run(), indent=2))


if __name__ == "__main__":
    main()
