"""What lanes count and measure, gathered for telemetry."""

import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from agent.core.meter import Meter, Snapshot
from schemas.recipe import Evaluation
from schemas.result import Clock


@dataclass(frozen=True, slots=True)
class Totals:
    """Since start, by camera."""

    inspected: Mapping[str, int]
    failed: Mapping[str, int]


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

    def take(self) -> Snapshot:
        """The interval since the last take."""
        with self._lock:
            return self._meter.take(self._monotonic())

    def totals(self) -> Totals:
        with self._lock:
            return Totals(dict(self._inspected), dict(self._failed))
