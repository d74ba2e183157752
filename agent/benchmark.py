"""How quick the current model is on this board: the job `benchmark`."""

import threading
import time
from collections.abc import Mapping
from typing import Any

from agent.core.update import ModelRef
from agent.drive import drive, percentiles
from agent.library import Library
from schemas.job import BenchmarkOutput


def benchmark(library: Library, ref: ModelRef, lane: str, stop: threading.Event, seconds: float) -> Mapping[str, Any]:
    """Load the model once more on the lane's core and run its golden frames for so long, beside whatever inspects.

    Returns BenchmarkOutput in the words of the wire. Errors: AgentError.
    """
    bundle = library.open(ref)
    frames = library.golden(bundle)
    began_s = time.monotonic()
    loaded = library.load(lane, ref, bundle)
    load_ms = (time.monotonic() - began_s) * 1e3
    try:
        calls_ms, inference_ms = drive(loaded.segmenter, frames, seconds, stop)
    finally:
        loaded.segmenter.close()
    output = BenchmarkOutput(
        model=loaded.model,
        lane=lane,
        calls=len(calls_ms),
        load_ms=round(load_ms, 1),
        rate_hz=round(1e3 * len(calls_ms) / sum(calls_ms), 2),
        call_ms=percentiles(calls_ms, 2),
        inference_ms=percentiles(inference_ms, 2),
    )
    return output.model_dump(mode="json", by_alias=True, exclude_none=True)
