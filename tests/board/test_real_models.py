"""The files that the toolkit made, through rknn-toolkit-lite2 itself, against their ONNX twins."""

from pathlib import Path
from typing import ClassVar

import numpy as np
import numpy.typing as npt
import pytest

from agent.adapters.segmenter_rknn import CORES, CoreMask, RknnFactory
from agent.core.frame import Pixels
from agent.core.health import Healthy, Unhealthy, agreement, self_test
from agent.core.model import ModelSpec
from agent.errors import Permanent, Retryable
from agent.ports import Segmenter
from schemas.codes import FailureCode
from schemas.target import Target
from tests.board import zoo
from tests.board.emulated import Board, EmulatedSegmenter
from tests.board.emulated_npu import EmulatedNpu
from tests.board.library import LibraryFactory
from tests.board.toolkit_file import write_bundle
from tests.contract import probe_model
from tests.contract.probe_model import ProbeContract
from tests.contract.segmenter_contract import BatchContract, Kind, SegmenterContract

pytestmark = pytest.mark.board

CHIPS = [target for target in Target if target in CORES]


def opened(board: Board, name: str, target: Target = Target.RK3588) -> EmulatedSegmenter:
    board.become(target.value)
    core_mask = CoreMask.CORE_0 if CORES[target] > 1 else CoreMask.AUTO
    return EmulatedSegmenter(board, RknnFactory(zoo.bundle(name, target).spec, target, core_mask))


def judged(board: Board, name: str) -> Healthy | Unhealthy:
    """What the self-test of an update says of the board's answers to the golden frames of the bundle."""
    manifest = zoo.bundle(name, Target.RK3588).manifest
    segmenter = opened(board, name)
    try:
        agreements = [
            agreement(segmenter.segment(frame.inputs).class_map, frame.class_map, len(manifest.classes))
            for frame in zoo.golden(name)
        ]
    finally:
        segmenter.close()
    return self_test(agreements, manifest.golden.least_agreement)


@pytest.mark.parametrize("target", CHIPS, ids=lambda target: target.value)
def test_each_chip_runs_its_file_of_the_newest_model(target: Target, npu: EmulatedNpu, npu_board: Board) -> None:
    segmenter = opened(npu_board, zoo.NEWEST, target)
    frame = zoo.golden(zoo.NEWEST)[0]
    made = segmenter.segment(frame.inputs)
    expected = zoo.expected(zoo.NEWEST, frame)
    segmenter.close()
    np.testing.assert_array_equal(made.class_map, expected.class_map)
    assert made.class_map.any(), "a picture without a fault shows nothing"
    assert np.abs(made.score.astype(int) - expected.score).max() <= 1


@pytest.mark.parametrize("name", zoo.NAMES)
def test_every_golden_frame_gets_the_class_map_of_the_twin_pixel_for_pixel(
    name: str, npu: EmulatedNpu, npu_board: Board
) -> None:
    segmenter = opened(npu_board, name)
    for frame in zoo.golden(name):
        made = segmenter.segment(frame.inputs)
        np.testing.assert_array_equal(made.class_map, zoo.expected(name, frame).class_map)
    segmenter.close()


@pytest.mark.parametrize("target", [Target.RK3576, Target.RK3566], ids=lambda target: target.value)
def test_a_file_of_another_chip_is_refused(target: Target, npu: EmulatedNpu, npu_board: Board) -> None:
    npu_board.become(target.value)
    with pytest.raises(Permanent) as caught:
        EmulatedSegmenter(npu_board, RknnFactory(zoo.bundle(zoo.NEWEST, Target.RK3588).spec, Target.RK3588))
    assert caught.value.code is FailureCode.MODEL_WRONG_TARGET
    assert "RKNN_ERR_TARGET_PLATFORM_UNMATCH" in caught.value.text


def test_a_model_without_a_twin_is_refused_with_the_reason(npu: EmulatedNpu, npu_board: Board, tmp_path: Path) -> None:
    npu_board.become("rk3588")
    spec = write_bundle(tmp_path, Kind())
    with pytest.raises(Permanent) as caught:
        EmulatedSegmenter(npu_board, RknnFactory(spec, Target.RK3588))
    assert caught.value.code is FailureCode.MODEL_INVALID
    assert "no bundle has a file with SHA-256" in caught.value.text


