"""What the segmenters of whole models have in common, whatever computes. Adapters share it."""

import time
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, Protocol

import numpy.typing as npt

from agent.core.answers import Answers
from agent.core.frame import Pixels
from agent.core.model import ModelSpec, Stack
from agent.errors import Permanent
from agent.ports import Runtime, Segmentation
from schemas.codes import FailureCode


class Engine(Protocol):
    """A model that is loaded into a runtime."""

    @property
    def runtime(self) -> Runtime: ...

    @property
    def is_closed(self) -> bool: ...

    def close(self) -> None:
        """A second call does nothing."""


class WholeModel(ABC):
    """The port Segmenter, but for `_run`. Pictures are laid side by side in memory that is reused, and each answer is
    decoded by itself. Errors: those of `_run` and of `Answers.decode`; Permanent(SHAPE_MISMATCH); Permanent(INTERNAL)
    once closed.
    """

    def __init__(self, spec: ModelSpec, engine: Engine) -> None:
        self._spec = spec
        self._engine = engine
        self._answers = Answers(spec)
        self._stacks = {shape: Stack(spec.inputs, shape) for shape in spec.shapes}

    @property
    def runtime(self) -> Runtime:
        return self._engine.runtime

    @property
    def shapes(self) -> Sequence[tuple[int, int]]:
        return self._spec.shapes

    @property
    def batch(self) -> int:
        return self._spec.batch

    def segment(self, inputs: Sequence[Pixels]) -> Segmentation:
        return self.segment_all([inputs])[0]

    def segment_all(self, items: Sequence[Sequence[Pixels]]) -> Sequence[Segmentation]:
        if self._engine.is_closed:
            raise Permanent(FailureCode.INTERNAL, f"{self._spec.path}: the segmenter is closed")
        shape = self._spec.shape_of(items, self._spec.path)
        started_s = time.perf_counter()
        output = self._run(items, shape)
        share_ms = (time.perf_counter() - started_s) * 1_000 / len(items)
        made = []
        for number in range(len(items)):
            answered_s = time.perf_counter()
            class_map, score = self._answers.decode(output[number], number)
            decoded_ms = (time.perf_counter() - answered_s) * 1_000
            made.append(Segmentation(class_map, score, share_ms, decoded_ms))
        return made

    def close(self) -> None:
        self._engine.close()

    @abstractmethod
    def _run(self, items: Sequence[Sequence[Pixels]], shape: tuple[int, int]) -> npt.NDArray[Any]:
        """What the model gives, checked: (N, C, H, W) logits or (N, 1, H, W) class maps, N at least the items'."""
