"""A running lane with a segmenter and a spool that do as they are told."""

import threading
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Self, TypeVar

import numpy as np

from agent.core.frame import Frame, Layout, Order, Picture, Pixels
from agent.core.outgoing import Kind, Outgoing, Place
from agent.core.result import Origin
from agent.core.update import ModelRef
from agent.core.vision import View
from agent.errors import AgentError
from agent.loops.exhibits import Exhibits
from agent.loops.inspect import CameraPlan, Loaded
from agent.loops.lane import Lane, LaneParts
from agent.loops.latest import Slots
from agent.loops.ledger import Ledger
from agent.loops.orders import LaneItem
from agent.loops.outbox import Outbox
from agent.loops.stats import Stats
from agent.ports import Runtime, Segmentation
from schemas.manifest import DefectClass, Letterbox, Severity
from schemas.recipe import Recipe
from schemas.result import Result, Station
from schemas.status import ModelInfo
from schemas.target import Target
from tests.unit.a_bundle import a_bundle

Report = TypeVar("Report")
NOW = datetime(2026, 1, 1, tzinfo=UTC)
SIZE = 32
MODEL = ModelInfo(
    name="m", version="1", sha256="0" * 64, generation=1, runtime="onnx", runtime_version="1", target=Target.CPU
)

OLD, NEW = ModelRef("m", "1", "1" * 64), ModelRef("m", "2", "2" * 64)
BUNDLE = a_bundle()


class Scripted:
    """A segmenter that takes everything bright for a defect, or raises what is next in `faults`."""

    def __init__(self, faults: list[AgentError | None]) -> None:
        self.faults = faults
        self.closed = False

    runtime = Runtime("scripted", "1")
    shapes: Sequence[tuple[int, int]] = ((SIZE, SIZE),)
    batch: int = 1

    def segment(self, inputs: Sequence[Pixels]) -> Segmentation:
        fault = self.faults.pop(0) if self.faults else None
        if fault is not None:
            raise fault
        class_map = (inputs[0][:, :, 0] > 100).astype(np.uint8)
        return Segmentation(class_map, class_map * np.uint8(250), 1.0, 0.1)

    def segment_all(self, items: Sequence[Sequence[Pixels]]) -> Sequence[Segmentation]:
        return [self.segment(inputs) for inputs in items]

    def close(self) -> None:
        self.closed = True


class ScriptedSpool:
    """Keeps results, or raises what is next in `faults`."""

    def __init__(self, faults: list[AgentError]) -> None:
        self.faults = faults
        self.results: list[Result] = []
        self.enough = threading.Condition()

    def append(self, kind: Kind, message: Outgoing, place: Place | None = None) -> int:
        if self.faults:
            raise self.faults.pop(0)
        assert kind is Kind.RESULT
        with self.enough:
            self.results.append(Result.model_validate_json(message.payload))
            self.enough.notify_all()
        return len(self.results)


def a_plan(camera: str) -> CameraPlan:
    classes = (
        DefectClass(id=0, name="background", colour="#000000", severity=Severity.NONE),
        DefectClass(id=1, name="spot", colour="#ff0000", severity=Severity.MAJOR),
    )
    limits = bytes([255, 0]).ljust(256, b"\xff")
    view = View((SIZE, SIZE), None, Letterbox(), None, ("image",), ("background", "spot"), limits, (0, 0))
    origin = Origin(Station(site="a", node="b", camera=camera), "default", None, False, None, classes)
    return CameraPlan(view, Recipe(), origin, f"rkfleet/v1/a/b/result/{camera}")


class Bench:
    """A running lane with one camera."""

    def __init__(self, faults: list[AgentError | None] = [], spool_faults: list[AgentError] = []) -> None:  # noqa: B006
        self.slots: Slots[Frame] = Slots(["top"])
        self.segmenter = Scripted(list(faults))
        self.spool = ScriptedSpool(list(spool_faults))
        self.reports: list[LaneItem] = []
        self.stats = Stats(lambda: 0.0)
        self.plan = a_plan("top")
        outbox = Outbox(self.spool, "boot", lambda: None)  # type: ignore[arg-type]
        exhibits = Exhibits(None, 0.0, lambda: 0.0)
        ids = iter(f"id-{n}" for n in range(10_000))
        self.ledger = Ledger(lambda: None)
        self.witnessed: list[Result] = []
        parts = LaneParts(
            outbox=outbox,
            stats=self.stats,
            ledger=self.ledger,
            report=self.reports.append,
            exhibits=exhibits,
            witness=lambda _frame, result: self.witnessed.append(result),
            retire=lambda segmenter: segmenter.close(),
            now=lambda: NOW,
            monotonic=lambda: 0.0,
            new_id=lambda: next(ids),
        )
        self.lane = Lane("core-0", self.slots, lambda: self.loaded(self.segmenter, OLD), parts)
        self.stop = threading.Event()
        self.thread = threading.Thread(target=self.lane.run, args=(self.stop,))

    def loaded(self, segmenter: Scripted, ref: ModelRef, recipes: Sequence[str | None] = (None,)) -> Loaded:
        plans = {("top", recipe): self.plan for recipe in recipes}
        return Loaded(segmenter, ref, MODEL.model_copy(update={"version": ref.version}), BUNDLE, plans)

    def reported(self, kind: type[Report]) -> list[Report]:
        return [report for report in self.reports if isinstance(report, kind)]

    def __enter__(self) -> Self:
        self.thread.start()
        return self

    def __exit__(self, *_exc: object) -> None:
        self.stop.set()
        self.slots.stop()
        self.thread.join(10)
        assert not self.thread.is_alive()
        assert self.segmenter.closed

    def show(self, seq: int, *, bright: bool = False, order: Order | None = None) -> Result:
        """One frame; returns its result."""
        pixels = np.zeros((SIZE, SIZE, 3), np.uint8)
        if bright:
            pixels[4:10, 4:10] = 255
        self.slots["top"].put(Frame(Picture(pixels, Layout.RGB), "top", seq, NOW, 0.0, 1.0, order))
        with self.spool.enough:
            assert self.spool.enough.wait_for(lambda: any(r.image.frame_id == seq for r in self.spool.results), 10)
        return next(r for r in self.spool.results if r.image.frame_id == seq)
