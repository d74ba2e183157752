"""One session of ONNX Runtime, its errors as ours. Source: onnxruntime 1.20 to 1.x, InferenceSession."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy.typing as npt

from agent.errors import Permanent, Retryable
from agent.ports import Runtime
from schemas.codes import FailureCode

_NO_MEMORY = "Failed to allocate memory"  # as its arena says it; the error's type is the one of every failed run


class Session:
    """`inputs` and `outputs` are the runtime's own descriptions: name, type, and shape with open dimensions as text.

    Errors of the constructor: Permanent with MODEL_MISSING, RUNTIME_MISSING, or MODEL_INVALID for a file that is no
    model.
    """

    def __init__(self, path: str, threads: int) -> None:
        if not Path(path).is_file():
            raise Permanent(FailureCode.MODEL_MISSING, f"{path}: no such model file")
        ort = _onnxruntime()
        self._path = path
        self._foreign = _errors(ort)
        self.runtime = Runtime("onnxruntime", str(ort.__version__))
        try:
            self._session: Any = ort.InferenceSession(path, _options(ort, threads), providers=["CPUExecutionProvider"])
        except self._foreign as error:
            raise Permanent(FailureCode.MODEL_INVALID, f"{path}: {error}") from error
        self.inputs: Sequence[Any] = self._session.get_inputs()
        self.outputs: Sequence[Any] = self._session.get_outputs()

    def run(self, feed: Mapping[str, npt.NDArray[Any]]) -> Sequence[npt.NDArray[Any]]:
        """All outputs, in memory of their own. Errors: Retryable with NPU_OUT_OF_MEMORY or NPU_FAULT;
        Permanent(INTERNAL) once closed.
        """
        if self._session is None:
            raise Permanent(FailureCode.INTERNAL, f"{self._path}: the model is closed")
        try:
            outputs: Sequence[npt.NDArray[Any]] = self._session.run(None, feed)
        except self._foreign as error:
            is_memory = isinstance(error, MemoryError) or _NO_MEMORY in str(error)
            code = FailureCode.NPU_OUT_OF_MEMORY if is_memory else FailureCode.NPU_FAULT
            raise Retryable(code, f"{self._path}: {error}") from error
        return outputs

    def close(self) -> None:
        self._session = None

    @property
    def is_closed(self) -> bool:
        return self._session is None

    def differs(self, what: str) -> Permanent:
        """The error for a model that is not what it was said to be."""
        return Permanent(FailureCode.MODEL_INVALID, f"{self._path}: the model has {what}")


def fits(dims: Sequence[int | str | None], shape: Sequence[int]) -> bool:
    """Open dimensions fit anything."""
    return len(dims) == len(shape) and all(
        not isinstance(dim, int) or dim == size for dim, size in zip(dims, shape, strict=True)
    )


def _onnxruntime() -> Any:
    try:
        import onnxruntime  # noqa: PLC0415 - the agent's main process never loads it when its segmenters are children
    except ImportError as error:
        raise Permanent(FailureCode.RUNTIME_MISSING, f"onnxruntime cannot be loaded: {error}") from error
    return onnxruntime


def _errors(ort: Any) -> tuple[type[Exception], ...]:
    """All that ONNX Runtime raises: its own errors have no base but Exception, its Python part raises built-in ones."""
    own = vars(ort.capi.onnxruntime_pybind11_state).values()
    found = tuple(kind for kind in own if isinstance(kind, type) and issubclass(kind, Exception))
    return (*found, RuntimeError, ValueError, MemoryError)


def _options(ort: Any, threads: int) -> Any:
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 3  # what it raises tells more than its warnings
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")  # idle threads leave the board's cores
    return options
