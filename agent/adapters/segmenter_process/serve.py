"""How a child answers a call: from the shared memory, through the segmenter or the stage, to the shared memory.

What a segmenter or a stage gives that does not fit is no error of ours: the TypeError or ValueError ends the child.
"""

import time
from collections.abc import Iterable
from dataclasses import replace
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from agent.adapters.segmenter_process.layouts import Pictures, Tensors
from agent.adapters.segmenter_process.memory import SharedMemory
from agent.adapters.segmenter_process.wire import (
    Begin,
    BeginStage,
    Compute,
    Computed,
    Garbled,
    Message,
    Segment,
    Segmented,
)
from agent.core.answers import Answers
from agent.ports import Runtime


class Server(Protocol):
    """`attach` comes before the first `answer`."""

    @property
    def runtime(self) -> Runtime: ...

    def attach(self, memory_fd: int) -> None: ...

    def answer(self, ask: Message) -> Message:
        """Errors: AgentError, Garbled."""

    def close(self) -> None: ...


class SegmenterServer:
    """Loads what it is begun with. Errors: AgentError."""

    def __init__(self, begin: Begin) -> None:
        self._spec = begin.spec
        self._segmenter = begin.factory()
        self._pictures: Pictures

    @property
    def runtime(self) -> Runtime:
        return self._segmenter.runtime

    def attach(self, memory_fd: int) -> None:
        self._pictures = Pictures(self._spec, SharedMemory.attach(Pictures.slots(self._spec), memory_fd))

    def answer(self, ask: Message) -> Segmented:
        if not isinstance(ask, Segment):
            raise Garbled(f"a parent does not say {type(ask).__name__} to a segmenter")
        shape = (ask.height_px, ask.width_px)
        made = self._segmenter.segment_all([self._pictures.inputs(shape, item) for item in range(ask.count)])
        if len(made) != ask.count:
            raise TypeError(f"the segmenter answered {len(made)} of {ask.count} pictures")
        for item, each in enumerate(made):
            _put((each.class_map, each.score), self._pictures.maps(shape, item))
        return Segmented(ask.call, sum(each.inference_ms for each in made), sum(each.postprocess_ms for each in made))

    def close(self) -> None:
        self._segmenter.close()


class StageServer:
    """Loads what it is begun with. Errors: AgentError."""

    def __init__(self, begin: BeginStage) -> None:
        self._spec = begin.spec
        self._stage = begin.factory()
        self._answers = Answers(replace(begin.spec.model, batch=1))
        self._tensors: Tensors

    @property
    def runtime(self) -> Runtime:
        return self._stage.runtime

    def attach(self, memory_fd: int) -> None:
        self._tensors = Tensors(self._spec, SharedMemory.attach(Tensors.slots(self._spec), memory_fd))

    def answer(self, ask: Message) -> Computed:
        if not isinstance(ask, Compute):
            raise Garbled(f"a parent does not say {type(ask).__name__} to a stage")
        started_s = time.perf_counter()
        made = self._stage.run(self._tensors.takes(ask.shape), ask.shape)
        answered_s = time.perf_counter()
        if self._spec.is_last:
            self._answers.check(made[0].shape, 1, self._spec.model.shapes[ask.shape])
            _put(self._answers.decode(made[0][0], 0), self._tensors.maps(ask.shape, ask.item))
        else:
            _put(made, self._tensors.gives(ask.shape))
        done_s = time.perf_counter()
        return Computed(ask.call, ask.item, (answered_s - started_s) * 1_000, (done_s - answered_s) * 1_000)

    def close(self) -> None:
        self._stage.close()


def _put(sources: Iterable[npt.NDArray[Any]], targets: Iterable[npt.NDArray[Any]]) -> None:
    for source, target in zip(sources, targets, strict=True):
        if source.shape != target.shape or source.dtype != target.dtype:
            raise TypeError(f"given was {source.dtype} {source.shape}, not {target.dtype} {target.shape}")
        np.copyto(target, source)
