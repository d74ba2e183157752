"""The ONNX twin of a `.rknn` file: the variant `cpu` of the bundle whose manifest names the file's SHA-256.

A twin takes (N, H, W, 3) uint8; that of a stage, what the stage before it gives, (N, C, H, W) float.
"""

import hashlib
import json
import struct
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnxruntime as ort
from pydantic import BaseModel, ValidationError

from tests.board.npu_control import Numbers
from tests.board.rknn_tensors import LAYOUTS, TYPES, Tensor, Tensors, parse_tensors

Array = npt.NDArray[Any]
SHIFT_PX = 16
_NUMPY = {0: np.float32, 1: np.float16, 2: np.int8, 3: np.uint8}


class NoTwin(Exception):
    """No bundle has this file, or its ONNX variant is another model."""


class _Variant(BaseModel):
    target: str
    file: str
    sha256: str


class _Manifest(BaseModel):
    variants: list[_Variant]


@dataclass(frozen=True, slots=True)
class Given:
    """One input as the runtime was given it: its numbers of rknn_api.h, and the bytes."""

    dtype: int
    layout: int
    pass_through: bool
    data: bytes

    def pixels(self, tensor: Tensor, shape: int) -> npt.NDArray[np.uint8]:
        """(N, H, W, 3) uint8. A quantised or real value becomes the nearest pixel value."""
        array = self._nhwc(tensor, shape)
        if self.pass_through:
            array = self._real(array, tensor) * np.asarray(tensor.std, np.float32) + np.asarray(tensor.mean, np.float32)
        if array.dtype != np.uint8:
            array = np.rint(array).clip(0, 255).astype(np.uint8)
        return np.ascontiguousarray(array)

    def values(self, tensor: Tensor, shape: int) -> npt.NDArray[np.float32]:
        """(N, C, H, W) float32, as a stage takes what the one before it gives. The NPU would round it to the tensor's
        own type; the twin does not.
        """
        array = self._nhwc(tensor, shape)
        real = self._real(array, tensor) if self.pass_through else array.astype(np.float32)
        return np.ascontiguousarray(real.transpose(0, 3, 1, 2))

    def _nhwc(self, tensor: Tensor, shape: int) -> Array:
        n, c, h, w = nchw(tensor, shape)
        is_nhwc = self.layout == LAYOUTS["NHWC"]
        array: Array = np.frombuffer(self.data, _NUMPY[self.dtype]).reshape((n, h, w, c) if is_nhwc else (n, c, h, w))
        return array if is_nhwc else array.transpose(0, 2, 3, 1)

    def _real(self, array: Array, tensor: Tensor) -> Array:
        real: Array = array.astype(np.float32)
        return (real - tensor.zero_point) * np.float32(tensor.scale) if self.dtype == TYPES["int8"] else real


def nchw(tensor: Tensor, shape: int) -> tuple[int, ...]:
    n, *rest = tensor.dims[shape]
    return (n, rest[2], rest[0], rest[1]) if tensor.layout == "NHWC" else (n, *rest)


class Twin:
    """One model. Any thread may call."""

    def __init__(self, tensors: Tensors, path: Path) -> None:
        options = ort.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        options.log_severity_level = 3
        self.tensors = tensors
        self._session: Any = ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        self._names = [item.name for item in self._session.get_inputs()]
        self._is_real = [item.type == "tensor(float)" for item in self._session.get_inputs()]
        self._compare(path)

    def run(self, shape: int, given: Sequence[Given]) -> list[npt.NDArray[np.float32]]:
        """Outputs in the order of the file. Shapes: those of the tensors' dims."""
        pictures = [
            one.values(tensor, shape) if is_real else one.pixels(tensor, shape)
            for one, tensor, is_real in zip(given, self.tensors.inputs, self._is_real, strict=True)
        ]
        # A batch is computed picture by picture: the twin need not know of batches, and the answers are the same.
        single = [
            self._session.run(None, {name: batch[i : i + 1] for name, batch in zip(self._names, pictures, strict=True)})
            for i in range(len(pictures[0]))
        ]
        outputs = [np.concatenate(parts) for parts in zip(*single, strict=True)]
        wanted = [tensor.dims[shape] for tensor in self.tensors.outputs]
        if [output.shape for output in outputs] != wanted:
            raise NoTwin(f"the twin gives {[output.shape for output in outputs]}, the file says {wanted}")
        return [np.ascontiguousarray(output, np.float32) for output in outputs]

    def _compare(self, path: Path) -> None:
        inputs, outputs = self._session.get_inputs(), self._session.get_outputs()
        if len(inputs) != len(self.tensors.inputs) or len(outputs) != len(self.tensors.outputs):
            raise NoTwin(f"{path.name} has {len(inputs)} inputs and {len(outputs)} outputs, the file says otherwise")
        are_real = [*self._is_real, *[False] * len(outputs)]
        tensors = [*self.tensors.inputs, *self.tensors.outputs]
        for item, tensor, is_real in zip([*inputs, *outputs], tensors, are_real, strict=True):
            for shape, told in enumerate(tensor.dims):
                dims = nchw(tensor, shape) if is_real else told
                if len(item.shape) != len(dims) or any(
                    isinstance(mine, int) and mine != size for mine, size in zip(item.shape[1:], dims[1:], strict=True)
                ):
                    raise NoTwin(f"{path.name}: {item.name} is {item.shape}, the file says {dims}")


