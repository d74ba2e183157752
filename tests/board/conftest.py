from collections.abc import Iterator

import pytest

from tests.board.emulated import Board, missing, own_root


@pytest.fixture(scope="session")
def board(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Board]:
    """An RK3588. All tests share its process: starting one takes seconds."""
    if reason := missing():
        pytest.skip(reason)
    started = Board(tmp_path_factory.mktemp("board"), own_root(tmp_path_factory.mktemp("root")))
    started.become("rk3588")
    yield started
    started.kill()
