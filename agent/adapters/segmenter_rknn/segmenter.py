"""RknnSegmenter: a whole model on one NPU core."""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from agent.adapters.segmenter_rknn.context import Context, CoreMask
from agent.core.answers import Answers
from agent.core.frame import Pixels
from agent.core.model import ModelSpec, Stack
from agent.errors import AgentError, Permanent
from agent.ports import Runtime, Segmentation, Segmenter
from schemas.codes import FailureCode
from schemas.target import Target


@dataclass(frozen=True, slots=True)
class RknnFactory:
    """Makes a segmenter where it is called; rknnlite is imported there and not before."""

    spec: ModelSpec
    target: Target
    core_mask: CoreMask = CoreMask.AUTO

    def __call__(self) -> Segmenter:
        return RknnSegmenter(self.spec, self.target, self.core_mask)


class RknnSegmenter:
    """One runtime context. All inputs of a call have the same shape. A file that was built for several pictures is
    given that many in every call, black ones where fewer came.

    The model is tried once in each shape before the constructor returns. A class map that the model itself made has no
    softmax: its score is 255 at every foreground pixel.

    Errors of the constructor: those of Context, and Permanent(MODEL_INVALID) for another model than the spec says.
    Errors of a call: Permanent(SHAPE_MISMATCH); Retryable with NPU_FAULT, NPU_TIMEOUT or NPU_OUT_OF_MEMORY.
    """

    def __init__(self, spec: ModelSpec, target: Target, core_mask: CoreMask = CoreMask.AUTO) -> None:
        self._spec = spec
        self._answers = Answers(spec)
        self._stacks = {shape: Stack(spec.inputs, shape) for shape in spec.shapes}
        self._context = Context(spec.path, target, core_mask)
        try:
            for shape in spec.shapes:
                self._try(shape)
        except AgentError:
            self.close()
            raise

    @property
    def runtime(self) -> Runtime:
        return self._context.runtime

    @property
    def shapes(self) -> Sequence[tuple[int, int]]:
        return self._spec.shapes

    @property
    def batch(self) -> int:
        return self._spec.batch

    def segment(self, inputs: Sequence[Pixels]) -> Segmentation:
        return self.segment_all([inputs])[0]

    def segment_all(self, items: Sequence[Sequence[Pixels]]) -> Sequence[Segmentation]:
        if self._context.is_closed:
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
        self._context.close()

    def _try(self, shape: tuple[int, int]) -> None:
        """Run black pictures: the library tells only then that the model takes other inputs than the spec says."""
        try:
            self.segment([np.zeros((*shape, 3), np.uint8)] * self._spec.inputs)
        except Permanent as error:
            code = FailureCode.MODEL_INVALID if error.code is FailureCode.SHAPE_MISMATCH else error.code
            raise Permanent(code, error.text) from error

    def _run(self, items: Sequence[Sequence[Pixels]], shape: tuple[int, int]) -> npt.NDArray[Any]:
        """Return the library's own buffer, (N, C, H, W) or (N, 1, H, W), which the next call overwrites."""
        count = self._spec.batch
        pictures = self._stacks[shape].put(items, count)
        outputs = self._context.run(pictures, data_format=["nhwc"] * len(pictures))
        if len(outputs) != 1:
            raise Permanent(FailureCode.MODEL_INVALID, f"{self._spec.path}: the model gives {len(outputs)} outputs")
        self._answers.check(outputs[0].shape, count, shape)
        return outputs[0]
