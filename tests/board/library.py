"""Runs in the emulated Python: rknn-toolkit-lite2 as it is, for what the agent's segmenter does not ask of it yet."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from agent.core.frame import Pixels
from agent.ports import Runtime


@dataclass(frozen=True)
class LibraryFactory:
    path: str

    def __call__(self) -> "Library":
        return Library(self.path)


class Library:
    """Speaks as a segmenter does, so that the board can serve it; `segment` gives the library's own outputs."""

    runtime = Runtime("library", "0")
    shapes: Sequence[tuple[int, int]] = ()
    batch = 1

    def __init__(self, path: str) -> None:
        from rknnlite.api import RKNNLite

        self._lite = RKNNLite()
        if self._lite.load_rknn(path) or self._lite.init_runtime(core_mask=RKNNLite.NPU_CORE_0):
            raise RuntimeError(f"{path} cannot be started")

    def segment(self, inputs: Sequence[Pixels]) -> Any:
        return self._lite.inference(inputs=list(inputs), data_format=["nhwc"] * len(inputs))

    def segment_all(self, items: Sequence[Sequence[Pixels]]) -> Any:
        return [self.segment(inputs) for inputs in items]

    def close(self) -> None:
        self._lite.release()
