"""From a model's output to a class map and a score map. Runs beside the NPU, in the segmenter's process."""

from dataclasses import dataclass, replace
from typing import Any, Self

import cv2
import numpy as np
import numpy.typing as npt

Map = npt.NDArray[np.uint8]
CHUNK_PX = 32768
"""Foreground pixels worked on at once: bounds the memory of a frame that is all defect."""


class NotFinite(ValueError):
    """The model gave NaN or infinity: no verdict can rest on it."""


@dataclass(frozen=True, slots=True, eq=False)
class Scratch:
    """What `decode` writes to; reused, so that nothing large is allocated for a frame.

    Shapes: all (H, W); class_map and score are the result and may lie in shared memory, best has the logits' dtype.
    """

    class_map: Map
    score: Map
    mask: Map
    best: npt.NDArray[Any]

    @classmethod
    def of(cls, height: int, width: int, dtype: npt.DTypeLike = np.float32) -> Self:
        shape = (height, width)
        class_map, score, mask = np.zeros((3, *shape), np.uint8)
        return cls(class_map, score, mask, np.zeros(shape, dtype))

    @classmethod
    def several(cls, count: int, height: int, width: int) -> tuple[Self, ...]:
        """For the pictures of one call: each has results of its own, all share the rest."""
        first = cls.of(height, width)
        maps = np.zeros((count - 1, 2, height, width), np.uint8)
        return (first, *(replace(first, class_map=class_map, score=score) for class_map, score in maps))


def decode(
    logits: npt.NDArray[np.float32] | npt.NDArray[np.int8], scratch: Scratch | None = None, scale: float = 1.0
) -> tuple[Map, Map]:
    """The winning class and its softmax.

    Shapes: logits (C, H, W), C from 2 to 255, float32 or int8; `scale` is the step of int8 logits (their zero point
    falls out). Returns class_map and score, (H, W) uint8, score in 1/255 where the class is not 0 and 0 elsewhere;
    they are scratch's own arrays. Of equal classes the first wins.
    Errors: NotFinite; ValueError for other shapes and types.
    """
    if logits.ndim != 3 or not 2 <= logits.shape[0] <= 255 or logits.dtype not in {np.dtype("f4"), np.dtype("i1")}:
        raise ValueError(f"logits are (C, H, W) float32 or int8, not {logits.shape} {logits.dtype}")
    out = scratch or Scratch.of(logits.shape[1], logits.shape[2], logits.dtype)
    _check(out, logits.shape[1:], logits.dtype)
    if logits.dtype == np.float32 and not np.isfinite(cv2.sumElems(logits[0])[0]):
        # The last layer mixes the same features into every class, so what is not finite shows in class 0 too.
        raise NotFinite("the model's output is not finite")
    best = logits[1]
    for plane in logits[2:]:
        best = cv2.max(best, plane, dst=out.best)
    cv2.compare(best, logits[0], cv2.CMP_GT, dst=out.mask)
    out.class_map.fill(0)
    out.score.fill(0)
    if not cv2.countNonZero(out.mask):
        return out.class_map, out.score
    # compare writes 0 and 255; numpy finds what is not 0 in bool several times faster than in uint8.
    where = np.flatnonzero(out.mask.view(np.bool_))
    by_class = logits.reshape(logits.shape[0], -1)
    for start in range(0, len(where), CHUNK_PX):
        part = where[start : start + CHUNK_PX]
        ids, score = _softmax(by_class.take(part, axis=1).astype(np.float32), scale)
        out.class_map.reshape(-1)[part] = ids
        out.score.reshape(-1)[part] = score
    return out.class_map, out.score


def _softmax(logits: npt.NDArray[np.float32], scale: float) -> tuple[Map, Map]:
    """Winner and its softmax in 1/255 of (C, n) logits."""
    ids = (logits[1:].argmax(axis=0) + 1).astype(np.uint8)
    logits -= logits[1:].max(axis=0)
    logits *= np.float32(scale)
    np.exp(logits, out=logits)
    return ids, np.rint(np.float32(255) / logits.sum(axis=0)).astype(np.uint8)


def decode_class_map(
    output: npt.NDArray[np.integer[Any]], classes: int, scratch: Scratch | None = None
) -> tuple[Map, Map]:
    """For models that give the class map themselves: score is 255 at every defect.

    Shapes: output (H, W), any integer type; `classes` counts the background. Returns as `decode`.
    Errors: ValueError for other shapes and types, and for a class that the model has not.
    """
    if output.ndim != 2 or output.dtype.kind not in "iu" or output.size == 0:
        raise ValueError(f"a class map is (H, W) of integers, not {output.shape} {output.dtype}")
    if int(output.min()) < 0 or int(output.max()) >= classes:
        raise ValueError(f"the class map has ids from {output.min()} to {output.max()}, the model {classes} classes")
    out = scratch or Scratch.of(*output.shape)
    _check(out, output.shape, None)
    np.copyto(out.class_map, output, casting="unsafe")
    np.not_equal(out.class_map, 0, out=out.mask.view(np.bool_))
    np.multiply(out.mask, 255, out=out.score)
    return out.class_map, out.score


def _check(scratch: Scratch, shape: tuple[int, ...], dtype: npt.DTypeLike | None) -> None:
    arrays = [scratch.class_map, scratch.score, scratch.mask, *([scratch.best] if dtype is not None else [])]
    if any(array.shape != shape or not array.flags.c_contiguous for array in arrays):
        raise ValueError(f"the scratch arrays do not fit an output of {shape}")
    if dtype is not None and scratch.best.dtype != dtype:
        raise ValueError(f"the scratch is for {scratch.best.dtype}, the logits are {dtype}")
