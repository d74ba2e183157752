"""The segmenter contract on a model in two stages, each in a child, and what the chain adds."""

import os
import select
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import psutil
import pytest

from agent.adapters.segmenter_onnx import OnnxSegmenter
from agent.adapters.segmenter_process import ProcessChain
from agent.core.frame import Pixels
from agent.core.model import ModelSpec
from agent.core.stages import Tensor, chain
from agent.errors import AgentError, Permanent, Retryable
from agent.ports import Segmentation, Segmenter
from schemas.codes import FailureCode
from tests.contract import probe_model
from tests.contract.faulty_child import PATIENCE_S, ours
from tests.contract.probe_model import ProbeContract
from tests.contract.segmenter_contract import BatchContract, Kind
from tests.contract.split_probe import MODEL, Order, class_map_of, cut_probe, links_of, obedient_links, picture

DEADLINE_S = 2.0


class TestProcessChain(ProbeContract, BatchContract):
    """The spec's path is the second half's; the first half and the whole lie beside it."""

    @classmethod
    def model(cls, kind: Kind, folder: Path) -> ModelSpec:
        return cut_probe(kind, folder)[0]

    @classmethod
    def segmenter(cls, spec: ModelSpec) -> Segmenter:
        deep = Path(spec.path)
        shallow = deep.with_name("shallow.onnx")
        tensors = [
            Tensor(f"picture{number}_nchw", "float32", tuple((1, 3, *shape) for shape in spec.shapes))
            for number in range(spec.inputs)
        ]
        links = links_of(chain(spec, [str(shallow if shallow.exists() else deep), spec.path], [tensors]))
        return ProcessChain(links, deadline_s=PATIENCE_S, load_deadline_s=PATIENCE_S)

    def test_it_gives_pixel_for_pixel_what_the_whole_model_gives(self, tmp_path: Path) -> None:
        model, specs = cut_probe(Kind(batch=4), tmp_path)
        whole = OnnxSegmenter(replace(model, path=str(tmp_path / "probe.onnx"), batch=1))
        split = ProcessChain(links_of(specs), deadline_s=PATIENCE_S, load_deadline_s=PATIENCE_S)
        for shape in model.shapes:
            items = [probe_model.random_inputs(model, shape, seed) for seed in range(4)]
            for made, inputs in zip(split.segment_all(items), items, strict=True):
                wanted = whole.segment(inputs)
                np.testing.assert_array_equal(made.class_map, wanted.class_map)
                np.testing.assert_array_equal(made.score, wanted.score)
        split.close()
        whole.close()

    @pytest.mark.parametrize("changes", ["name", "type", "shape", "more"])
    def test_stages_that_do_not_give_what_was_said_are_refused_at_load(self, changes: str, tmp_path: Path) -> None:
        model, (shallow, deep) = cut_probe(Kind(), tmp_path)
        (right,) = shallow.gives
        wrong = {
            "name": [replace(right, name="other")],
            "type": [replace(right, dtype="float16")],
            "shape": [replace(right, shapes=tuple((1, 4, *dims[2:]) for dims in right.shapes))],
            "more": [right, replace(right, name="second")],
        }
        specs = chain(model, [shallow.model.path, deep.model.path], [wrong[changes]])
        with pytest.raises(Permanent) as caught:
            ProcessChain(links_of(specs), deadline_s=PATIENCE_S, load_deadline_s=PATIENCE_S)
        assert caught.value.code is FailureCode.MODEL_INVALID


class Pipes:
    """Tells which stage is inside a call, and lets it go on. Both ends are open here, so that nobody blocks."""

    def __init__(self, folder: Path) -> None:
        self._fds = {}
        for name in ("entered", "leave1", "leave2"):
            os.mkfifo(folder / name)
            self._fds[name] = os.open(folder / name, os.O_RDWR)

    def await_entry(self) -> int:
        assert select.select([self._fds["entered"]], [], [], PATIENCE_S)[0]
        return int(os.read(self._fds["entered"], 1))

    def release(self, stage: int) -> None:
        os.write(self._fds[f"leave{stage}"], b"x")

    def close(self) -> None:
        for fd in self._fds.values():
            os.close(fd)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("chain")


