"""Writes the `.rknn` files of the board tests: a real container around a 1x1 convolution. See runtime/probe.h."""

import json
import struct
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from agent.core.model import ModelSpec
from tests.board.npu_control import Stage
from tests.contract import probe_model

RUNTIME_VERSION = "2.5.0 (rkfleet tests)"
DRIVER_VERSION = "0.9.8"


HANG = 1
CRASH = 2
ALWAYS = 2**31


@dataclass(frozen=True)
class Fault:
    """`action` is HANG, CRASH or a negative RKNN code; `text` is what the runtime says on stderr."""

    stage: Stage = Stage.NONE
    action: int = 0
    text: str = ""
    first_call: int = 0
    calls: int = ALWAYS


@dataclass(frozen=True)
class Container:
    """logit[c] = bias[c] + weight[c] . bytes, where the bytes of all inputs' pixels stand one after the other."""

    weight: npt.NDArray[np.float32]
    """(C, 3 * inputs)"""
    bias: npt.NDArray[np.float32]
    """(C,)"""
    shapes: tuple[tuple[int, int], ...]
    class_map: bool = False
    platforms: tuple[str, ...] = ("rk3588",)
    format_version: int = 6
    runtime_version: str = RUNTIME_VERSION
    driver_version: str = DRIVER_VERSION
    fault: Fault = field(default_factory=Fault)

    def to_bytes(self) -> bytes:
        classes, values = self.weight.shape
        section = struct.pack(
            "<8s4IIiII128s64s64s",
            *(b"CONV1X1\0", values // 3, len(self.shapes), classes, self.class_map),
            *(self.fault.stage, self.fault.action, self.fault.first_call, self.fault.calls),
            *(self.fault.text.encode(), self.runtime_version.encode(), self.driver_version.encode()),
        )
        section += np.array(self.shapes, "<u4").tobytes()
        section += self.weight.astype("<f4").tobytes() + self.bias.astype("<f4").tobytes()
        return wrap(section, {"target_platform": list(self.platforms), "version": "2.5.0"}, self.format_version)


def wrap(section: bytes, header: Any, format_version: int = 6) -> bytes:
    """The frame of every `.rknn` file around one section and the JSON."""
    text = json.dumps(header).encode()
    prefix = struct.pack("<8sQQ", b"RKNN", format_version, len(section)).ljust(64, b"\0")
    return prefix + section + struct.pack("<Q", len(text)) + text


def probe(spec: ModelSpec, **changes: Any) -> ModelSpec:
    """Write the probe model of the contract suite as `spec` describes it, with `changes` of Container's fields."""
    slope, offset = probe_model.weights(spec.classes)
    shares = np.repeat([probe_model.share(i) / 3 for i in range(spec.inputs)], 3)
    weight = np.outer(slope, shares).astype(np.float32)
    made = replace(Container(weight, offset, spec.shapes, class_map=spec.output == "classMap"), **changes)
    Path(spec.path).write_bytes(made.to_bytes())
    return spec
