"""A model in two stages, the shallow one on the CPU, the deep one a file of the toolkit through rknn-toolkit-lite2:
two_stages/, made by make_two_stages.
"""

import os
import signal
from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np
import pytest

from agent.adapters.segmenter_onnx import OnnxSegmenter, OnnxStageFactory
from agent.adapters.segmenter_process import ChainLink, Interpreter, ProcessChain
from agent.adapters.segmenter_rknn import CoreMask, RknnStageFactory
from agent.core.frame import Pixels
from agent.core.rknn_header import parse_header, require_target
from agent.core.stages import StageSpec, chain
from agent.errors import Permanent, Retryable
from agent.ports import Segmentation
from schemas.codes import FailureCode
from schemas.target import Target
from tests.board.emulated import DEADLINE_S, PATH, python
from tests.board.emulated_npu import EmulatedNpu
from tests.board.make_two_stages import CROSSING, DEEP, FOLDER, MODEL, SHALLOW, SHAPE, SPECS, WHOLE
from tests.board.npu_control import BoardFault

pytestmark = pytest.mark.board


def opened(npu: EmulatedNpu, specs: Sequence[StageSpec] = SPECS, deadline_s: float = DEADLINE_S) -> ProcessChain:
    """The shallow stage has a Python of this machine, the deep one the board's."""
    npu.add(FOLDER)
    socket = npu.environment["RKFLEET_NPU_SOCKET"]
    board = Interpreter(("qemu-aarch64-static", "-E", f"RKFLEET_NPU_SOCKET={socket}", *python()[1:]), PATH)
    links = [
        ChainLink(OnnxStageFactory(specs[0]), specs[0]),
        ChainLink(RknnStageFactory(specs[1], Target.RK3588, CoreMask.CORE_2), specs[1], board),
    ]
    return ProcessChain(links, deadline_s=deadline_s, load_deadline_s=DEADLINE_S)


@pytest.fixture
def staged(npu: EmulatedNpu) -> Iterator[ProcessChain]:
    made = opened(npu)
    yield made
    made.close()


def pictures(count: int, seed: int) -> list[list[Pixels]]:
    rng = np.random.default_rng(seed)
    return [[rng.integers(0, 256, (*SHAPE, 3), np.uint8)] for _ in range(count)]


def assert_as_whole(made: Sequence[Segmentation], items: Sequence[list[Pixels]]) -> None:
    whole = OnnxSegmenter(replace(MODEL, path=str(WHOLE), batch=1))
    assert len(made) == len(items)
    for each, inputs in zip(made, items, strict=True):
        wanted = whole.segment(inputs)
        np.testing.assert_array_equal(each.class_map, wanted.class_map)
        assert len(np.unique(wanted.class_map)) == MODEL.classes
        assert np.abs(each.score.astype(int) - wanted.score).max() <= 1
    whole.close()


def test_the_deep_part_is_a_file_of_the_toolkit_for_this_chip() -> None:
    require_target(parse_header(DEEP.read_bytes()), Target.RK3588)


def test_cpu_and_npu_give_together_what_the_whole_model_gives(staged: ProcessChain) -> None:
    assert staged.runtime.name == "onnxruntime+rknnrt"
    assert staged.runtime.driver
    for seed, count in enumerate((MODEL.batch, 1, 2)):
        items = pictures(count, seed)
        assert_as_whole(staged.segment_all(items), items)


def test_a_crash_of_the_npu_s_library_costs_its_stage_alone(npu: EmulatedNpu, staged: ProcessChain) -> None:
    before = staged.pids
    npu.behave(BoardFault(stage="run", action="crash", first_call=1, calls=1))
    with pytest.raises(Retryable) as caught:
        staged.segment_all(pictures(MODEL.batch, 5))
    assert caught.value.code is FailureCode.NPU_CRASHED
    items = pictures(MODEL.batch, 6)
    assert_as_whole(staged.segment_all(items), items)
    assert staged.pids[0] == before[0]
    assert staged.pids[1] != before[1]


def test_the_shallow_stage_is_replaced_without_a_new_load_on_the_npu(staged: ProcessChain) -> None:
    shallow, deep = staged.pids
    assert shallow is not None
    os.kill(shallow, signal.SIGKILL)
    with pytest.raises(Retryable):
        staged.segment_all(pictures(2, 7))
    items = pictures(2, 8)
    assert_as_whole(staged.segment_all(items), items)
    assert staged.pids[1] == deep


def test_a_crossing_that_does_not_fit_the_npu_s_file_is_refused_at_load(npu: EmulatedNpu) -> None:
    small = replace(CROSSING, shapes=((1, 8, SHAPE[0] // 2, SHAPE[1] // 2),))
    wrong = chain(MODEL, [str(SHALLOW), str(DEEP)], [[small]])
    with pytest.raises(Permanent) as caught:
        opened(npu, [SPECS[0], wrong[1]])
    assert caught.value.code is FailureCode.MODEL_INVALID