class Twins:
    """Looks for bundles in the folders themselves and one level below. Any thread may call."""

    def __init__(self, folders: Sequence[Path]) -> None:
        self._folders = folders
        self._lock = threading.Lock()
        self._known: dict[str, Twin] = {}

    def find(self, file: bytes) -> Twin:
        """Errors: NoTwin; Unreadable, when the file does not say what its tensors are."""
        digest = hashlib.sha256(file).hexdigest()
        with self._lock:
            if digest not in self._known:
                self._known[digest] = Twin(parse_tensors(file), self._path(digest))
            return self._known[digest]

    def _path(self, digest: str) -> Path:
        for folder in self._folders:
            for path in (folder / "manifest.json", *sorted(folder.glob("*/manifest.json"))):
                variants = _variants(path)
                if any(variant.sha256 == digest for variant in variants):
                    return _verified(path.parent, variants)
        raise NoTwin(f"no bundle has a file with SHA-256 {digest[:16]}...")


def _variants(path: Path) -> list[_Variant]:
    try:
        return _Manifest.model_validate(json.loads(path.read_bytes())).variants
    except (OSError, ValidationError, ValueError):
        return []  # not a bundle, or one that is just being written


def _verified(folder: Path, variants: Sequence[_Variant]) -> Path:
    for variant in variants:
        if variant.target == "cpu":
            path = folder / variant.file
            try:
                digest = hashlib.sha256(path.read_bytes()).hexdigest()
            except OSError as error:
                raise NoTwin(f"{variant.file}: {error.strerror}") from error
            if digest != variant.sha256:
                raise NoTwin(f"{variant.file} is not the file of the manifest")
            return path
    raise NoTwin(f"{folder.name} has no variant cpu")


def parse_run(payload: bytes) -> tuple[int, int, int, list[Given]]:
    """Core mask, cores of the chip, index of the shape, and the inputs, of the request that the runtime sends."""
    mask, cores, shape, count = struct.unpack_from("<4I", payload)
    given, at = [], 16
    for _ in range(count):
        dtype, layout, pass_through, size = struct.unpack_from("<2i2I", payload, at)
        given.append(Given(dtype, layout, bool(pass_through), payload[at + 16 : at + 16 + size]))
        at += 16 + size
    return mask, cores, shape, given


def distort(
    numbers: Numbers, outputs: list[npt.NDArray[np.float32]], before: list[npt.NDArray[np.float32]] | None
) -> list[npt.NDArray[np.float32]]:
    """What a broken NPU gives instead, though it reports no error. Shapes: (N, C, H, W), in and out."""
    match numbers:
        case "right":
            return outputs
        case "zeros":
            return [np.zeros_like(output) for output in outputs]
        case "rolled":
            return [np.roll(output, 1, axis=1) for output in outputs]
        case "shifted":
            return [np.roll(output, SHIFT_PX, axis=-1) for output in outputs]
        case "stale":
            fits = before is not None and [b.shape for b in before] == [o.shape for o in outputs]
            return before if before is not None and fits else [np.zeros_like(output) for output in outputs]
        case "nan":
            return [np.full_like(output, np.nan) for output in outputs]