@pytest.fixture(scope="module")
def pipes(folder: Path) -> Iterator[Pipes]:
    made = Pipes(folder)
    yield made
    made.close()


@pytest.fixture(scope="module")
def patient(folder: Path) -> Iterator[ProcessChain]:
    made = ProcessChain(obedient_links(folder), deadline_s=PATIENCE_S, load_deadline_s=PATIENCE_S, core="core 1")
    yield made
    made.close()


@pytest.fixture(scope="module")
def impatient(folder: Path) -> Iterator[ProcessChain]:
    made = ProcessChain(obedient_links(folder), deadline_s=DEADLINE_S, load_deadline_s=PATIENCE_S, core="core 1")
    yield made
    made.close()


def pictures(count: int, seed: int, orders: dict[int, Order] | None = None) -> list[list[Pixels]]:
    orders = orders or {}
    return [[picture(10 * seed + item, orders.get(item, Order.NONE))] for item in range(count)]


def assert_right(made: Sequence[Segmentation], items: Sequence[list[Pixels]]) -> None:
    assert len(made) == len(items)
    for each, (pixels,) in zip(made, items, strict=True):
        class_map = class_map_of(pixels)
        np.testing.assert_array_equal(each.class_map, class_map)
        np.testing.assert_array_equal(each.score, np.where(class_map > 0, 255, 0))
        assert each.inference_ms > 0


def assert_works(segmenter: ProcessChain, seed: int) -> None:
    for count in (MODEL.batch, 1, 3):
        items = pictures(count, seed + count)
        assert_right(segmenter.segment_all(items), items)
    small = [[picture(seed, shape=MODEL.shapes[1])]]
    assert_right(segmenter.segment_all(small), small)


class Call(threading.Thread):
    def __init__(self, segmenter: ProcessChain, items: list[list[Pixels]]) -> None:
        super().__init__()
        self.segmenter, self.items = segmenter, items
        self.made: Sequence[Segmentation] | None = None
        self.error: AgentError | None = None
        self.start()

    def run(self) -> None:
        try:
            self.made = self.segmenter.segment_all(self.items)
        except AgentError as error:
            self.error = error

    def outcome(self) -> Sequence[Segmentation] | AgentError | None:
        self.join(PATIENCE_S)
        return self.error or self.made


def test_a_stage_works_on_the_next_picture_while_the_one_after_it_works_on_this_one(
    patient: ProcessChain, pipes: Pipes
) -> None:
    """Both are inside a call at the same time, and neither goes on before the other is seen inside."""
    items = pictures(3, 1, {0: Order.WAIT_2, 1: Order.WAIT_1})
    call = Call(patient, items)
    assert {pipes.await_entry(), pipes.await_entry()} == {1, 2}
    pipes.release(1)
    pipes.release(2)
    made = call.outcome()
    assert isinstance(made, list)
    assert_right(made, items)


def test_a_quick_stage_does_not_overtake_a_slow_one(patient: ProcessChain, pipes: Pipes) -> None:
    """The first stage ends with the second picture while the second stage still has the first one."""
    items = pictures(4, 2, {0: Order.WAIT_2, 3: Order.WAIT_1})
    call = Call(patient, items)
    assert pipes.await_entry() == 2
    pipes.release(2)
    assert pipes.await_entry() == 1
    pipes.release(1)
    made = call.outcome()
    assert isinstance(made, list)
    assert_right(made, items)


@pytest.mark.parametrize("place", [0, 2, 3])
@pytest.mark.parametrize(
    ("order", "kind", "code"),
    [
        (Order.CRASH_1, Retryable, FailureCode.NPU_CRASHED),
        (Order.CRASH_2, Retryable, FailureCode.NPU_CRASHED),
        (Order.WRONG_SHAPE_1, Retryable, FailureCode.NPU_CRASHED),
        (Order.WRONG_SHAPE_2, Permanent, FailureCode.MODEL_INVALID),
        (Order.RETRYABLE_1, Retryable, FailureCode.NPU_TIMEOUT),
        (Order.RETRYABLE_2, Retryable, FailureCode.NPU_TIMEOUT),
        (Order.PERMANENT_1, Permanent, FailureCode.MODEL_INVALID),
        (Order.PERMANENT_2, Permanent, FailureCode.MODEL_INVALID),
    ],
    ids=lambda value: value.name if isinstance(value, Order) else "",
)
def test_a_fault_in_a_stage_fails_the_call_and_the_next_is_answered(
    order: Order, kind: type[AgentError], code: FailureCode, place: int, patient: ProcessChain
) -> None:
    assert_works(patient, 100)
    before = patient.pids
    with pytest.raises(kind) as caught:
        patient.segment_all(pictures(MODEL.batch, 3, {place: order}))
    assert caught.value.code is code
    assert_works(patient, 200)
    other = 2 - order.stage
    assert patient.pids[other] == before[other], "only the stage that was lost is started again"
    if order.what in {"RETRYABLE", "PERMANENT"}:
        assert patient.pids == before, "a stage that says what is wrong is not lost"


