"""The library in a child of its own, as a board runs it: what it does there does not reach the agent."""

from pathlib import Path

import numpy as np
import pytest

from agent.adapters.segmenter_process import Interpreter, ProcessSegmenter
from agent.adapters.segmenter_rknn import RknnFactory
from agent.core.model import ModelSpec
from agent.errors import Retryable
from schemas.codes import FailureCode
from schemas.target import Target
from tests.board.container import CRASH, HANG, Fault, probe
from tests.board.emulated import DEADLINE_S, PATH, missing, python
from tests.board.npu_control import Stage
from tests.contract import probe_model

pytestmark = pytest.mark.board

SHAPE = (16, 24)
SECOND_CALL = 2
"""Loading makes the first run itself."""


@pytest.mark.parametrize(
    ("action", "words", "code", "deadline_s"),
    [
        pytest.param(CRASH, "", FailureCode.NPU_CRASHED, DEADLINE_S, id="crash"),
        pytest.param(HANG, "E RKNN: waiting for the NPU", FailureCode.NPU_HUNG, 5.0, id="hang"),
    ],
)
def test_a_runtime_that_fails_in_mid_inference_is_a_retryable_error(
    action: int, words: str, code: FailureCode, deadline_s: float, tmp_path: Path
) -> None:
    if reason := missing():
        pytest.skip(reason)
    fault = Fault(Stage.RUN, action, words.removeprefix("E RKNN: "), first_call=SECOND_CALL)
    spec = probe(ModelSpec(str(tmp_path / "probe.rknn"), 1, (SHAPE,), 3, "logits"), fault=fault)
    segmenter = ProcessSegmenter(
        RknnFactory(spec, Target.RK3588),
        spec,
        deadline_s=deadline_s,
        load_deadline_s=DEADLINE_S,
        interpreter=Interpreter(python(), PATH),
    )
    inputs = probe_model.random_inputs(spec, SHAPE, seed=3)
    np.testing.assert_array_equal(segmenter.segment(inputs).class_map, probe_model.answer(inputs, 3)[0])
    with pytest.raises(Retryable) as caught:
        segmenter.segment(inputs)
    assert caught.value.code is code
    assert words in caught.value.text
    segmenter.close()
