"""Each way in which the library fails becomes a typed error with the library's own words."""

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from agent.adapters.segmenter_rknn import CoreMask, RknnFactory
from agent.core.model import ModelSpec
from agent.errors import AgentError, Permanent, Retryable
from schemas.codes import FailureCode
from schemas.target import Target
from tests.board.container import DRIVER_VERSION, RUNTIME_VERSION, Fault, probe
from tests.board.emulated import Board, EmulatedSegmenter
from tests.board.npu_control import Stage
from tests.contract import probe_model

pytestmark = pytest.mark.board

SHAPE = (16, 24)
AFTER_LOAD = 1
"""Calls that loading makes itself: one a shape."""


def model(folder: Path, **changes: Any) -> ModelSpec:
    return probe(ModelSpec(str(folder / "probe.rknn"), 1, (SHAPE,), 3, "logits"), **changes)


def opened(board: Board, spec: ModelSpec, core_mask: CoreMask = CoreMask.AUTO) -> EmulatedSegmenter:
    return EmulatedSegmenter(board, RknnFactory(spec, Target.RK3588, core_mask))


@pytest.mark.parametrize(
    ("fault", "kind", "code"),
    [
        pytest.param(Fault(Stage.INIT, -1), Retryable, FailureCode.NPU_FAULT, id="init: fail"),
        pytest.param(Fault(Stage.INIT, -2), Retryable, FailureCode.NPU_TIMEOUT, id="init: timeout"),
        pytest.param(Fault(Stage.INIT, -3), Retryable, FailureCode.NPU_FAULT, id="init: device unavailable"),
        pytest.param(Fault(Stage.INIT, -4), Retryable, FailureCode.NPU_OUT_OF_MEMORY, id="init: out of memory"),
        pytest.param(Fault(Stage.INIT, -6), Permanent, FailureCode.MODEL_INVALID, id="init: model invalid"),
        pytest.param(Fault(Stage.INIT, -10), Permanent, FailureCode.RUNTIME_TOO_OLD, id="init: device unmatch"),
        pytest.param(Fault(Stage.INIT, -11), Permanent, FailureCode.RUNTIME_TOO_OLD, id="init: old pre-compilation"),
        pytest.param(Fault(Stage.INIT, -12), Permanent, FailureCode.RUNTIME_TOO_OLD, id="init: old optimisation"),
        pytest.param(Fault(Stage.INIT, -13), Permanent, FailureCode.MODEL_WRONG_TARGET, id="init: platform unmatch"),
        pytest.param(Fault(Stage.CORE_MASK, -1), Retryable, FailureCode.NPU_FAULT, id="core mask: fail"),
        pytest.param(Fault(Stage.RUN, -2), Retryable, FailureCode.NPU_TIMEOUT, id="first run: timeout"),
        pytest.param(Fault(Stage.RUN, -4), Retryable, FailureCode.NPU_OUT_OF_MEMORY, id="first run: out of memory"),
        pytest.param(Fault(Stage.INPUTS, -8), Permanent, FailureCode.MODEL_INVALID, id="first inputs: refused"),
        pytest.param(Fault(Stage.INPUTS, -1), Retryable, FailureCode.NPU_FAULT, id="first inputs: fail"),
        pytest.param(Fault(Stage.OUTPUTS, -1), Retryable, FailureCode.NPU_FAULT, id="first outputs: none"),
    ],
)
def test_a_failure_at_load_has_its_code_and_the_runtimes_words(
    fault: Fault, kind: type[AgentError], code: FailureCode, board: Board, tmp_path: Path
) -> None:
    words = f"the runtime said {fault.stage.name} {-fault.action}"
    spec = model(tmp_path, fault=Fault(fault.stage, fault.action, words))
    with pytest.raises(kind) as caught:
        opened(board, spec, CoreMask.CORE_0)
    assert caught.value.code is code
    assert f"E RKNN: {words}" in caught.value.text  # printed by C
    assert "E Catch exception" in caught.value.text  # logged by Python
    assert "Traceback" not in caught.value.text
    assert spec.path in caught.value.text


def test_an_old_runtime_says_that_the_model_is_too_new_for_it(board: Board, tmp_path: Path) -> None:
    fault = Fault(Stage.INIT, -1, "Invalid RKNN model version 6")
    with pytest.raises(Permanent) as caught:
        opened(board, model(tmp_path, runtime_version="1.4.0", fault=fault))
    assert caught.value.code is FailureCode.RUNTIME_TOO_OLD
    assert "toolkit 2.5.0" in caught.value.text


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        pytest.param({"format_version": 7}, FailureCode.MODEL_TOO_NEW, id="format 7"),
        pytest.param({"platforms": ("rk3576",)}, FailureCode.MODEL_WRONG_TARGET, id="for another chip"),
    ],
)
def test_a_header_that_does_not_fit_is_refused_before_the_library_sees_the_file(
    changes: dict[str, Any], code: FailureCode, board: Board, tmp_path: Path
) -> None:
    with pytest.raises(Permanent) as caught:
        opened(board, model(tmp_path, **changes))
    assert caught.value.code is code
    assert "E " not in caught.value.text


