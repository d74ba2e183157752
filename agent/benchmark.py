"""How quick the current model is on this board: the job `benchmark`."""

import threading
import time
from collections.abc import Mapping
from typing import Any

import numpy as np

from agent.core.update import ModelRef
from agent.library import Library
from schemas.job import BenchmarkOutput, Percentiles


def benchmark(library: Library, ref: ModelRef, lane: str, stop: threading.Event, seconds: float) -> Mapping[str, Any]:
    """Load the model once more on the lane's core and run its golden frames for so long, beside whatever inspects.

    Returns BenchmarkOutput in the words of the wire. Errors: AgentError.
    """
    bundle = library.open(ref)
    frames = library.golden(bundle)
    began_s = time.monotonic()
    loaded = library.load(lane, ref, bundle)
    load_ms = (time.monotonic() - began_s) * 1e3
    whole_ms: list[float] = []
    inference_ms: list[float] = []
    try:
        ends_s = time.monotonic() + seconds
        while not whole_ms or (time.monotonic() < ends_s and not stop.is_set()):
            called_s = time.monotonic()
            seen = loaded.segmenter.segment(frames[len(whole_ms) % len(frames)].inputs)
            whole_ms.append((time.monotonic() - called_s) * 1e3)
            inference_ms.append(seen.inference_ms)
    finally:
        loaded.segmenter.close()
    output = BenchmarkOutput(
        model=loaded.model,
        lane=lane,
        calls=len(whole_ms),
        load_ms=round(load_ms, 1),
        rate_hz=round(1e3 * len(whole_ms) / sum(whole_ms), 2),
        call_ms=_percentiles(whole_ms),
        inference_ms=_percentiles(inference_ms),
    )
    return output.model_dump(mode="json", by_alias=True, exclude_none=True)


def _percentiles(values: list[float]) -> Percentiles:
    p50, p95, most = np.percentile(values, (50, 95, 100))
    return Percentiles(p50=round(float(p50), 2), p95=round(float(p95), 2), max=round(float(most), 2))
