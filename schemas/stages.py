"""A model in several files, each a stage that takes what the one before it gives: `stages` of a manifest's variant."""

import math
from collections.abc import Sequence
from typing import Annotated, Final, Literal, Self

from pydantic import AfterValidator, Field, model_validator

from schemas.base import Sha256, Strict

MOST_CROSSING_BYTES: Final = 64 * 2**20
"""Of all tensors together that pass from one stage to the next for one picture."""
ITEM_BYTES: Final = {"uint8": 1, "float16": 2, "float32": 4}


def _inside(path: str) -> str:
    parts = path.split("/")
    if "\\" in path or "\0" in path or any(part in {"", ".", ".."} for part in parts):
        raise ValueError("must be a relative path inside the bundle")
    return path


BundlePath = Annotated[str, Field(max_length=200), AfterValidator(_inside)]
Side = Annotated[int, Field(ge=1, le=65_536)]
Dims = Annotated[list[Side], Field(min_length=1, max_length=6)]


class ModelFile(Strict):
    file: BundlePath
    bytes: int = Field(gt=0)
    sha256: Sha256


class Crossing(Strict):
    """A tensor that one stage gives to the next one. `shapes` are its dimensions for one picture, one entry for each of
    the shapes of the manifest's inputs, in their order.
    """

    name: str = Field(min_length=1, max_length=200)
    dtype: Literal["uint8", "float16", "float32"]
    shapes: list[Dims] = Field(min_length=1, max_length=8)


class Stage(ModelFile):
    """`gives` are the file's outputs in their order, and the inputs of the next stage in theirs; the last one gives the
    model's answer and names nothing.
    """

    runtime: Literal["rknn", "onnx"]
    gives: list[Crossing] = Field(default_factory=list, max_length=8)

    @model_validator(mode="after")
    def _bounded(self) -> Self:
        if len({tensor.name for tensor in self.gives}) != len(self.gives):
            raise ValueError("gives: names must differ")
        if len({len(tensor.shapes) for tensor in self.gives}) > 1:
            raise ValueError("gives: all tensors need as many shapes")
        for shape in range(len(self.gives[0].shapes) if self.gives else 0):
            crossing = sum(math.prod(tensor.shapes[shape]) * ITEM_BYTES[tensor.dtype] for tensor in self.gives)
            if crossing > MOST_CROSSING_BYTES:
                raise ValueError(f"gives: {crossing} bytes cross, the most allowed is {MOST_CROSSING_BYTES}")
        if self.runtime == "rknn" and any(tensor.dtype != "float32" for tensor in self.gives):
            raise ValueError("gives: an rknn file gives float32")
        return self


def check_chain(stages: Sequence[Stage]) -> None:
    """Raise ValueError where the stages do not follow each other."""
    if any(not stage.gives for stage in stages[:-1]) or stages[-1].gives:
        raise ValueError("stages: each but the last gives what the next one takes, the last gives nothing")
    if len({stage.file for stage in stages}) != len(stages):
        raise ValueError("stages: files must differ")


def check_shapes(stages: Sequence[Stage], shapes: int) -> None:
    """Raise ValueError where what crosses is not told for each of so many input shapes."""
    for number, stage in enumerate(stages):
        for tensor in stage.gives:
            if len(tensor.shapes) != shapes:
                said = len(tensor.shapes)
                raise ValueError(f"stages.{number}: {tensor.name} has {said} shapes, the model's inputs have {shapes}")
