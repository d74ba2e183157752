"""The probe model of the contract suite, cut in two, and stages that do what a test tells them."""

import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import IntEnum
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from agent.adapters.segmenter_onnx import OnnxStageFactory
from agent.adapters.segmenter_process import ChainLink
from agent.core.frame import Pixels
from agent.core.model import ModelSpec
from agent.core.stages import StageSpec, Tensor, chain
from agent.errors import Permanent, Retryable
from agent.ports import Runtime, Stage
from modelkit.split import Split, split
from schemas.codes import FailureCode
from tests.contract import faulty_segmenters, probe_model
from tests.contract.segmenter_contract import Kind


def tensors_of(made: Split) -> list[Tensor]:
    return [Tensor(each.name, each.dtype, tuple(map(tuple, each.shapes))) for each in made.crossings]


def cut_probe(kind: Kind, folder: Path) -> tuple[ModelSpec, tuple[StageSpec, ...]]:
    """Write the whole probe of one picture and its two halves; the whole's spec has the batch of `kind`."""
    whole = folder / "probe.onnx"
    size = kind.shapes[0] if len(kind.shapes) == 1 else ("H", "W")
    probe_model.build(whole, replace(kind, batch=1).spec(whole), height_width=size)
    made = split(whole, [f"picture{number}_nchw" for number in range(kind.inputs)], folder, kind.shapes)
    model = kind.spec(made.deep)
    return model, chain(model, [str(made.shallow), str(made.deep)], [tensors_of(made)])


def links_of(specs: Sequence[StageSpec]) -> list[ChainLink]:
    return [ChainLink(OnnxStageFactory(spec), spec) for spec in specs]


class Order(IntEnum):
    """What a stage does with the picture whose first pixel has this value."""

    NONE = 0
    WAIT_1 = 231
    WAIT_2 = 232
    """Say on the pipe `entered` which stage it is, and wait for a byte on its pipe `leave1` or `leave2`."""
    HANG_1 = 233
    HANG_2 = 234
    CRASH_1 = 235
    CRASH_2 = 236
    RETRYABLE_1 = 237
    RETRYABLE_2 = 238
    PERMANENT_1 = 239
    PERMANENT_2 = 240
    WRONG_SHAPE_1 = 241
    WRONG_SHAPE_2 = 242

    @property
    def stage(self) -> int:
        return int(self.name[-1])

    @property
    def what(self) -> str:
        return self.name[:-2]


SHAPE = (24, 32)
MODEL = ModelSpec("none", 1, (SHAPE, (16, 48)), 5, "classMap", batch=4)


def picture(seed: int, order: Order = Order.NONE, shape: tuple[int, int] = SHAPE) -> Pixels:
    pixels = np.random.default_rng(seed).integers(1, 200, (*shape, 3), np.uint8)
    pixels[0, 0, 0] = order
    return pixels


def class_map_of(pixels: Pixels) -> Pixels:
    return pixels[:, :, 0] % np.uint8(MODEL.classes)


def obedient_links(folder: Path) -> list[ChainLink]:
    """Two stages: the first passes its picture on, the second makes the class map."""
    crossing = Tensor("copy", "uint8", tuple((1, *shape, 3) for shape in MODEL.shapes))
    specs = chain(MODEL, ["none", "none"], [[crossing]])
    return [ChainLink(ObedientFactory(str(folder), number), spec) for number, spec in enumerate(specs, 1)]


@dataclass(frozen=True)
class ObedientFactory:
    """`folder` has the pipes, and a file `load1` or `load2` where that stage is not to load."""

    folder: str
    number: int

    def __call__(self) -> Stage:
        if Path(self.folder, f"load{self.number}").exists():
            raise Permanent(FailureCode.MODEL_INVALID, f"stage {self.number} does not load")
        return Obedient(self)


class Obedient:
    def __init__(self, made_by: ObedientFactory) -> None:
        self._made_by = made_by
        self.runtime = Runtime(f"obedient{made_by.number}", f"{made_by.number}.0")

    def run(self, tensors: Sequence[npt.NDArray[Any]], shape: int) -> Sequence[npt.NDArray[Any]]:
        (pixels,) = tensors
        code = int(pixels[0, 0, 0, 0])
        order = Order(code) if code in list(Order)[1:] else Order.NONE
        made = pixels if self._made_by.number == 1 else (pixels[:, :, :, 0] % MODEL.classes)[:, None].astype(np.int64)
        if order is Order.NONE or order.stage != self._made_by.number:
            return [made]
        if order.what == "WRONG_SHAPE":
            return [made[..., :1, :1]]
        self._obey(order)
        return [made]

    def close(self) -> None:
        pass

    def _obey(self, order: Order) -> None:
        if order.what == "WAIT":
            with Path(self._made_by.folder, "entered").open("wb", buffering=0) as entered:
                entered.write(str(order.stage).encode())
            with Path(self._made_by.folder, f"leave{order.stage}").open("rb", buffering=0) as leave:
                leave.read(1)
        elif order.what == "HANG":
            faulty_segmenters.misbehave(faulty_segmenters.Fault.HANG_WITH_GIL, self._made_by.folder)
        elif order.what == "CRASH":
            os.abort()
        elif order.what == "RETRYABLE":
            raise Retryable(FailureCode.NPU_TIMEOUT, f"stage {order.stage}: job timeout")
        else:
            raise Permanent(FailureCode.MODEL_INVALID, f"stage {order.stage}: gives what it should not")
