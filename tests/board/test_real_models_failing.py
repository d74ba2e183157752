"""A board that is told to fail with a zoo model: each failure is a typed error, and what comes after it is right."""

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import pytest

from agent.adapters.segmenter_process import Interpreter, ProcessSegmenter
from agent.adapters.segmenter_rknn import CoreMask, RknnFactory
from agent.errors import AgentError, Permanent, Retryable
from agent.ports import Segmenter
from schemas.codes import FailureCode
from schemas.target import Target
from tests.board import zoo
from tests.board.emulated import DEADLINE_S, PATH, Board, EmulatedSegmenter, python
from tests.board.emulated_npu import EmulatedNpu
from tests.board.npu_control import BoardFault

pytestmark = pytest.mark.board

LEAK_BYTES = 32 * 2**20
SLOW_MS = 1_500.0


@pytest.fixture(autouse=True)
def _rk3588(npu_board: Board) -> None:
    npu_board.become("rk3588")


def factory(core_mask: CoreMask = CoreMask.CORE_0) -> RknnFactory:
    return RknnFactory(zoo.bundle(zoo.NEWEST, Target.RK3588).spec, Target.RK3588, core_mask)


def assert_right(segmenter: Segmenter, frame_number: int = 0) -> None:
    frame = zoo.golden(zoo.NEWEST)[frame_number]
    made = segmenter.segment(frame.inputs).class_map
    np.testing.assert_array_equal(made, zoo.expected(zoo.NEWEST, frame).class_map)


@pytest.mark.parametrize(
    ("fault", "kind", "code"),
    [
        pytest.param({"stage": "init", "code": -1}, Retryable, FailureCode.NPU_FAULT, id="init: fail"),
        pytest.param({"stage": "init", "code": -3}, Retryable, FailureCode.NPU_FAULT, id="init: no device"),
        pytest.param({"stage": "init", "code": -4}, Retryable, FailureCode.NPU_OUT_OF_MEMORY, id="init: no memory"),
        pytest.param({"stage": "init", "code": -6}, Permanent, FailureCode.MODEL_INVALID, id="init: model invalid"),
        pytest.param({"stage": "coreMask", "code": -1}, Retryable, FailureCode.NPU_FAULT, id="core mask: fail"),
        pytest.param({"stage": "run", "code": -2}, Retryable, FailureCode.NPU_TIMEOUT, id="first run: timeout"),
    ],
)
def test_a_failure_at_load_has_its_code_and_the_runtimes_words(
    fault: dict[str, object], kind: type[AgentError], code: FailureCode, npu: EmulatedNpu, npu_board: Board
) -> None:
    npu.behave(BoardFault.model_validate({**fault, "action": "fail", "text": "the NPU said so"}))
    with pytest.raises(kind) as caught:
        EmulatedSegmenter(npu_board, factory())
    assert caught.value.code is code
    assert "E RKNN: the NPU said so" in caught.value.text
    npu.behave()
    segmenter = EmulatedSegmenter(npu_board, factory())
    assert_right(segmenter)
    segmenter.close()


def test_an_old_runtime_refuses_a_newer_file(npu: EmulatedNpu, npu_board: Board) -> None:
    npu.behave(runtime_version="1.6.0", newest_format=5)
    with pytest.raises(Permanent) as caught:
        EmulatedSegmenter(npu_board, factory())
    assert caught.value.code is FailureCode.RUNTIME_TOO_OLD
    assert "Invalid RKNN model version 6" in caught.value.text


def test_versions_are_those_of_the_board(npu: EmulatedNpu, npu_board: Board) -> None:
    npu.behave(runtime_version="2.3.2 (of a test)", driver_version="0.9.6")
    segmenter = EmulatedSegmenter(npu_board, factory())
    segmenter.close()
    assert segmenter.runtime.version == "2.3.2 (of a test)"
    assert segmenter.runtime.driver == "0.9.6"


