"""Ways to make a good bundle bad: its manifest, its files, and what its model does when it sees live pictures.

The models answer black pictures and golden frames as they should: the first is what a model is tried with when it is
loaded, and a live picture lies between the two in brightness.
"""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from tests.scenario.bundle import CLASSES, SIZE_PX, digest

_LEAST_POWER = -(2**63)
_FOR_EVER = 2**62
_MATRIX = 256
Nodes = list[onnx.NodeProto]


def edit(folder: Path, change: Callable[[dict[str, Any]], object]) -> Path:
    """Change the manifest, which then has another digest."""
    path = folder / "manifest.json"
    document = json.loads(path.read_text())
    change(document)
    path.write_text(json.dumps(document))
    return folder


def seal(folder: Path) -> Path:
    """Give the manifest the sizes and digests that its files have now."""

    def change(document: dict[str, Any]) -> None:
        for variant in document["variants"]:
            file = folder / variant["file"]
            variant |= {"bytes": file.stat().st_size, "sha256": digest(file)}
        for frame in document["golden"]["frames"]:
            frame["sha256"] = {name: digest(folder / name) for name in frame["sha256"]}

    return edit(folder, change)


def disagreeing(folder: Path) -> Path:
    """The golden frame's class map is no answer to its picture."""
    cv2.imwrite(str(folder / "golden.map.png"), np.ones((SIZE_PX, SIZE_PX), np.uint8))
    return seal(folder)


def bomb(folder: Path, side_px: int = 30_000) -> Path:
    """The golden picture announces more pixels than fit a board's memory."""
    raw = bytearray((folder / "golden.png").read_bytes())
    raw[16:24] = side_px.to_bytes(4, "big") * 2
    (folder / "golden.png").write_bytes(raw)
    return seal(folder)


def crashing_at_load(folder: Path) -> Path:
    return _spoilt(folder, lambda: [*_is_between("bad", -1.0, 0.5), *_crash("bad", "more")])


def crashing(folder: Path) -> Path:
    """Its process is ended by a signal at the first live picture that shows anything."""
    return _spoilt(folder, lambda: [*_is_live("bad"), *_crash("bad", "more")])


def hanging(folder: Path) -> Path:
    return _spoilt(folder, lambda: [*_is_live("bad"), *_loop("bad", _FOR_EVER, "more")])


def slow(folder: Path, rounds: int = 100) -> Path:
    return _spoilt(folder, lambda: [*_is_live("bad"), *_loop("bad", rounds, "more")])


def faulty(folder: Path) -> Path:
    """Its runtime refuses to compute, in good order."""
    return _spoilt(
        folder,
        lambda: [
            *_is_live("bad"),
            _constant("one_row", np.zeros(1, np.float32)),
            helper.make_node("Gather", ["one_row", "bad"], ["more"]),
        ],
    )


def seeing_defects_everywhere(folder: Path) -> Path:
    """In live pictures; the golden frame is answered as it should be."""
    bias = np.array([0.0] * (len(CLASSES) - 1) + [1e4], np.float32).reshape(1, -1, 1, 1)
    return _spoilt(
        folder,
        lambda: [
            *_is_between("bad", -1.0, 60.0),
            helper.make_node("Cast", ["bad"], ["bad_float"], to=TensorProto.FLOAT),
            _constant("bias", bias),
            helper.make_node("Mul", ["bad_float", "bias"], ["more"]),
        ],
    )


def _spoilt(folder: Path, nodes: Callable[[], Nodes]) -> Path:
    """Add `more` to the model's logits."""
    path = folder / "cpu.onnx"
    model = onnx.load(path)
    model.graph.node[-1].output[0] = "clean"
    brightness = [
        helper.make_node("Cast", ["picture0"], ["picture_float"], to=TensorProto.FLOAT),
        helper.make_node("ReduceMean", ["picture_float"], ["brightness"], keepdims=0),
    ]
    last = helper.make_node("Add", ["clean", "more"], ["logits"])
    model.graph.node.extend([*brightness, *nodes(), last])
    onnx.checker.check_model(model)
    path.write_bytes(model.SerializeToString())
    return seal(folder)


def _constant(name: str, value: "np.ndarray[Any, Any]") -> onnx.NodeProto:
    return helper.make_node("Constant", [], [name], value=numpy_helper.from_array(value))


def _is_live(name: str) -> Nodes:
    return _is_between(name, 0.5, 60.0)


def _is_between(name: str, least: float, most: float) -> Nodes:
    """1 where the picture's mean is so bright, else 0; int64."""
    return [
        _constant("least", np.array(least, np.float32)),
        _constant("most", np.array(most, np.float32)),
        helper.make_node("Greater", ["brightness", "least"], ["is_brighter"]),
        helper.make_node("Less", ["brightness", "most"], ["is_darker"]),
        helper.make_node("And", ["is_brighter", "is_darker"], ["is_so"]),
        helper.make_node("Cast", ["is_so"], [name], to=TensorProto.INT64),
    ]


def _crash(condition: str, out: str) -> Nodes:
    """The least power of two over -1 is no 64-bit number: the processor raises a signal. Over 1 it is harmless."""
    return [
        _constant("power", np.array([_LEAST_POWER], np.int64)),
        _constant("one", np.array([1], np.int64)),
        _constant("two", np.array([2], np.int64)),
        helper.make_node("Mul", [condition, "two"], ["twice"]),
        helper.make_node("Sub", ["one", "twice"], ["divisor"]),
        helper.make_node("Div", ["power", "divisor"], ["quotient"]),
        helper.make_node("Cast", ["quotient"], ["quotient_float"], to=TensorProto.FLOAT),
        _constant("nought", np.zeros(1, np.float32)),
        helper.make_node("Mul", ["quotient_float", "nought"], [out]),
    ]


def _loop(condition: str, rounds: int, out: str) -> Nodes:
    """So many products of matrices where the condition holds; adds nothing to the answer."""
    info = helper.make_tensor_value_info
    body = helper.make_graph(
        [
            helper.make_node("Identity", ["goes_on"], ["still_goes_on"]),
            helper.make_node("MatMul", ["before", "before"], ["after"]),
        ],
        "round",
        [
            info("round", TensorProto.INT64, []),
            info("goes_on", TensorProto.BOOL, []),
            info("before", TensorProto.FLOAT, [_MATRIX, _MATRIX]),
        ],
        [info("still_goes_on", TensorProto.BOOL, []), info("after", TensorProto.FLOAT, [_MATRIX, _MATRIX])],
    )
    return [
        _constant("rounds", np.array(rounds, np.int64)),
        _constant("yes", np.array(True)),
        _constant("zeros", np.zeros((_MATRIX, _MATRIX), np.float32)),
        helper.make_node("Mul", [condition, "rounds"], ["times"]),
        helper.make_node("Loop", ["times", "yes", "zeros"], ["product"], body=body),
        helper.make_node("ReduceMean", ["product"], [out], keepdims=0),
    ]
