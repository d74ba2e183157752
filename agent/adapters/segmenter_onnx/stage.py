"""OnnxStage: a part of a model on the CPU."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from agent.adapters.segmenter_onnx.session import Session, fits
from agent.core.stages import StageSpec, Tensor
from agent.errors import AgentError, Permanent
from agent.ports import Runtime, Stage
from schemas.codes import FailureCode

_TYPES = {"uint8": "tensor(uint8)", "float16": "tensor(float16)", "float32": "tensor(float)"}


@dataclass(frozen=True, slots=True)
class OnnxStageFactory:
    """Makes a stage where it is called; onnxruntime is imported there and not before."""

    spec: StageSpec
    threads: int = 1

    def __call__(self) -> Stage:
        return OnnxStage(self.spec, self.threads)


class OnnxStage:
    """One session. It is compared with the spec, and tried in each shape, before the constructor returns.

    Errors of the constructor: Permanent with MODEL_MISSING, RUNTIME_MISSING, or MODEL_INVALID where the file is no
    model or another one than the spec says. Errors of `run`: Retryable with NPU_FAULT or NPU_OUT_OF_MEMORY;
    Permanent(MODEL_INVALID) where it gives other tensors.
    """

    def __init__(self, spec: StageSpec, threads: int = 1) -> None:
        self._spec = spec
        self._session = Session(spec.model.path, threads)
        _compare(spec, self._session)
        self._names = [item.name for item in self._session.inputs]
        for shape in range(len(spec.model.shapes)):
            self._try(shape)

    @property
    def runtime(self) -> Runtime:
        return self._session.runtime

    def run(self, tensors: Sequence[npt.NDArray[Any]], shape: int) -> Sequence[npt.NDArray[Any]]:
        outputs = self._session.run(dict(zip(self._names, tensors, strict=True)))
        self._spec.check(outputs, shape)
        return outputs

    def close(self) -> None:
        self._session.close()

    def _try(self, shape: int) -> None:
        """What dimensions a model leaves open shows only in what it gives."""
        try:
            self.run([np.zeros(tensor.shapes[shape], tensor.dtype) for tensor in self._spec.takes], shape)
        except AgentError as error:
            self.close()
            if error.code is FailureCode.NPU_OUT_OF_MEMORY:
                raise
            raise Permanent(FailureCode.MODEL_INVALID, error.text) from error


def _compare(spec: StageSpec, session: Session) -> None:
    """Names are compared too: two tensors of one shape in the wrong order would be a silent error."""
    names = [] if spec.is_first else [tensor.name for tensor in spec.takes]
    _compare_side(session, session.inputs, spec.takes, names)
    if not spec.is_last:
        _compare_side(session, session.outputs, spec.gives, [tensor.name for tensor in spec.gives])
    elif len(session.outputs) != 1:
        raise session.differs(f"{len(session.outputs)} outputs, not 1")


def _compare_side(session: Session, items: Sequence[Any], tensors: Sequence[Tensor], names: Sequence[str]) -> None:
    found = [item.name for item in items]
    if len(items) != len(tensors) or (names and found != names):
        raise session.differs(f"tensors {found}, not {names or len(tensors)}")
    for item, tensor in zip(items, tensors, strict=True):
        for dims in tensor.shapes:
            if item.type != _TYPES[tensor.dtype] or not fits(item.shape, dims):
                raise session.differs(f"{item.name} {item.type} {item.shape}, not {tensor.dtype} {list(dims)}")