@pytest.mark.parametrize(
    ("fault", "code"),
    [
        pytest.param(BoardFault(stage="run", action="fail", code=-2), FailureCode.NPU_TIMEOUT, id="timeout"),
        pytest.param(BoardFault(stage="run", action="fail", code=-1), FailureCode.NPU_FAULT, id="run fails"),
        pytest.param(BoardFault(stage="outputs", action="fail", code=-1), FailureCode.NPU_FAULT, id="no output"),
        pytest.param(
            BoardFault(stage="inputs", action="fail", code=-4), FailureCode.NPU_OUT_OF_MEMORY, id="no memory for inputs"
        ),
        pytest.param(
            BoardFault(stage="run", action="say", text="failed to submit!"), FailureCode.NPU_FAULT, id="lost, code 0"
        ),
    ],
)
def test_a_failed_call_is_retryable_and_the_next_picture_gets_its_own_answer(
    fault: BoardFault, code: FailureCode, npu: EmulatedNpu, npu_board: Board
) -> None:
    segmenter = EmulatedSegmenter(npu_board, factory())
    assert_right(segmenter, 0)
    npu.behave(fault.model_copy(update={"calls": 1}))
    with pytest.raises(Retryable) as caught:
        segmenter.segment(zoo.golden(zoo.NEWEST)[1].inputs)
    assert caught.value.code is code
    assert_right(segmenter, 1)
    segmenter.close()


def test_a_board_can_fail_in_closing_too(npu: EmulatedNpu, npu_board: Board) -> None:
    segmenter = EmulatedSegmenter(npu_board, factory())
    npu.behave(BoardFault(stage="destroy", action="say", text="the driver holds the memory"))
    segmenter.close()
    assert "E RKNN: the driver holds the memory" in npu_board.log.read_text()


def test_a_fault_of_one_core_leaves_the_others_alone(npu: EmulatedNpu, npu_board: Board) -> None:
    npu.behave(BoardFault(stage="run", action="fail", code=-2, core=1))
    with pytest.raises(Retryable) as caught:
        EmulatedSegmenter(npu_board, factory(CoreMask.CORE_1))
    assert caught.value.code is FailureCode.NPU_TIMEOUT
    healthy = EmulatedSegmenter(npu_board, factory(CoreMask.CORE_2))
    assert_right(healthy)
    healthy.close()


def test_a_slow_core_is_slow_and_the_others_are_not(npu: EmulatedNpu, npu_board: Board) -> None:
    slow, quick = (EmulatedSegmenter(npu_board, factory(mask)) for mask in (CoreMask.CORE_2, CoreMask.CORE_0))
    npu.behave(busy_ms=(0.0, 0.0, SLOW_MS))
    inputs = zoo.golden(zoo.NEWEST)[0].inputs
    assert slow.segment(inputs).inference_ms >= SLOW_MS
    assert min(quick.segment(inputs).inference_ms for _ in range(3)) < SLOW_MS
    slow.close()
    quick.close()


@contextmanager
def child(
    npu: EmulatedNpu, monkeypatch: pytest.MonkeyPatch, deadline_s: float = DEADLINE_S
) -> Iterator[ProcessSegmenter]:
    for name, value in npu.environment.items():
        monkeypatch.setenv(name, value)
    made = factory()
    segmenter = ProcessSegmenter(
        made, made.spec, deadline_s=deadline_s, load_deadline_s=DEADLINE_S, interpreter=Interpreter(python(), PATH)
    )
    try:
        yield segmenter
    finally:
        segmenter.close()


@pytest.mark.parametrize(
    ("action", "code", "deadline_s"),
    [
        pytest.param("crash", FailureCode.NPU_CRASHED, DEADLINE_S, id="segmentation fault"),
        pytest.param("hang", FailureCode.NPU_HUNG, 6.0, id="hang"),
    ],
)
def test_a_lost_child_is_replaced_and_its_core_is_free_again(
    action: str, code: FailureCode, deadline_s: float, npu: EmulatedNpu, monkeypatch: pytest.MonkeyPatch
) -> None:
    with child(npu, monkeypatch, deadline_s) as segmenter:
        npu.behave(BoardFault.model_validate({"stage": "run", "action": action, "text": "last words", "calls": 1}))
        with pytest.raises(Retryable) as caught:
            segmenter.segment(zoo.golden(zoo.NEWEST)[0].inputs)
        assert caught.value.code is code
        assert "E RKNN: last words" in caught.value.text
        assert_right(segmenter)
        assert segmenter.restarts == 1


def test_a_leak_is_seen_in_the_childs_memory_and_ends_with_it(
    npu: EmulatedNpu, monkeypatch: pytest.MonkeyPatch
) -> None:
    with child(npu, monkeypatch) as segmenter:
        assert_right(segmenter)
        before_bytes = segmenter.memory_bytes()
        npu.behave(BoardFault(stage="run", action="leak", leak_bytes=LEAK_BYTES))
        for number in range(3):
            assert_right(segmenter, number)
        assert segmenter.memory_bytes() - before_bytes > 2.5 * LEAK_BYTES
    assert segmenter.memory_bytes() == 0
