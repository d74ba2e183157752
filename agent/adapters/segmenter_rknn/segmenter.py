"""RknnSegmenter: a whole model on one NPU core."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from agent.adapters.segmenter_rknn.context import Context, CoreMask
from agent.core.frame import Pixels
from agent.core.model import ModelSpec
from agent.errors import AgentError, Permanent
from agent.ports import Segmenter
from agent.whole_model import WholeModel
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


class RknnSegmenter(WholeModel):
    """One runtime context. All inputs of a call have the same shape. A file that was built for several pictures is
    given that many in every call, black ones where fewer came.

    The model is tried once in each shape before the constructor returns. A class map that the model itself made has no
    softmax: its score is 255 at every foreground pixel.

    Errors of the constructor: those of Context, and Permanent(MODEL_INVALID) for another model than the spec says.
    Errors of a call: Permanent(SHAPE_MISMATCH); Retryable with NPU_FAULT, NPU_TIMEOUT or NPU_OUT_OF_MEMORY.
    """

    def __init__(self, spec: ModelSpec, target: Target, core_mask: CoreMask = CoreMask.AUTO) -> None:
        self._context = Context(spec.path, target, core_mask)
        super().__init__(spec, self._context)
        try:
            for shape in spec.shapes:
                self._try(shape)
        except AgentError:
            self.close()
            raise

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
