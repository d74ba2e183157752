"""What the tests of a child with a faulty segmenter share."""

import os
import select
import threading
from pathlib import Path

import numpy as np
import pytest

from agent.adapters.segmenter_process import ProcessSegmenter
from agent.errors import AgentError
from agent.ports import Segmentation
from tests.contract.faulty_segmenters import (
    SPEC,
    Fault,
    answer,
    picture,
)

PATIENCE_S = 60.0


class Pipes:
    """Tells when a child is inside a call, and lets it go on. Both ends are open here, so that nobody blocks."""

    def __init__(self, folder: Path) -> None:
        self._fds = {}
        for name in ("entered", "leave"):
            os.mkfifo(folder / name)
            self._fds[name] = os.open(folder / name, os.O_RDWR)

    def await_entry(self) -> None:
        assert select.select([self._fds["entered"]], [], [], PATIENCE_S)[0]
        os.read(self._fds["entered"], 2)

    def release(self) -> None:
        os.write(self._fds["leave"], b"x")

    def close(self) -> None:
        for fd in self._fds.values():
            os.close(fd)


class Call(threading.Thread):
    """One call in a thread of its own."""

    def __init__(self, segmenter: ProcessSegmenter, pixels: np.ndarray) -> None:
        super().__init__()
        self.segmenter, self.pixels = segmenter, pixels
        self.made: Segmentation | None = None
        self.error: AgentError | None = None
        self.start()

    def run(self) -> None:
        try:
            self.made = self.segmenter.segment([self.pixels])
        except AgentError as error:
            self.error = error

    def outcome(self) -> AgentError | Segmentation | None:
        self.join(PATIENCE_S)
        return self.error or self.made


def assert_works(segmenter: ProcessSegmenter, seed: int) -> None:
    for i, shape in enumerate(SPEC.shapes):
        pixels = picture(seed * 10 + i, shape=shape)
        assert_right(segmenter.segment([pixels]), pixels.copy())


def assert_right(made: Segmentation, pixels: np.ndarray) -> None:
    class_map, score = answer(pixels)
    np.testing.assert_array_equal(made.class_map, class_map)
    np.testing.assert_array_equal(made.score, score)


def fails(segmenter: ProcessSegmenter, fault: Fault) -> AgentError:
    with pytest.raises(AgentError) as caught:
        segmenter.segment([picture(99, fault)])
    return caught.value


def await_end(pid: int) -> None:
    """Of a process that may not be ours."""
    try:
        fd = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    try:
        assert select.select([fd], [], [], PATIENCE_S)[0], f"{pid} is still there"
    finally:
        os.close(fd)


def ours() -> tuple[int, int]:
    """Open descriptors and shared memories of this process."""
    maps = Path("/proc/self/maps").read_text()
    return len(list(Path("/proc/self/fd").iterdir())), maps.count("memfd:rkfleet-segmenter")


def pid_of(segmenter: ProcessSegmenter) -> int:
    assert segmenter.pid is not None
    return segmenter.pid
