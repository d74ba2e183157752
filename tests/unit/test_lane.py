"""One lane with a segmenter and a spool that do as they are told."""

import threading
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Self

import numpy as np
import pytest

from agent.core.frame import Frame, Layout, Picture, Pixels
from agent.core.outgoing import Kind, Outgoing, Place
from agent.core.result import Origin
from agent.core.update import ModelRef
from agent.core.vision import View
from agent.errors import AgentError, Permanent, Retryable
from agent.loops.exhibits import Exhibits
from agent.loops.inspect import CameraPlan, Loaded
from agent.loops.lane import Lane, LaneParts
from agent.loops.latest import Slots
from agent.loops.ledger import Ledger
from agent.loops.orders import LaneItem, LaneReport, SpoolState
from agent.loops.outbox import Outbox
from agent.loops.stats import Stats
from agent.ports import Runtime, Segmentation
from schemas.codes import FailureCode
from schemas.manifest import DefectClass, Letterbox, Severity
from schemas.recipe import Evaluation, Recipe
from schemas.result import Result, ResultState, Station
from schemas.status import ModelInfo
from schemas.target import Target
from tests.unit.a_bundle import a_bundle

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

    def segment(self, inputs: Sequence[Pixels]) -> Segmentation:
        fault = self.faults.pop(0) if self.faults else None
        if fault is not None:
            raise fault
        class_map = (inputs[0][:, :, 0] > 100).astype(np.uint8)
        return Segmentation(class_map, class_map * np.uint8(250), 1.0, 0.1)

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


class Bench:
    """A running lane with one camera."""

    def __init__(self, faults: list[AgentError | None] = [], spool_faults: list[AgentError] = []) -> None:  # noqa: B006
        self.slots: Slots[Frame] = Slots(["top"])
        self.segmenter = Scripted(list(faults))
        self.spool = ScriptedSpool(list(spool_faults))
        self.reports: list[LaneItem] = []
        self.stats = Stats(lambda: 0.0)
        classes = (
            DefectClass(id=0, name="background", colour="#000000", severity=Severity.NONE),
            DefectClass(id=1, name="spot", colour="#ff0000", severity=Severity.MAJOR),
        )
        limits = bytes([255, 0]).ljust(256, b"\xff")
        view = View((SIZE, SIZE), None, Letterbox(), None, ("image",), ("background", "spot"), limits, (0, 0))
        origin = Origin(Station(site="a", node="b", camera="top"), "default", None, False, None, classes)
        plan = CameraPlan(view, Recipe(), origin, "rkfleet/v1/a/b/result/top")
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
        self.plans: dict[tuple[str, str | None], CameraPlan] = {("top", None): plan}
        self.lane = Lane("core-0", self.slots, lambda: self.loaded(self.segmenter, OLD), parts)
        self.stop = threading.Event()
        self.thread = threading.Thread(target=self.lane.run, args=(self.stop,))

    def loaded(self, segmenter: Scripted, ref: ModelRef) -> Loaded:
        return Loaded(segmenter, ref, MODEL.model_copy(update={"version": ref.version}), BUNDLE, self.plans)

    def __enter__(self) -> Self:
        self.thread.start()
        return self

    def __exit__(self, *_exc: object) -> None:
        self.stop.set()
        self.slots.stop()
        self.thread.join(10)
        assert not self.thread.is_alive()
        assert self.segmenter.closed

    def show(self, seq: int, *, bright: bool) -> Result:
        """One frame; returns its result."""
        pixels = np.zeros((SIZE, SIZE, 3), np.uint8)
        if bright:
            pixels[4:10, 4:10] = 255
        self.slots["top"].put(Frame(Picture(pixels, Layout.RGB), "top", seq, NOW, 0.0, 1.0))
        with self.spool.enough:
            assert self.spool.enough.wait_for(lambda: any(r.image.frame_id == seq for r in self.spool.results), 10)
        return next(r for r in self.spool.results if r.image.frame_id == seq)


def test_frames_become_results_in_order() -> None:
    with Bench() as bench:
        good, bad = bench.show(0, bright=False), bench.show(1, bright=True)
    assert (good.result_evaluation, bad.result_evaluation) == (Evaluation.OK, Evaluation.NOT_OK)
    assert [r.sequence_number for r in bench.spool.results] == [1, 2]
    assert bad.defects[0].area_px == 36
    assert bad.model == MODEL
    assert bench.reports[0] == LaneReport("core-0", None, model=MODEL, manifest_sha256=OLD.manifest_sha256)
    assert bench.stats.totals().inspected == {"top": 2}


@pytest.mark.parametrize(
    "fault",
    [
        Retryable(FailureCode.NPU_HUNG, "hung", delay_s=0.01),
        Permanent(FailureCode.SHAPE_MISMATCH, "another shape"),
    ],
)
def test_a_fault_is_a_failed_result_and_an_alarm_until_it_works_again(fault: AgentError) -> None:
    with Bench([None, fault]) as bench:
        bench.show(0, bright=True)
        failed = bench.show(1, bright=True)
        again = bench.show(2, bright=True)
    assert failed.result_state is ResultState.FAILED
    assert failed.result_evaluation is Evaluation.UNDEFINED
    assert failed.fault is not None
    assert failed.fault.code is fault.code
    assert again.result_evaluation is Evaluation.NOT_OK
    reported = [report.code for report in bench.reports if isinstance(report, LaneReport)]
    assert reported == [None, fault.code, None]
    assert bench.stats.totals().failed == {"top": 1}


def test_a_full_spool_holds_a_result_up_and_does_not_drop_it() -> None:
    full = [Retryable(FailureCode.SPOOL_FULL, "full", delay_s=0.001) for _ in range(3)]
    with Bench(spool_faults=list(full)) as bench:
        result = bench.show(0, bright=True)
    assert result.sequence_number == 1
    states = [report.code for report in bench.reports if isinstance(report, SpoolState)]
    assert states == [FailureCode.SPOOL_FULL] * 3 + [None]


def test_a_picture_that_cannot_be_prepared_is_a_fault_in_words() -> None:
    with Bench() as bench:
        pixels = np.zeros((3, 31), np.uint8)  # NV12 has even sides
        bench.slots["top"].put(Frame(Picture(pixels, Layout.NV12), "top", 5, NOW, 0.0, 1.0))
        with bench.spool.enough:
            assert bench.spool.enough.wait_for(lambda: bool(bench.spool.results), 10)
    fault = bench.spool.results[0].fault
    assert fault is not None
    assert fault.code is FailureCode.CONFIG_INVALID


def test_a_load_that_fails_is_told_and_tried_again() -> None:
    bench = Bench()
    loads = iter([Retryable(FailureCode.NPU_OUT_OF_MEMORY, "no memory", delay_s=0.001), None])
    good = bench.lane._load

    def load() -> Loaded:
        error = next(loads)
        if error is not None:
            raise error
        return good()

    bench.lane._load = load
    with bench:
        bench.show(0, bright=False)
    codes = [report.code for report in bench.reports if isinstance(report, LaneReport)]
    assert codes[:2] == [FailureCode.NPU_OUT_OF_MEMORY, None]
