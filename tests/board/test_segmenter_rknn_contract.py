"""The contract of every segmenter, run on rknn-toolkit-lite2 itself."""

from pathlib import Path
from typing import ClassVar

import pytest

from agent.adapters.segmenter_rknn import CoreMask, RknnFactory
from agent.core.model import ModelSpec
from agent.ports import Segmenter
from schemas.target import Target
from tests.board.container import probe
from tests.board.emulated import Board, EmulatedSegmenter
from tests.contract.probe_model import ProbeContract
from tests.contract.segmenter_contract import Kind

pytestmark = pytest.mark.board


class TestRknnSegmenter(ProbeContract):
    board: ClassVar[Board]

    @pytest.fixture(autouse=True, scope="class")
    @classmethod
    def _on_the_board(cls, board: Board) -> None:
        cls.board = board

    @classmethod
    def model(cls, kind: Kind, folder: Path) -> ModelSpec:
        return probe(kind.spec(folder / "probe.rknn"))

    @classmethod
    def segmenter(cls, spec: ModelSpec) -> Segmenter:
        return EmulatedSegmenter(cls.board, RknnFactory(spec, Target.RK3588, CoreMask.CORE_1))
