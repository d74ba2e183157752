"""Runs in the emulated Python: what rknn-toolkit-lite2 never asks of the runtime's C interface, asked with ctypes.

The argument is a `.rknn`, and `picture.npy` (H, W, 3) uint8 lies in the working folder. The answers go to
files `.npy` there, what the runtime says of the tensors to stdout as JSON.
"""

import ctypes
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

FLOAT32, INT8, UINT8 = 0, 2, 3
NCHW, NHWC = 0, 1
QUERY_INPUT, QUERY_OUTPUT = 1, 2


class Attr(ctypes.Structure):
    _fields_ = [
        *((name, ctypes.c_uint32) for name in ("index", "n_dims")),
        ("dims", ctypes.c_uint32 * 16),
        ("name", ctypes.c_char * 256),
        *((name, ctypes.c_uint32) for name in ("n_elems", "size")),
        *((name, ctypes.c_int32) for name in ("fmt", "type", "qnt_type")),
        ("fl", ctypes.c_int8),
        ("zp", ctypes.c_int32),
        ("scale", ctypes.c_float),
        *((name, ctypes.c_uint32) for name in ("w_stride", "size_with_stride")),
        ("pass_through", ctypes.c_uint8),
        ("h_stride", ctypes.c_uint32),
    ]


class Input(ctypes.Structure):
    _fields_ = [
        ("index", ctypes.c_uint32),
        ("buf", ctypes.c_void_p),
        ("size", ctypes.c_uint32),
        ("pass_through", ctypes.c_uint8),
        ("type", ctypes.c_int32),
        ("fmt", ctypes.c_int32),
    ]


class Output(ctypes.Structure):
    _fields_ = [
        ("want_float", ctypes.c_uint8),
        ("is_prealloc", ctypes.c_uint8),
        ("index", ctypes.c_uint32),
        ("buf", ctypes.c_void_p),
        ("size", ctypes.c_uint32),
    ]


class Runtime:
    def __init__(self, model: bytes) -> None:
        self._library = ctypes.CDLL("librknnrt.so")
        self._context = ctypes.c_uint64()
        self.call("rknn_init", ctypes.byref(self._context), model, len(model), 0, None, is_made=False)

    def call(self, name: str, *arguments: Any, is_made: bool = True) -> None:
        code = getattr(self._library, name)(*([self._context] if is_made else []), *arguments)
        if code:
            raise SystemExit(f"{name} returned {code}")

    def attr(self, query: int) -> dict[str, Any]:
        made = Attr()
        self.call("rknn_query", query, ctypes.byref(made), ctypes.sizeof(made))
        named = {name: getattr(made, name) for name in ("n_elems", "size", "fmt", "type", "qnt_type", "zp", "scale")}
        return {**named, "name": made.name.decode(), "dims": list(made.dims[: made.n_dims])}

    def run(self, array: npt.NDArray[Any], kind: tuple[int, int, bool]) -> None:
        dtype, layout, pass_through = kind
        data = np.ascontiguousarray(array)
        given = Input(0, data.ctypes.data, data.nbytes, pass_through, dtype, layout)
        self.call("rknn_inputs_set", 1, ctypes.byref(given))
        self.call("rknn_run", None)

    def output(self, dtype: type[Any], *, want_float: bool) -> npt.NDArray[Any]:
        """What the runtime gives in memory of its own, which must be what it gives in ours."""
        theirs = Output(want_float, 0, 0, None, 0)
        self.call("rknn_outputs_get", 1, ctypes.byref(theirs), None)
        copy = np.frombuffer(ctypes.string_at(theirs.buf, theirs.size), dtype).copy()
        self.call("rknn_outputs_release", 1, ctypes.byref(theirs))
        ours = np.zeros_like(copy)
        given = Output(want_float, 1, 0, ours.ctypes.data, ours.nbytes)
        self.call("rknn_outputs_get", 1, ctypes.byref(given), None)
        if not np.array_equal(ours, copy):
            raise SystemExit("the same output differs by where it is put")
        return copy


def main() -> None:
    runtime = Runtime(Path(sys.argv[1]).read_bytes())
    input_attr = runtime.attr(QUERY_INPUT)
    print(json.dumps({"input": input_attr, "output": runtime.attr(QUERY_OUTPUT)}))
    picture = np.load("picture.npy")
    first_channels = picture.transpose(2, 0, 1)
    ways = {
        "uint8Nhwc": (picture, (UINT8, NHWC, False)),
        "uint8Nchw": (first_channels, (UINT8, NCHW, False)),
        "floatNhwc": (picture.astype(np.float32), (FLOAT32, NHWC, False)),
        "floatNchw": (first_channels.astype(np.float32), (FLOAT32, NCHW, False)),
        "rawInt8": ((picture.astype(np.int16) - 128).astype(np.int8), (INT8, NHWC, True)),
    }
    answers: dict[str, npt.NDArray[Any]] = {}
    for name, (array, kind) in ways.items():
        runtime.run(array, kind)
        answers[name] = runtime.output(np.float32, want_float=True)
    answers["int8"] = runtime.output(np.int8, want_float=False)
    for name, answer in answers.items():
        np.save(f"{name}.npy", answer)
    runtime.call("rknn_destroy")


if __name__ == "__main__":
    main()
