"""Several pictures in one call, through rknn-toolkit-lite2: the toolkit's own file batch_of_4/, and its faults."""

from collections.abc import Iterator, Sequence
from dataclasses import replace

import pytest

from agent.adapters.segmenter_process import Interpreter, ProcessSegmenter
from agent.adapters.segmenter_rknn import CoreMask, RknnFactory
from agent.core.batch import Batcher, Room
from agent.core.frame import Pixels
from agent.core.rknn_header import parse_header, require_target
from agent.errors import Permanent, Retryable
from agent.ports import Segmentation
from schemas.codes import FailureCode
from schemas.target import Target
from tests.board.emulated import PATH, Board, EmulatedSegmenter, python
from tests.board.emulated_npu import EmulatedNpu
from tests.board.make_batch_of_4 import BATCH, FOLDER, MODEL, SHAPE, SPEC
from tests.board.npu_control import BoardFault
from tests.contract import probe_model

pytestmark = pytest.mark.board

FACTORY = RknnFactory(SPEC, Target.RK3588, CoreMask.CORE_0)


@pytest.fixture
def segmenter(npu: EmulatedNpu, npu_board: Board) -> Iterator[EmulatedSegmenter]:
    npu_board.become("rk3588")
    npu.add(FOLDER)
    made = EmulatedSegmenter(npu_board, FACTORY)
    yield made
    made.close()


def pictures(count: int, seed: int = 0) -> list[list[Pixels]]:
    return [probe_model.random_inputs(SPEC, SHAPE, 100 * seed + item) for item in range(count)]


def assert_right(made: Sequence[Segmentation], items: Sequence[list[Pixels]]) -> None:
    assert len(made) == len(items)
    for each, inputs in zip(made, items, strict=True):
        class_map, score = probe_model.answer(inputs, SPEC.classes)
        assert (each.class_map == class_map).all()
        assert abs(each.score - score).max() <= 1.5


def test_the_file_is_one_of_the_toolkit_for_this_chip() -> None:
    require_target(parse_header(MODEL.read_bytes()), Target.RK3588)


@pytest.mark.parametrize("count", range(1, BATCH + 1))
def test_as_many_pictures_as_came_are_answered_each_with_its_own(count: int, segmenter: EmulatedSegmenter) -> None:
    assert segmenter.batch == BATCH
    for seed in range(2):
        items = pictures(count, seed)
        assert_right(segmenter.segment_all(items), items)


@pytest.mark.parametrize("said", [1, 2, 8])
def test_a_manifest_with_another_batch_is_refused_at_load(said: int, npu: EmulatedNpu, npu_board: Board) -> None:
    npu_board.become("rk3588")
    npu.add(FOLDER)
    with pytest.raises(Permanent) as caught:
        EmulatedSegmenter(npu_board, RknnFactory(replace(SPEC, batch=said), Target.RK3588))
    assert caught.value.code is FailureCode.MODEL_INVALID


def test_a_call_that_runs_out_of_memory_is_made_again_with_fewer(
    npu: EmulatedNpu, segmenter: EmulatedSegmenter
) -> None:
    npu.behave(BoardFault(stage="run", action="fail", code=-4, calls=1))
    items = pictures(BATCH, seed=5)
    sizes: list[int] = []

    def segment_all(chunk: Sequence[list[Pixels]]) -> Sequence[Segmentation]:
        sizes.append(len(chunk))
        return segmenter.segment_all(chunk)

    for item, made in Batcher(segmenter.batch, lambda: 0.0).run(items, segment_all, Room()):
        assert_right([made], [item])
    assert sizes == [BATCH, BATCH // 2, BATCH // 2]


def test_a_batch_in_a_child_costs_one_run_of_the_npu_and_fails_as_a_whole(npu: EmulatedNpu) -> None:
    npu.add(FOLDER)
    interpreter = Interpreter(
        ("qemu-aarch64-static", "-E", f"RKFLEET_NPU_SOCKET={npu.environment['RKFLEET_NPU_SOCKET']}", *python()[1:]),
        PATH,
    )
    child = ProcessSegmenter(FACTORY, SPEC, deadline_s=60, load_deadline_s=120, interpreter=interpreter)
    try:
        items = pictures(BATCH, seed=6)
        assert_right(child.segment_all(items), items)
        npu.behave(BoardFault(stage="run", action="crash", calls=1))
        with pytest.raises(Retryable) as caught:
            child.segment_all(items)
        assert caught.value.code is FailureCode.NPU_CRASHED
        assert_right(child.segment_all(items[:3]), items[:3])
    finally:
        child.close()
