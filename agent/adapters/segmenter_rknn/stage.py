"""RknnStage: a part of a model on one NPU core."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from agent.adapters.segmenter_rknn.context import Context, CoreMask
from agent.core.stages import StageSpec
from agent.errors import AgentError, Permanent
from agent.ports import Runtime, Stage
from schemas.codes import FailureCode
from schemas.target import Target

_IMAGE_DIMS = 4


@dataclass(frozen=True, slots=True)
class RknnStageFactory:
    """Makes a stage where it is called; rknnlite is imported there and not before."""

    spec: StageSpec
    target: Target
    core_mask: CoreMask = CoreMask.AUTO

    def __call__(self) -> Stage:
        return RknnStage(self.spec, self.target, self.core_mask)


class RknnStage:
    """One runtime context, tried in each shape before the constructor returns.

    Tensors of four dimensions go to the library as NHWC, as pictures are; what another stage gives is laid out as in
    ONNX, NCHW, and is turned here. It goes as float32 unless it is uint8.

    Errors of the constructor: those of Context, and Permanent(MODEL_INVALID) for another model than the spec says.
    Errors of `run`: those of Context; Permanent(MODEL_INVALID) where it gives other tensors.
    """

    def __init__(self, spec: StageSpec, target: Target, core_mask: CoreMask = CoreMask.AUTO) -> None:
        self._spec = spec
        self._types = ["uint8" if tensor.dtype == "uint8" else "float32" for tensor in spec.takes]
        self._layouts = ["nhwc" if len(tensor.shapes[0]) == _IMAGE_DIMS else None for tensor in spec.takes]
        self._context = Context(spec.model.path, target, core_mask)
        try:
            for shape in range(len(spec.model.shapes)):
                self._try(shape)
        except AgentError:
            self.close()
            raise

    @property
    def runtime(self) -> Runtime:
        return self._context.runtime

    def run(self, tensors: Sequence[npt.NDArray[Any]], shape: int) -> Sequence[npt.NDArray[Any]]:
        given = [self._laid_out(array, kind) for array, kind in zip(tensors, self._types, strict=True)]
        # The library changes the lists that it is given.
        outputs = self._context.run(given, data_type=list(self._types), data_format=list(self._layouts))
        self._spec.check(outputs, shape)
        return outputs

    def close(self) -> None:
        self._context.close()

    def _laid_out(self, array: npt.NDArray[Any], kind: str) -> npt.NDArray[Any]:
        is_turned = array.ndim == _IMAGE_DIMS and not self._spec.is_first
        return np.ascontiguousarray(array.transpose(0, 2, 3, 1) if is_turned else array, kind)

    def _try(self, shape: int) -> None:
        try:
            self.run([np.zeros(tensor.shapes[shape], tensor.dtype) for tensor in self._spec.takes], shape)
        except Permanent as error:
            code = FailureCode.MODEL_INVALID if error.code is FailureCode.SHAPE_MISMATCH else error.code
            raise Permanent(code, error.text) from error