@pytest.mark.parametrize("name", zoo.NAMES)
def test_right_numbers_pass_the_golden_frames(name: str, npu: EmulatedNpu, npu_board: Board) -> None:
    assert isinstance(judged(npu_board, name), Healthy)


@pytest.mark.parametrize("numbers", ["zeros", "rolled", "shifted", "stale"])
def test_silently_wrong_numbers_are_caught_by_the_golden_frames(
    numbers: str, npu: EmulatedNpu, npu_board: Board
) -> None:
    npu.behave(numbers=numbers)
    verdict = judged(npu_board, zoo.NEWEST)
    assert isinstance(verdict, Unhealthy)
    assert verdict.code is FailureCode.SELF_TEST_FAILED


def test_numbers_that_are_none_are_a_fault_and_not_a_good_part(npu: EmulatedNpu, npu_board: Board) -> None:
    segmenter = opened(npu_board, zoo.NEWEST)
    npu.behave(numbers="nan")
    with pytest.raises(Retryable) as caught:
        segmenter.segment(zoo.golden(zoo.NEWEST)[0].inputs)
    segmenter.close()
    assert caught.value.code is FailureCode.NPU_FAULT


def test_the_library_gives_a_batch_the_answers_of_its_pictures(
    npu: EmulatedNpu, npu_board: Board, tmp_path: Path
) -> None:
    npu_board.become("rk3588")
    spec = write_bundle(tmp_path, Kind(shapes=((48, 64),), batch=4))
    npu.add(tmp_path)
    library = EmulatedSegmenter(npu_board, LibraryFactory(spec.path))
    pictures = [probe_model.random_inputs(spec, (48, 64), seed)[0] for seed in range(4)]
    (output,) = npu_board.ask("segment", library.number, [np.stack(pictures)])
    library.close()
    assert output.shape == (4, spec.classes, 48, 64)
    for picture, logits in zip(pictures, output, strict=True):
        np.testing.assert_array_equal(logits.argmax(axis=0), probe_model.answer([picture], spec.classes)[0])


class OnTheBoard:
    """The hook that both suites share."""

    board: ClassVar[Board]
    npu: ClassVar[EmulatedNpu]

    @pytest.fixture(autouse=True, scope="class")
    @classmethod
    def _on_the_board(cls, npu_process: EmulatedNpu, npu_board: Board) -> None:
        npu_process.behave()
        npu_board.become("rk3588")
        cls.npu, cls.board = npu_process, npu_board

    @classmethod
    def segmenter(cls, spec: ModelSpec) -> Segmenter:
        return EmulatedSegmenter(cls.board, RknnFactory(spec, Target.RK3588, CoreMask.CORE_1))


class TestModelsOfEveryKind(OnTheBoard, ProbeContract, BatchContract):
    """Files that describe themselves as the toolkit's do, with shapes, inputs and outputs that the zoo has not."""

    @classmethod
    def model(cls, kind: Kind, folder: Path) -> ModelSpec:
        spec = write_bundle(folder, kind)
        cls.npu.add(folder)
        return spec


class TestZooModel(OnTheBoard, SegmenterContract):
    """A file of the toolkit. There is one kind of it, which stands for every kind that the suite asks for."""

    @classmethod
    def model(cls, kind: Kind, folder: Path) -> ModelSpec:
        return zoo.bundle(zoo.NEWEST, Target.RK3588).spec

    @pytest.mark.parametrize("kind", [pytest.param(Kind(), id="the zoo's")])
    def test_every_kind_of_model_is_answered_rightly(self, kind: Kind, tmp_path: Path) -> None:
        super().test_every_kind_of_model_is_answered_rightly(kind, tmp_path)

    def inputs(self, spec: ModelSpec, shape: tuple[int, int], seed: int) -> list[Pixels]:
        frames = zoo.golden(zoo.NEWEST)
        picture = frames[seed % len(frames)].inputs[0]
        return [np.ascontiguousarray(np.roll(picture, seed, axis=(0, 1)))]

    def answer(self, spec: ModelSpec, inputs: list[Pixels]) -> tuple[Pixels, npt.NDArray[np.float64]]:
        made = zoo.twin(zoo.NEWEST).segment([np.ascontiguousarray(picture) for picture in inputs])
        return made.class_map.copy(), made.score.astype(np.float64)
