"""OnnxSegmenter: a whole model on the CPU, the variant `cpu` of a bundle."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from agent.adapters.segmenter_onnx.session import Session, fits
from agent.core.frame import Pixels
from agent.core.model import ModelSpec
from agent.errors import AgentError, Permanent
from agent.ports import Segmenter
from agent.whole_model import WholeModel
from schemas.codes import FailureCode

INTEGERS = {"tensor(uint8)", "tensor(int8)", "tensor(uint16)", "tensor(int16)", "tensor(int32)", "tensor(int64)"}


@dataclass(frozen=True, slots=True)
class OnnxFactory:
    """Makes a segmenter where it is called; onnxruntime is imported there and not before."""

    spec: ModelSpec
    threads: int = 1

    def __call__(self) -> Segmenter:
        return OnnxSegmenter(self.spec, self.threads)


class OnnxSegmenter(WholeModel):
    """One session. All inputs of a call have the same shape. A file whose batch axis is fixed is given that many
    pictures in every call, black ones where fewer came.

    The model is compared with the spec, and tried in each shape, before the constructor returns. A class map that the
    model itself made has no softmax: its score is 255 at every foreground pixel.

    Errors of the constructor: Permanent with MODEL_MISSING, RUNTIME_MISSING, or MODEL_INVALID when the file is no
    model or another model than the spec says; Retryable(NPU_OUT_OF_MEMORY) where not even one picture fits. Errors of
    a call: Permanent(SHAPE_MISMATCH); Retryable(NPU_FAULT) when the runtime fails or the output is not finite;
    Retryable(NPU_OUT_OF_MEMORY); Permanent(MODEL_INVALID) when the output has another shape, or class ids, than the
    spec says.
    """

    def __init__(self, spec: ModelSpec, threads: int = 1) -> None:
        self._session = Session(spec.path, threads)
        super().__init__(spec, self._session)
        _compare(spec, self._session)
        self._names = [item.name for item in self._session.inputs]
        self._is_fixed = isinstance(self._session.inputs[0].shape[0], int)
        for shape in spec.shapes:
            self._try(shape, 1)
            if spec.batch > 1 and not self._is_fixed:
                self._try(shape, spec.batch)

    def _try(self, shape: tuple[int, int], count: int) -> None:
        """Run black pictures: what dimensions a model leaves open shows only in its answer."""
        try:
            self.segment_all([[np.zeros((*shape, 3), np.uint8)] * self._spec.inputs] * count)
        except AgentError as error:
            if error.code is FailureCode.NPU_OUT_OF_MEMORY and count > 1:
                return  # it may be used with fewer
            self.close()
            if error.code is FailureCode.NPU_OUT_OF_MEMORY:
                raise
            raise Permanent(FailureCode.MODEL_INVALID, error.text) from error

    def _run(self, items: Sequence[Sequence[Pixels]], shape: tuple[int, int]) -> npt.NDArray[Any]:
        """Return what the model gives: (N, C, H, W) float32, or (N, 1, H, W) of some integer type."""
        count = self._spec.batch if self._is_fixed else len(items)
        output = self._session.run(dict(zip(self._names, self._stacks[shape].put(items, count), strict=True)))[0]
        self._answers.check(output.shape, count, shape)
        return output


def _compare(spec: ModelSpec, session: Session) -> None:
    """Raise Permanent(MODEL_INVALID) where the model is not what the spec says."""
    inputs, outputs = session.inputs, session.outputs
    if len(inputs) != spec.inputs or len(outputs) != 1:
        raise session.differs(f"{len(inputs)} inputs and {len(outputs)} outputs, not {spec.inputs} and 1")
    channels = spec.classes if spec.output == "logits" else 1
    for shape in spec.shapes:
        for item in inputs:
            if item.type != "tensor(uint8)" or not fits(item.shape, (spec.batch, *shape, 3)):
                wanted = [spec.batch, *shape, 3]
                raise session.differs(f"input {item.name} {item.type} {item.shape}, not uint8 {wanted}")
        if not fits(outputs[0].shape, (spec.batch, channels, *shape)):
            raise session.differs(f"output {outputs[0].shape}, not {[spec.batch, channels, *shape]}")
    if outputs[0].type not in ({"tensor(float)"} if spec.output == "logits" else INTEGERS):
        raise session.differs(f"output {outputs[0].type}, not {spec.output}")
