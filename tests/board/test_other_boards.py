"""Boards that are not the RK3588 with its runtime that the other tests have."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from agent.adapters.segmenter_rknn import CoreMask, RknnFactory
from agent.core.model import ModelSpec
from agent.errors import Permanent
from schemas.codes import FailureCode
from schemas.target import Target
from tests.board.container import probe
from tests.board.emulated import ROOT, Board, EmulatedSegmenter

pytestmark = pytest.mark.board


@pytest.fixture
def other(board: Board) -> Iterator[Board]:
    """The shared board, which is an RK3588 again afterwards."""
    yield board
    board.become("rk3588")


@pytest.fixture
def spec(tmp_path: Path) -> ModelSpec:
    return ModelSpec(str(tmp_path / "probe.rknn"), 1, ((16, 24),), 3, "logits")


@pytest.mark.parametrize("name_in_file", ["rk3566", "rk3568"])
def test_an_rk3568_runs_the_files_of_both_chips_with_its_npu(name_in_file: str, other: Board, spec: ModelSpec) -> None:
    other.become("rk3568")
    factory = RknnFactory(probe(spec, platforms=(name_in_file,)), Target.RK3568, CoreMask.CORE_0)
    segmenter = EmulatedSegmenter(other, factory)
    assert segmenter.runtime.name == "rknnrt"
    segmenter.close()


def test_a_target_that_is_not_the_boards_is_refused_by_the_runtime(other: Board, spec: ModelSpec) -> None:
    other.become("rk3576")
    with pytest.raises(Permanent) as caught:
        EmulatedSegmenter(other, RknnFactory(probe(spec), Target.RK3588))
    assert caught.value.code is FailureCode.MODEL_WRONG_TARGET
    assert "RKNN_ERR_TARGET_PLATFORM_UNMATCH" in caught.value.text


def test_a_board_without_the_runtime_library_is_told_where_to_get_it(other: Board, spec: ModelSpec) -> None:
    library = other.root / "usr/lib/librknnrt.so"
    library.unlink()
    try:
        with pytest.raises(Permanent) as caught:
            EmulatedSegmenter(other, RknnFactory(probe(spec), Target.RK3588))
    finally:
        library.symlink_to(ROOT / "usr/lib/librknnrt.so")
    assert caught.value.code is FailureCode.RUNTIME_MISSING
    assert "librknnrt.so" in caught.value.text