@pytest.mark.parametrize(
    ("stage", "action", "code"),
    [
        pytest.param(Stage.RUN, -1, FailureCode.NPU_FAULT, id="run: fail"),
        pytest.param(Stage.RUN, -2, FailureCode.NPU_TIMEOUT, id="run: timeout"),
        pytest.param(Stage.INPUTS, -4, FailureCode.NPU_OUT_OF_MEMORY, id="inputs: out of memory"),
        pytest.param(Stage.OUTPUTS, -1, FailureCode.NPU_FAULT, id="no outputs"),
    ],
)
def test_a_failed_call_is_retryable_and_the_next_is_answered_rightly(
    stage: Stage, action: int, code: FailureCode, board: Board, tmp_path: Path
) -> None:
    spec = model(tmp_path, fault=Fault(stage, action, "failed to submit!", first_call=AFTER_LOAD, calls=1))
    segmenter = opened(board, spec)
    inputs = probe_model.random_inputs(spec, SHAPE, seed=1)
    with pytest.raises(Retryable) as caught:
        segmenter.segment(inputs)
    assert caught.value.code is code
    assert "E RKNN: failed to submit!" in caught.value.text
    np.testing.assert_array_equal(segmenter.segment(inputs).class_map, probe_model.answer(inputs, 3)[0])
    segmenter.close()


def test_a_picture_that_was_not_computed_never_gets_an_answer_though_no_code_tells(
    board: Board, tmp_path: Path
) -> None:
    fault = Fault(Stage.RUN, 0, "failed to submit!, op id: 1, op name: Conv:output", first_call=AFTER_LOAD, calls=1)
    spec = model(tmp_path, fault=fault)
    segmenter = opened(board, spec)
    inputs = probe_model.random_inputs(spec, SHAPE, seed=4)
    with pytest.raises(Retryable) as caught:
        segmenter.segment(inputs)
    assert caught.value.code is FailureCode.NPU_FAULT
    np.testing.assert_array_equal(segmenter.segment(inputs).class_map, probe_model.answer(inputs, 3)[0])
    segmenter.close()


def test_a_later_error_does_not_repeat_the_words_of_an_earlier_one(board: Board, tmp_path: Path) -> None:
    first = model(tmp_path, fault=Fault(Stage.INIT, -2, "the first words"))
    with pytest.raises(Retryable):
        opened(board, first)
    with pytest.raises(Permanent) as caught:
        opened(board, model(tmp_path, fault=Fault(Stage.INIT, -6, "the second words")))
    assert "the second words" in caught.value.text
    assert "the first words" not in caught.value.text


def test_a_model_that_gives_nan_is_a_fault_and_not_a_good_part(board: Board, tmp_path: Path) -> None:
    with pytest.raises(Retryable) as caught:
        opened(board, model(tmp_path, bias=np.full(3, np.nan, np.float32)))
    assert caught.value.code is FailureCode.NPU_FAULT


def test_a_class_that_the_model_has_not_is_refused(board: Board, tmp_path: Path) -> None:
    bias = np.array([0, 0, 0, 1e9], np.float32)  # the fourth class of a model of three wins everywhere
    spec = model(tmp_path, class_map=True, weight=np.zeros((4, 3), np.float32), bias=bias)
    with pytest.raises(Permanent) as caught:
        opened(board, ModelSpec(spec.path, 1, (SHAPE,), 3, "classMap"))
    assert caught.value.code is FailureCode.MODEL_INVALID


def test_versions_come_from_the_runtime(board: Board, tmp_path: Path) -> None:
    segmenter = opened(board, model(tmp_path))
    assert segmenter.runtime.name == "rknnrt"
    assert segmenter.runtime.version == RUNTIME_VERSION
    assert segmenter.runtime.driver == DRIVER_VERSION
    segmenter.close()


@pytest.mark.parametrize(
    ("core_mask", "said"),
    [
        pytest.param(CoreMask.AUTO, [], id="auto: left to the runtime"),
        (CoreMask.CORE_0, ["core mask 1"]),
        (CoreMask.CORE_1, ["core mask 2"]),
        (CoreMask.CORE_2, ["core mask 4"]),
        (CoreMask.CORE_0_1, ["core mask 3"]),
        (CoreMask.CORE_0_1_2, ["core mask 7"]),
        pytest.param(CoreMask.ALL, ["core mask 7"], id="all: the three of an RK3588"),
    ],
)
def test_the_core_mask_reaches_the_runtime(core_mask: CoreMask, said: list[str], board: Board, tmp_path: Path) -> None:
    before = board.log.stat().st_size
    opened(board, model(tmp_path), core_mask).close()
    assert re.findall(r"core mask \d+", board.log.read_text()[before:]) == said


def test_what_the_library_leaves_for_the_collector_does_not_pile_up(board: Board, tmp_path: Path) -> None:
    segmenter = opened(board, spec := model(tmp_path))
    inputs = probe_model.random_inputs(spec, SHAPE, seed=2)
    few, many = segmenter.garbage(inputs, calls=8), segmenter.garbage(inputs, calls=8 + 160)
    assert few > 8, "the library makes no cycles any more: the collection can go"
    assert many < few + 16 * few / 8
    segmenter.close()
