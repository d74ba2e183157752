"""What a segmenter must know of a model."""

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, slots=True)
class ModelSpec:
    """Shapes are (height, width) in pixels, the preferred one first; classes counts the background."""

    path: str
    inputs: int
    shapes: tuple[tuple[int, int], ...]
    classes: int
    output: Literal["logits", "classMap"]
