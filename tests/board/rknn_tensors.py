"""What a `.rknn` file of rknn-toolkit2 says of its inputs and outputs.

Its first section holds, in clear text, a Python dictionary with the keys `attrs` (index, shape, mean and std),
`quant_tab` (range of each quantised tensor) and `dynamic_shapes`, and before it JSON objects with each tensor's type
and layout in the NPU's own terms. The string before those is the number of pictures in a batch, "0" where there is
none. Source: files that rknn-toolkit2 2.5.0 exported: the zoo's for all six targets, and those whose heads are in
toolkit_heads/.
"""

import ast
import json
import re
import struct
from dataclasses import dataclass
from typing import Any

MAX_TENSORS = 4
MAX_SHAPES = 8
TYPES = {"float32": 0, "float16": 1, "int8": 2, "uint8": 3, "int64": 8}
LAYOUTS = {"NCHW": 0, "NHWC": 1}
_TENSOR = struct.Struct("<64s3if32I")
_BATCH = re.compile(rb'[\1-\3]\0\0\0(\d{1,3})\0{1,4}....\{"[^"]{1,255}": \{"dtype"', re.DOTALL)
_TYPE_TEXT = re.compile(rb'\{"[^"]{1,255}": \{"dtype": "\w+", "layout": "\w+"\}[^\0]{0,4096}\}')


class Unreadable(ValueError):
    """The file does not say what its tensors are in the way that we know."""


@dataclass(frozen=True, slots=True)
class Tensor:
    """As the runtime describes it; `dims` holds, for each shape of the model, four sizes in the order of `layout`.

    real = (quantised - zero_point) * scale, with scale 0 where it is not quantised; pixel = real * std + mean.
    """

    name: str
    dtype: str
    layout: str
    dims: tuple[tuple[int, ...], ...]
    scale: float = 0.0
    zero_point: int = 0
    mean: tuple[float, ...] = (0.0,)
    std: tuple[float, ...] = (1.0,)

    def to_bytes(self) -> bytes:
        flat = [size for dims in self.dims for size in dims]
        flat += [0] * (4 * MAX_SHAPES - len(flat))
        numbers = (TYPES[self.dtype], LAYOUTS[self.layout], self.zero_point, self.scale)
        return _TENSOR.pack(self.name.encode()[:63], *numbers, *flat)


@dataclass(frozen=True, slots=True)
class Tensors:
    inputs: tuple[Tensor, ...]
    outputs: tuple[Tensor, ...]

    @property
    def shapes(self) -> int:
        return len(self.inputs[0].dims)

    def to_bytes(self) -> bytes:
        """`struct tensors` of the runtime."""
        made = struct.pack("<3I", len(self.inputs), len(self.outputs), self.shapes)
        for tensors in (self.inputs, self.outputs):
            made += b"".join(tensor.to_bytes() for tensor in tensors).ljust(MAX_TENSORS * _TENSOR.size, b"\0")
        return made


def parse_tensors(file: bytes) -> Tensors:
    """Errors: Unreadable."""
    start = file.find(b"{'attrs': {")
    end = file.find(b"\0", start)
    if start < 0 or end < 0:
        raise Unreadable("the file has no description of its tensors")
    try:
        told = ast.literal_eval(file[start:end].decode())
        types: dict[str, Any] = {}
        for text in _TYPE_TEXT.findall(file[:start]):
            types.update(json.loads(text))
        batch = max(1, int(match[1])) if (match := _BATCH.search(file[:start])) else 1
        tensors = [(told["attrs"][name], _tensor(name, told, types[name], batch)) for name in told["attrs"]]
        tensors.sort(key=lambda pair: int(pair[0]["idx"]))
        found = Tensors(*(tuple(t for a, t in tensors if a["is_output"] is output) for output in (False, True)))
    except (ValueError, SyntaxError, LookupError, TypeError, RecursionError, MemoryError) as error:
        raise Unreadable(f"the description of its tensors cannot be read: {error!r}") from error
    _check(found)
    return found


def _tensor(name: str, told: dict[str, Any], types: dict[str, str], batch: int) -> Tensor:
    attrs = told["attrs"][name]
    low, high = (told["quant_tab"].get(name, {}).get(end) or [0.0] for end in ("min", "max"))
    scale = (float(high[0]) - float(low[0])) / 255 if types["dtype"] == "int8" else 0.0
    zero_point = round(-128 - float(low[0]) / scale) if scale else 0
    shapes = told["dynamic_shapes"].get(name) or [attrs["shape"]]
    to_nhwc = types["layout"] == "NHWC"
    dims = tuple((n * batch, h, w, c) if to_nhwc else (n * batch, c, h, w) for n, c, h, w in shapes)
    mean, std = (
        tuple(float(value) for value in attrs.get(key, [default])) for key, default in (("mean", 0), ("std", 1))
    )
    return Tensor(name, types["dtype"], types["layout"], dims, scale, zero_point, mean, std)


def _check(found: Tensors) -> None:
    every = (*found.inputs, *found.outputs)
    if not 0 < len(found.inputs) <= MAX_TENSORS or not 0 < len(found.outputs) <= MAX_TENSORS:
        raise Unreadable(f"{len(found.inputs)} inputs and {len(found.outputs)} outputs")
    if not 0 < found.shapes <= MAX_SHAPES or any(len(tensor.dims) != found.shapes for tensor in every):
        raise Unreadable("more shapes than we know, or not the same number for all tensors")
    for tensor in every:
        if tensor.dtype not in TYPES or tensor.layout not in LAYOUTS:
            raise Unreadable(f"tensor {tensor.name} of type {tensor.dtype}, layout {tensor.layout}")
