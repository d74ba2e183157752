"""The model on every core: golden frames, each core alone, all together, and the machine meanwhile."""

import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from dataclasses import dataclass

from agent.core import health
from agent.core.bundle import Bundle, GoldenFrame
from agent.drive import drive, percentiles
from agent.ports import Host, Segmenter
from schemas.selftest import CoreFacts, Sample, TogetherFacts

MOST_SAMPLES = 600
LEAST_INTERVAL_S = 0.25


@dataclass(frozen=True, slots=True)
class Core:
    """A loaded model; it belongs to one thread at a time."""

    lane: str
    segmenter: Segmenter
    load_ms: float


@dataclass(frozen=True, slots=True)
class Work:
    """What the cores do; `stop` ends it early."""

    bundle: Bundle
    frames: Sequence[GoldenFrame]
    stop: threading.Event


def alone(core: Core, work: Work, seconds: float) -> CoreFacts:
    """Errors: those of the segmenter."""
    classes = len(work.bundle.manifest.classes)
    agreements = [
        health.agreement(core.segmenter.segment(frame.inputs).class_map, frame.class_map, classes)
        for frame in work.frames
    ]
    calls_ms, _ = drive(core.segmenter, work.frames, seconds, work.stop)
    return CoreFacts(
        load_ms=round(core.load_ms, 1),
        golden_frames=len(agreements),
        least_agreement=round(min(agreements), 6),
        calls=len(calls_ms),
        rate_hz=round(1e3 * len(calls_ms) / sum(calls_ms), 2),
        call_ms=percentiles(calls_ms),
    )


def together(cores: Sequence[Core], work: Work, seconds: float, sample: Callable[[float], None]) -> TogetherFacts:
    """One thread a core; `sample` is called now and then with the seconds since the start. The ratio is left at 0.
    Errors: those of the segmenters.
    """
    began_s = time.monotonic()
    interval_s = max(LEAST_INTERVAL_S, seconds / MOST_SAMPLES)
    with ThreadPoolExecutor(len(cores)) as pool:
        running = [pool.submit(drive, core.segmenter, work.frames, seconds, work.stop) for core in cores]
        sample(0.0)
        while not all(future.done() for future in running):
            wait(running, interval_s, FIRST_EXCEPTION)
            sample(time.monotonic() - began_s)
        calls_ms = [ms for future in running for ms in future.result()[0]]
    took_s = time.monotonic() - began_s
    rate_hz = len(calls_ms) / took_s
    return TogetherFacts(
        seconds=round(took_s, 2),
        calls=len(calls_ms),
        rate_hz=round(rate_hz, 2),
        ratio=0,
        call_ms=percentiles(calls_ms),
    )


def sampled(host: Host, at_s: float) -> Sample:
    facts = host.sample()
    return Sample(
        at_s=round(at_s, 2),
        temperature_c=facts.temperature_c,
        npu_frequency_hz=facts.npu.frequency_hz if facts.npu else None,
        npu_load_percent=list(facts.npu.load_percent) if facts.npu else [],
        memory_bytes=facts.memory_bytes,
        children_memory_bytes=facts.children_memory_bytes,
    )
