"""Several running lanes on the same cameras, each with a core whose speed and faults the test sets."""

import threading
import time
from collections.abc import Callable, Sequence
from typing import Self, TypeVar

import numpy as np

from agent.core.cores import Rules
from agent.core.frame import Frame, Layout, Picture, Pixels
from agent.core.update import ModelRef
from agent.errors import AgentError
from agent.loops.exhibits import Exhibits
from agent.loops.inspect import Loaded, Plans
from agent.loops.lane import Lane, LaneParts
from agent.loops.latest import Slots
from agent.loops.ledger import Ledger
from agent.loops.orders import LaneItem
from agent.loops.outbox import Outbox
from agent.loops.quarantine import Quarantine
from agent.loops.runner import Crash, Runner
from agent.loops.stats import Stats
from agent.ports import Segmentation
from schemas.result import Result
from schemas.telemetry import CoreState
from tests.unit.lane_bench import BUNDLE, MODEL, NOW, OLD, SIZE, Scripted, ScriptedSpool, a_plan

LONG_S = 20.0
RULES = Rules(faults=3, factor=3.0, window=5, first_s=8.0, most_s=8.0)
Report = TypeVar("Report")


class Core(Scripted):
    """Says that an inference took `latency_ms`, takes `pause_s`, waits for its gate, and raises `fault` if it has one.

    `fault` may be an error that nobody foresees.
    """

    def __init__(self) -> None:
        super().__init__([])
        self.latency_ms = 20.0
        self.pause_s: Callable[[], float] = lambda: 0.0
        self.fault: AgentError | RuntimeError | None = None
        self.gate = threading.Event()
        self.gate.set()
        self.calls = 0
        self.restarts = 0

    def segment(self, inputs: Sequence[Pixels]) -> Segmentation:
        self.calls += 1
        time.sleep(self.pause_s())
        assert self.gate.wait(LONG_S)
        if self.fault is not None:
            self.restarts += 1
            raise self.fault
        nothing = np.zeros((SIZE, SIZE), np.uint8)
        return Segmentation(nothing, nothing, self.latency_ms, 0.1)


class Lanes:
    """Lanes core-0, core-1 and so on. The quarantine's clock is `at_s`; a trial is due 4 s after a core went out."""

    def __init__(self, lanes: int, cameras: Sequence[str] = ("top",)) -> None:
        self.slots: Slots[Frame] = Slots(cameras)
        self.spool = ScriptedSpool([])
        self.outbox = Outbox(self.spool, "boot", lambda: None)  # type: ignore[arg-type]  # it only appends
        self.reports: list[LaneItem] = []
        self.stats = Stats(time.monotonic)
        self.at_s = 0.0
        self.current = OLD
        self.quarantine = Quarantine(RULES, lambda: self.at_s, lambda: 0.5)
        self.crashes: list[Crash] = []
        self.runner = Runner(self.crashes.append, pause_s=0.01)
        self.cores = {f"core-{number}": Core() for number in range(lanes)}
        self.lanes = {name: self._lane(name) for name in self.cores}
        self._seqs = dict.fromkeys(cameras, 0)

    def _lane(self, name: str) -> Lane:
        parts = LaneParts(
            outbox=self.outbox,
            stats=self.stats,
            ledger=Ledger(lambda: None),
            report=self.reports.append,
            exhibits=Exhibits(None, 0.0, time.monotonic),
            witness=lambda _frame, _result: None,
            retire=lambda segmenter: segmenter.close(),
            now=lambda: NOW,
            monotonic=time.monotonic,
            new_id=lambda: "id",
            quarantine=self.quarantine,
        )
        return Lane(name, self.slots, lambda: self.loaded(self.cores[name], self.current), parts)

    def loaded(self, core: Core, ref: ModelRef) -> Loaded:
        plans: Plans = {(camera, None): a_plan(camera) for camera in self._seqs}
        return Loaded(core, ref, MODEL.model_copy(update={"version": ref.version}), BUNDLE, plans)

    def __enter__(self) -> Self:
        for name, lane in self.lanes.items():
            self.runner.start(name, lane.run)
        self.until(lambda: CoreState.LOADING not in {self.state(name) for name in self.lanes})
        return self

    def __exit__(self, *_exc: object) -> None:
        for core in self.cores.values():
            core.gate.set()
        for name in self.lanes:
            self.runner.ask_to_stop(name)
        self.slots.stop()
        assert all(self.runner.stop(name, LONG_S) for name in self.lanes)

    def state(self, name: str) -> CoreState:
        with self.quarantine.lock:
            return self.quarantine.cores.state(name)

    def reported(self, kind: type[Report]) -> list[Report]:
        return [item for item in list(self.reports) if isinstance(item, kind)]

    def put(self, camera: str = "top") -> int:
        """One more picture, which none replaces; returns its seq."""
        seq = self._seqs[camera]
        self._seqs[camera] += 1
        frame = Frame(Picture(np.zeros((SIZE, SIZE, 3), np.uint8), Layout.RGB), camera, seq, NOW, 0.0, 1.0)
        self.until(lambda: self.slots[camera].keep(frame))
        return seq

    def of(self, camera: str = "top") -> list[Result]:
        return [result for result in list(self.spool.results) if result.station.camera == camera]

    def seqs(self, camera: str = "top") -> list[int]:
        return [result.image.frame_id for result in self.of(camera)]

    def show(self, camera: str = "top") -> None:
        """One picture and its result."""
        seq = self.put(camera)
        self.until(lambda: seq in self.seqs(camera))

    def show_until(self, is_true: Callable[[], bool]) -> None:
        deadline_s = time.monotonic() + LONG_S
        while not is_true():
            assert time.monotonic() < deadline_s
            self.show()

    def until(self, is_true: Callable[[], bool]) -> None:
        deadline_s = time.monotonic() + LONG_S
        while not is_true():
            assert time.monotonic() < deadline_s
            time.sleep(0.001)
