"""What the loops ask of the world. Each Protocol has one contract suite in tests/contract, run on every adapter."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt

from agent.core.frame import Picture, Pixels


@dataclass(frozen=True, slots=True)
class Runtime:
    """Versions of what computes; `driver` is None where there is no NPU driver."""

    name: str
    version: str
    driver: str | None = None


@dataclass(frozen=True, slots=True)
class Segmentation:
    """Shapes: class_map (H, W) uint8, score (H, W) uint8 in 1/255: the softmax of the winning class where class_map is
    not 0, and 0 where it is. The arrays are valid until the next call of `segment` on the same segmenter.
    """

    class_map: npt.NDArray[np.uint8]
    score: npt.NDArray[np.uint8]
    inference_ms: float
    postprocess_ms: float


class Segmenter(Protocol):
    """One model on one NPU core. Owned by one thread, never shared.

    Shapes: inputs are (H, W, 3) uint8 RGB, C-contiguous, in the order of the manifest's inputs, (H, W) one of
    `shapes`.
    Errors: ShapeMismatch is Permanent(SHAPE_MISMATCH); no output, a timeout, a hang or a crash is Retryable with its
    NPU_* code, and the segmenter can be called again afterwards.
    """

    @property
    def runtime(self) -> Runtime: ...

    @property
    def shapes(self) -> Sequence[tuple[int, int]]: ...

    def segment(self, inputs: Sequence[Pixels]) -> Segmentation: ...

    def close(self) -> None:
        """Free the model's memory. A second call does nothing."""


class Camera(Protocol):
    """One source of pictures, owned by one capture thread.

    Errors: `open` raises Retryable(CAMERA_ABSENT); `read` raises Retryable(CAMERA_LOST) and Permanent(CAMERA_ENDED)
    when a file that is not looped is at its end. After an error the camera is closed and may be opened again.
    Both come back, with a picture or an error, within a few seconds; `close` may be called from another thread and
    makes a blocked `read` return or raise.
    """

    def open(self) -> None: ...

    def read(self) -> Picture:
        """Block until the next picture."""

    def close(self) -> None:
        """A second call does nothing."""
