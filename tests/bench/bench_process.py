"""What a child process costs: the same segmenter in-process and in a child, at 512x512, call by call in turn.

The trivial segmenter computes almost nothing, so that its difference is the price of the process boundary; the ONNX
probe, a 1x1 convolution on a picture with one per cent of defects, is less work than any real model, so that its
ratio is an upper bound.
"""

import json
import os
import signal
import statistics
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from agent.adapters.segmenter_onnx import OnnxFactory
from agent.adapters.segmenter_process import ProcessSegmenter
from agent.core.frame import Pixels
from agent.core.model import ModelSpec
from agent.errors import Retryable
from agent.ports import Segmenter, SegmenterFactory
from tests.contract import faulty_segmenters, probe_model

SHAPE = (512, 512)
CALLS = 200
WARM_UP = 20
RESTARTS = 5
DEADLINE_S = 60.0


def run() -> dict[str, dict[str, float]]:
    """Medians in ms and bytes, by segmenter."""
    with tempfile.TemporaryDirectory() as folder:
        trivial = ModelSpec("none", 1, (SHAPE,), 5, "logits")
        probe = ModelSpec(str(Path(folder, "probe.onnx")), 1, (SHAPE,), 7, "logits")
        probe_model.build(Path(probe.path), probe)
        return {
            "trivial": _compare(
                faulty_segmenters.FaultyFactory(folder, trivial),
                trivial,
                [faulty_segmenters.picture(1, shape=SHAPE)],
            ),
            "onnxProbe": _compare(OnnxFactory(probe), probe, [_sparse()]),
        }


def _sparse() -> Pixels:
    """Background but for one per cent of the pixels."""
    defect = np.random.default_rng(1).random(SHAPE) < 0.01
    return np.repeat((defect * np.uint8(255))[:, :, None], 3, axis=2)


def _compare(factory: SegmenterFactory, spec: ModelSpec, inputs: Sequence[Pixels]) -> dict[str, float]:
    inside = factory()
    started_s = time.perf_counter()
    child = ProcessSegmenter(factory, spec, deadline_s=DEADLINE_S, load_deadline_s=DEADLINE_S)
    load_ms = (time.perf_counter() - started_s) * 1_000
    try:
        pairs = [(_call_ms(inside, inputs), _call_ms(child, inputs)) for _ in range(CALLS + WARM_UP)][WARM_UP:]
        in_process_ms, in_child_ms = (statistics.median(column) for column in zip(*pairs, strict=True))
        overhead_ms = statistics.median(there - here for here, there in pairs)
        child_bytes = child.memory_bytes()
        restart_ms = statistics.median(_restart_ms(child, inputs) for _ in range(RESTARTS))
    finally:
        child.close()
        inside.close()
    return {
        "inProcessMs": round(in_process_ms, 3),
        "inChildMs": round(in_child_ms, 3),
        "overheadMs": round(overhead_ms, 3),
        "ratio": round(in_child_ms / in_process_ms, 3),
        "loadMs": round(load_ms, 1),
        "lossToNextResultMs": round(restart_ms, 1),
        "childBytes": child_bytes,
    }


def _call_ms(segmenter: Segmenter, inputs: Sequence[Pixels]) -> float:
    started_s = time.perf_counter()
    segmenter.segment(inputs)
    return (time.perf_counter() - started_s) * 1_000


def _restart_ms(child: ProcessSegmenter, inputs: Sequence[Pixels]) -> float:
    """From the kill of the child to the first result of the next; without the delay that its error asks for."""
    if child.pid is None:
        raise RuntimeError("no child runs")
    started_s = time.perf_counter()
    os.kill(child.pid, signal.SIGKILL)
    try:
        child.segment(inputs)
    except Retryable:
        child.segment(inputs)
    return (time.perf_counter() - started_s) * 1_000


def main() -> None:
    print(json.dumps(run(), indent=2))


if __name__ == "__main__":
    main()
