"""ONNX Runtime on the CPU: the variant `cpu` of a bundle. Source: onnxruntime 1.20 to 1.x, InferenceSession."""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from agent.core.decode import NotFinite, Scratch, decode, decode_class_map
from agent.core.frame import Pixels
from agent.core.model import ModelSpec
from agent.errors import AgentError, Permanent, Retryable
from agent.ports import Runtime, Segmentation, Segmenter
from schemas.codes import FailureCode

INTEGERS = {"tensor(uint8)", "tensor(int8)", "tensor(uint16)", "tensor(int16)", "tensor(int32)", "tensor(int64)"}


@dataclass(frozen=True, slots=True)
class OnnxFactory:
    """Makes a segmenter where it is called; onnxruntime is imported there and not before."""

    spec: ModelSpec
    threads: int = 1

    def __call__(self) -> Segmenter:
        return OnnxSegmenter(self.spec, self.threads)


class OnnxSegmenter:
    """One session. All inputs of a call have the same shape.

    The model is compared with the spec, and tried once in each shape, before the constructor returns. A class map
    that the model itself made has no softmax: its score is 255 at every foreground pixel.

    Errors of the constructor: Permanent with MODEL_MISSING, RUNTIME_MISSING, or MODEL_INVALID when the file is no
    model or another model than the spec says. Errors of `segment`: Permanent(SHAPE_MISMATCH); Retryable(NPU_FAULT)
    when the runtime fails or the output is not finite; Permanent(MODEL_INVALID) when the output has another shape, or
    class ids, than the spec says.
    """

    def __init__(self, spec: ModelSpec, threads: int = 1) -> None:
        if not Path(spec.path).is_file():
            raise Permanent(FailureCode.MODEL_MISSING, f"{spec.path}: no such model file")
        ort = _onnxruntime()
        self._spec = spec
        self._runtime = Runtime("onnxruntime", str(ort.__version__))
        self._foreign = _errors(ort)
        try:
            self._session: Any = ort.InferenceSession(
                spec.path, _options(ort, threads), providers=["CPUExecutionProvider"]
            )
        except self._foreign as error:
            raise Permanent(FailureCode.MODEL_INVALID, f"{spec.path}: {error}") from error
        _compare(spec, self._session)
        self._names = [item.name for item in self._session.get_inputs()]
        self._scratch = {shape: Scratch.of(*shape) for shape in spec.shapes}
        for shape in spec.shapes:
            self._try(shape)

    @property
    def runtime(self) -> Runtime:
        return self._runtime

    @property
    def shapes(self) -> Sequence[tuple[int, int]]:
        return self._spec.shapes

    def segment(self, inputs: Sequence[Pixels]) -> Segmentation:
        if self._session is None:
            raise Permanent(FailureCode.INTERNAL, f"{self._spec.path}: the segmenter is closed")
        shape = self._spec.shape_of(inputs, self._spec.path)
        started_s = time.perf_counter()
        output = self._run(inputs, shape)
        answered_s = time.perf_counter()
        class_map, score = self._decode(output, self._scratch[shape])
        decoded_s = time.perf_counter()
        return Segmentation(class_map, score, (answered_s - started_s) * 1_000, (decoded_s - answered_s) * 1_000)

    def close(self) -> None:
        self._session = None

    def _try(self, shape: tuple[int, int]) -> None:
        """Run black pictures: what dimensions a model leaves open shows only in its answer."""
        try:
            self.segment([np.zeros((*shape, 3), np.uint8)] * self._spec.inputs)
        except AgentError as error:
            self.close()
            raise Permanent(FailureCode.MODEL_INVALID, error.text) from error

    def _run(self, inputs: Sequence[Pixels], shape: tuple[int, int]) -> npt.NDArray[Any]:
        """Return what the model gives: (1, C, H, W) float32, or (1, 1, H, W) of some integer type."""
        feed = {name: picture[None] for name, picture in zip(self._names, inputs, strict=True)}
        try:
            output: npt.NDArray[Any] = self._session.run(None, feed)[0]
        except self._foreign as error:
            raise Retryable(FailureCode.NPU_FAULT, f"{self._spec.path}: {error}") from error
        wanted = (1, self._spec.classes if self._spec.output == "logits" else 1, *shape)
        if output.shape != wanted:
            text = f"{self._spec.path}: the model gave {output.shape}, not {wanted}"
            raise Permanent(FailureCode.MODEL_INVALID, text)
        return output

    def _decode(self, output: npt.NDArray[Any], scratch: Scratch) -> tuple[Pixels, Pixels]:
        try:
            if self._spec.output == "logits":
                return decode(output[0], scratch)
            return decode_class_map(output[0, 0], self._spec.classes, scratch)
        except NotFinite as error:
            raise Retryable(FailureCode.NPU_FAULT, f"{self._spec.path}: {error}") from error
        except ValueError as error:
            raise Permanent(FailureCode.MODEL_INVALID, f"{self._spec.path}: {error}") from error


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


def _compare(spec: ModelSpec, session: Any) -> None:
    """Raise Permanent(MODEL_INVALID) where the model is not what the spec says. Open dimensions fit anything."""
    inputs, outputs = session.get_inputs(), session.get_outputs()
    if len(inputs) != spec.inputs or len(outputs) != 1:
        raise _differs(spec, f"{len(inputs)} inputs and {len(outputs)} outputs, not {spec.inputs} and 1")
    channels = spec.classes if spec.output == "logits" else 1
    for shape in spec.shapes:
        for item in inputs:
            if item.type != "tensor(uint8)" or not _fits(item.shape, (1, *shape, 3)):
                raise _differs(spec, f"input {item.name} {item.type} {item.shape}, not uint8 {[1, *shape, 3]}")
        if not _fits(outputs[0].shape, (1, channels, *shape)):
            raise _differs(spec, f"output {outputs[0].shape}, not {[1, channels, *shape]}")
    if outputs[0].type not in ({"tensor(float)"} if spec.output == "logits" else INTEGERS):
        raise _differs(spec, f"output {outputs[0].type}, not {spec.output}")


def _fits(dims: Sequence[int | str | None], shape: Sequence[int]) -> bool:
    return len(dims) == len(shape) and all(
        not isinstance(dim, int) or dim == size for dim, size in zip(dims, shape, strict=True)
    )


def _differs(spec: ModelSpec, what: str) -> Permanent:
    return Permanent(FailureCode.MODEL_INVALID, f"{spec.path}: the model has {what}")
