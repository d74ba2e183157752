"""From what a model gives for the pictures of a call to their class maps and scores, for every runtime alike."""

from typing import Any

import numpy as np
import numpy.typing as npt

from agent.core.decode import Map, NotFinite, Scratch, decode, decode_class_map
from agent.core.model import ModelSpec
from agent.errors import Permanent, Retryable
from schemas.codes import FailureCode


class Answers:
    """Holds the memory of the maps, for each shape and each picture of a call; the next call overwrites them."""

    def __init__(self, spec: ModelSpec) -> None:
        self._spec = spec
        self._scratch = {shape: Scratch.several(spec.batch, *shape) for shape in spec.shapes}

    def check(self, output_shape: tuple[int, ...], count: int, shape: tuple[int, int]) -> None:
        """Errors: Permanent(MODEL_INVALID) where an output for `count` pictures of (height, width) `shape` has other
        dimensions than (count, C, H, W), C being 1 of a class map.
        """
        wanted = (count, self._spec.classes if self._spec.output == "logits" else 1, *shape)
        if output_shape != wanted:
            text = f"{self._spec.path}: the model gives {output_shape}, not {wanted}"
            raise Permanent(FailureCode.MODEL_INVALID, text)

    def decode(self, output: npt.NDArray[Any], number: int) -> tuple[Map, Map]:
        """Class map and score (H, W) uint8 of the picture of that number in its call; output is its (C, H, W).

        Errors: Retryable(NPU_FAULT) where the output is not finite; Permanent(MODEL_INVALID) for a class that the
        model has not, and for a type that no model gives.
        """
        scratch = self._scratch[output.shape[1], output.shape[2]][number]
        try:
            if self._spec.output == "logits":
                return decode(output, scratch)
            class_map = output[0]
            if class_map.dtype.kind == "f":
                with np.errstate(invalid="ignore"):  # NaN becomes a number that no class has
                    class_map = class_map.astype(np.int32)
            return decode_class_map(class_map, self._spec.classes, scratch)
        except NotFinite as error:
            raise Retryable(FailureCode.NPU_FAULT, f"{self._spec.path}: {error}") from error
        except ValueError as error:
            raise Permanent(FailureCode.MODEL_INVALID, f"{self._spec.path}: {error}") from error
