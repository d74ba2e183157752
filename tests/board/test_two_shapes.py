"""One file of the toolkit for two input shapes, through rknn-toolkit-lite2: two_shapes/, made by make_two_shapes."""

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest

from agent.adapters.segmenter_rknn import CoreMask, RknnFactory
from agent.core.frame import Frame, Layout, Picture, Pixels
from agent.core.model import ModelSpec
from agent.core.rknn_header import parse_header, require_target
from agent.errors import Permanent
from agent.loops.inspect import Loaded, StopWatch, look
from schemas.codes import FailureCode
from schemas.target import Target
from tests.board.emulated import Board, EmulatedSegmenter
from tests.board.emulated_npu import EmulatedNpu
from tests.board.make_two_shapes import CLASSES, FOLDER, SHAPES
from tests.contract import probe_model
from tests.unit.a_bundle import a_bundle
from tests.unit.lane_bench import MODEL, NOW, OLD
from tests.unit.test_lane_shapes import AdaptiveBench

pytestmark = pytest.mark.board

PATH = FOLDER / "model-rk3588.rknn"
SPEC = ModelSpec(str(PATH), 1, SHAPES, CLASSES, "logits")


@pytest.fixture
def segmenter(npu: EmulatedNpu, npu_board: Board) -> Iterator[EmulatedSegmenter]:
    npu_board.become("rk3588")
    npu.add(FOLDER)
    made = EmulatedSegmenter(npu_board, RknnFactory(SPEC, Target.RK3588, CoreMask.CORE_0))
    yield made
    made.close()


def test_a_file_of_two_shapes_says_which_chip_it_is_for() -> None:
    require_target(parse_header(PATH.read_bytes()), Target.RK3588)
    with pytest.raises(Permanent):
        require_target(parse_header(PATH.read_bytes()), Target.RK3566)


def test_both_shapes_are_answered_in_any_order(segmenter: EmulatedSegmenter) -> None:
    assert tuple(segmenter.shapes) == SHAPES
    for seed, shape in enumerate((SHAPES[1], SHAPES[0], SHAPES[0], SHAPES[1])):
        inputs = probe_model.random_inputs(SPEC, shape, seed)
        made = segmenter.segment(inputs)
        class_map, score = probe_model.answer(inputs, CLASSES)
        np.testing.assert_array_equal(made.class_map, class_map)
        assert np.abs(made.score - score).max() <= 1.5


def test_a_shape_that_the_file_has_not_is_refused(segmenter: EmulatedSegmenter) -> None:
    with pytest.raises(Permanent) as caught:
        segmenter.segment([np.zeros((320, 320, 3), np.uint8)])
    assert caught.value.code is FailureCode.SHAPE_MISMATCH


def test_a_manifest_that_names_a_shape_too_many_is_refused_at_load(npu: EmulatedNpu, npu_board: Board) -> None:
    npu_board.become("rk3588")
    npu.add(FOLDER)
    with pytest.raises(Permanent):
        EmulatedSegmenter(npu_board, RknnFactory(replace(SPEC, shapes=(*SHAPES, (96, 96))), Target.RK3588))


def test_a_scene_chooses_the_shape_that_the_npu_runs(segmenter: EmulatedSegmenter) -> None:
    bench = AdaptiveBench(shapes=SHAPES)
    loaded = Loaded(segmenter, OLD, MODEL, a_bundle(), {})
    used = []
    for seq in range(4):
        frame = Frame(Picture(_spot(), Layout.RGB), "top", seq, NOW, 0.0, 1.0)
        seen = look(frame, loaded, bench.plan, StopWatch(lambda: 0.0, {}))
        used.append(seen.class_map.shape)
        (spot,) = seen.found.regions
        assert spot.bbox == (128, 256, 64, 64)
    assert used == [SHAPES[0]] * 2 + [SHAPES[1]] * 2


def _spot() -> Pixels:
    """A spot of class 1 on the background, in a picture of 896x896."""
    pixels = np.zeros((896, 896, 3), np.uint8)
    pixels[256:320, 128:192] = round(255 / (CLASSES - 1))
    return pixels
