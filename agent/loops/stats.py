"""What lanes count and measure, gathered for telemetry."""

import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from agent.core.meter import Histogram, Meter, Snapshot
from schemas.recipe import Evaluation
from schemas.result import Clock
from schemas.telemetry import CoreState


@dataclass(frozen=True, slots=True)
class Totals:
    """Since start, by camera."""

    inspected: Mapping[str, int]
    failed: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class CoreFacts:
    """Since start, but for the median time of inference of a frame, which is None where the interval had none."""

    state: CoreState
    inspected: int
    faults: int
    restarts: int
    p50_ms: float | None


@dataclass(frozen=True, slots=True)
class Interval(Snapshot):
    """`cores` by the names of their lanes."""

    cores: Mapping[str, CoreFacts]


@dataclass(slots=True)
class _Core:
    state: CoreState = CoreState.LOADING
    inspected: int = 0
    faults: int = 0
    restarts: int = 0
    latency: Histogram = field(default_factory=Histogram)

    def take(self) -> CoreFacts:
        taken = self.latency.take()
        p50_ms = taken.percentile(50) if taken.count else None
        return CoreFacts(self.state, self.inspected, self.faults, self.restarts, p50_ms)


class Stats:
    """Any lane adds, control takes.

    `first_result_s` is the monotonic time of the first committed result; `clock` is what results say of the clock,
    written whole by control and read by lanes.
    """

    def __init__(self, monotonic: Callable[[], float]) -> None:
        self._lock = threading.Lock()
        self._monotonic = monotonic
        self._meter = Meter(monotonic())
        self._inspected: dict[str, int] = {}
        self._failed: dict[str, int] = {}
        self._cores: dict[str, _Core] = {}
        self.first_result_s: float | None = None
        self.clock = Clock()

    def recorded(self, camera: str, evaluation: Evaluation, stages_ms: Mapping[str, float]) -> None:
        """One result of this camera is committed; an undefined evaluation is a fault."""
        with self._lock:
            if self.first_result_s is None:
                self.first_result_s = self._monotonic()
            counter = self._failed if evaluation is Evaluation.UNDEFINED else self._inspected
            counter[camera] = counter.get(camera, 0) + 1
            self._meter.count(f"camera.{camera}")
            self._meter.count(f"evaluation.{evaluation.name}")
            for stage, value in stages_ms.items():
                self._meter.observe(stage, max(0.0, value))

    def core_is(self, core: str, state: CoreState, restarts: int = 0) -> None:
        """`restarts` of its child have come to those told before."""
        with self._lock:
            one = self._cores.setdefault(core, _Core())
            one.state = state
            one.restarts += restarts

    def core_looked(self, core: str, inference_ms: float | None) -> None:
        """One frame on this core; None is a fault."""
        with self._lock:
            one = self._cores.setdefault(core, _Core())
            if inference_ms is None:
                one.faults += 1
            else:
                one.inspected += 1
                one.latency.add(max(0.0, inference_ms))

    def take(self) -> Interval:
        """The interval since the last take."""
        with self._lock:
            taken = self._meter.take(self._monotonic())
            cores = {name: core.take() for name, core in sorted(self._cores.items())}
            return Interval(taken.interval_s, taken.stages, taken.counts, cores)

    def totals(self) -> Totals:
        with self._lock:
            return Totals(dict(self._inspected), dict(self._failed))