@pytest.mark.parametrize("stage", [1, 2])
def test_a_stage_that_hangs_is_killed_at_its_deadline_and_the_other_stays(stage: int, impatient: ProcessChain) -> None:
    assert_works(impatient, 300)
    before, restarts = impatient.pids, impatient.restarts
    order = (Order.HANG_1, Order.HANG_2)[stage - 1]
    started_s = time.monotonic()
    with pytest.raises(Retryable) as caught:
        impatient.segment_all(pictures(MODEL.batch, 4, {1: order}))
    assert DEADLINE_S <= time.monotonic() - started_s < 2 * DEADLINE_S + 10
    assert caught.value.code is FailureCode.NPU_HUNG
    assert f"core 1 stage {stage}" in caught.value.text
    assert impatient.pids[stage - 1] is None
    hung = before[stage - 1]
    assert hung is not None
    assert not psutil.pid_exists(hung)
    assert_works(impatient, 400)
    assert impatient.restarts == restarts + 1
    assert impatient.pids[2 - stage] == before[2 - stage]


def test_a_call_that_failed_leaves_no_stage_at_work(patient: ProcessChain, pipes: Pipes) -> None:
    """The first stage is inside the third picture when the second one crashes with the second: the call ends only
    after the first has ended too, and its result is never seen.
    """
    items = pictures(3, 5, {1: Order.CRASH_2, 2: Order.WAIT_1})
    call = Call(patient, items)
    assert pipes.await_entry() == 1
    assert call.is_alive()
    pipes.release(1)
    error = call.outcome()
    assert isinstance(error, Retryable)
    assert error.code is FailureCode.NPU_CRASHED
    assert_works(patient, 500)


def test_maps_stay_as_they_were_when_the_last_stage_is_lost(patient: ProcessChain) -> None:
    items = pictures(MODEL.batch, 6)
    made = patient.segment_all(items)
    with pytest.raises(Retryable):
        patient.segment_all(pictures(1, 7, {0: Order.CRASH_2}))
    assert_right(made, items)
    assert_works(patient, 600)
    assert_right(made, items)


@pytest.mark.parametrize("stage", [1, 2])
def test_a_stage_that_does_not_load_leaves_no_child(stage: int, folder: Path) -> None:
    (folder / f"load{stage}").touch()
    before = set(psutil.Process().children())
    with pytest.raises(Permanent) as caught:
        ProcessChain(obedient_links(folder), deadline_s=PATIENCE_S, load_deadline_s=PATIENCE_S)
    (folder / f"load{stage}").unlink()
    assert f"stage {stage} does not load" in caught.value.text
    assert set(psutil.Process().children()) <= before


def test_what_computes_is_named_of_all_stages(patient: ProcessChain) -> None:
    assert (patient.runtime.name, patient.runtime.version) == ("obedient1+obedient2", "1.0+2.0")


def test_closing_ends_all_children_and_leaves_nothing(folder: Path) -> None:
    left = ours()
    segmenter = ProcessChain(obedient_links(folder), deadline_s=PATIENCE_S, load_deadline_s=PATIENCE_S)
    assert_works(segmenter, 700)
    assert segmenter.memory_bytes() > 2 * 2**20
    pids = segmenter.pids
    segmenter.close()
    segmenter.close()
    assert not any(pid is not None and psutil.pid_exists(pid) for pid in pids)
    assert segmenter.memory_bytes() == 0
    assert ours() == left
