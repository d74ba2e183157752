"""A model under full load for a time, and what its calls took: for the job `benchmark` and for the self-test."""

import threading
import time
from collections.abc import Sequence

import numpy as np

from agent.core.bundle import GoldenFrame
from agent.ports import Segmenter
from schemas.job import Percentiles


def drive(
    segmenter: Segmenter, frames: Sequence[GoldenFrame], seconds: float, stop: threading.Event
) -> tuple[list[float], list[float]]:
    """Run the frames in turn, at least one of them; the time of each call as its caller sees it and that of its
    inference, in ms. Errors: those of the segmenter.
    """
    calls_ms: list[float] = []
    inference_ms: list[float] = []
    ends_s = time.monotonic() + seconds
    while not calls_ms or (time.monotonic() < ends_s and not stop.is_set()):
        frame = frames[len(calls_ms) % len(frames)]
        began_s = time.monotonic()
        seen = segmenter.segment(frame.inputs)
        calls_ms.append((time.monotonic() - began_s) * 1e3)
        inference_ms.append(seen.inference_ms)
    return calls_ms, inference_ms


def percentiles(values_ms: Sequence[float], digits: int = 3) -> Percentiles:
    """Raises ValueError where there is nothing."""
    if not values_ms:
        raise ValueError("no values")
    p50, p95, most = (round(float(value), digits) for value in np.percentile(values_ms, (50, 95, 100)))
    return Percentiles(p50=p50, p95=p95, max=most)
