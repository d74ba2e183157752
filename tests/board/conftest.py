from collections.abc import Iterator

import pytest

from tests.board.agent_on_board import CpuTwin
from tests.board.emulated import Board, missing, own_root
from tests.board.emulated_npu import EmulatedNpu, started


@pytest.fixture(scope="session")
def board(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Board]:
    """An RK3588. All tests share its process: starting one takes seconds."""
    if reason := missing():
        pytest.skip(reason)
    made = Board(tmp_path_factory.mktemp("board"), own_root(tmp_path_factory.mktemp("root")))
    made.become("rk3588")
    yield made
    made.kill()


@pytest.fixture(scope="session")
def npu_process() -> Iterator[EmulatedNpu]:
    if reason := missing():
        pytest.skip(reason)
    with started() as npu:
        yield npu


@pytest.fixture
def npu(npu_process: EmulatedNpu) -> EmulatedNpu:
    """The helper process that stands for the NPU, healthy at the start of each test."""
    npu_process.behave()
    return npu_process


@pytest.fixture(scope="session")
def npu_board(npu_process: EmulatedNpu, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Board]:
    """An RK3588 with that NPU: it runs the models of the toolkit."""
    made = Board(tmp_path_factory.mktemp("board"), own_root(tmp_path_factory.mktemp("root")), npu_process.environment)
    made.become("rk3588")
    yield made
    made.kill()


@pytest.fixture(scope="session")
def twin(tmp_path_factory: pytest.TempPathFactory) -> CpuTwin:
    """What the zoo's models find on the CPU in the pictures of every whole agent here."""
    if reason := missing():
        pytest.skip(reason)
    return CpuTwin.observed(tmp_path_factory.mktemp("cpu"))
