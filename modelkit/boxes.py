"""From the agent's regions to boxes as DeepPCB's annotators drew them: parts of a defect in one, with room around."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from agent.core.vision import Region
from modelkit.data.deeppcb import Box
from modelkit.deeppcb_eval import Prediction


@dataclass(frozen=True, slots=True)
class Drawing:
    """Pixels. Parts of any class nearer than `touch_px` are one defect, of the class with the most score mass; parts
    of one class nearer than `join_px` too. A box is grown by `grow_px` on each side, at most to the picture's edge.
    The sizes are those that score best on the masks of DeepPCB's training part.
    """

    touch_px: int = 2
    join_px: int = 20
    grow_px: int = 9


@dataclass(frozen=True, slots=True)
class _Part:
    x1: int
    y1: int
    x2: int
    y2: int
    mass: tuple[float, ...]
    area_px: int

    @property
    def kind(self) -> int:
        return int(np.argmax(self.mass))

    def gap_px(self, other: "_Part") -> int:
        across = max(self.x1, other.x1) - min(self.x2, other.x2)
        down = max(self.y1, other.y1) - min(self.y2, other.y2)
        return max(across, down, 0)

    def with_(self, other: "_Part") -> "_Part":
        mass = tuple(a + b for a, b in zip(self.mass, other.mass, strict=True))
        corners = min(self.x1, other.x1), min(self.y1, other.y1), max(self.x2, other.x2), max(self.y2, other.y2)
        return _Part(*corners, mass, self.area_px + other.area_px)


def draw(regions: Sequence[Region], frame_hw: tuple[int, int], drawing: Drawing | None = None) -> list[Prediction]:
    """The surest first. Confidence is the score mass of the class over the area of all parts."""
    how = Drawing() if drawing is None else drawing
    classes = 1 + max((region.class_id for region in regions), default=0)
    parts = [_part(region, classes) for region in regions]
    parts = _joined(parts, how.touch_px, one_class=False)
    parts = _joined(parts, how.join_px, one_class=True)
    predictions = [_prediction(part, frame_hw, how.grow_px) for part in parts]
    return sorted(predictions, key=lambda each: -each.confidence)


def _part(region: Region, classes: int) -> _Part:
    x, y, wide, high = region.bbox
    mass = [0.0] * classes
    mass[region.class_id] = region.score * region.area_px
    return _Part(x, y, x + wide, y + high, tuple(mass), region.area_px)


def _joined(parts: list[_Part], nearer_px: int, *, one_class: bool) -> list[_Part]:
    """Joins until no two parts are near; what was joined may be near to more than its parts were."""
    done: list[_Part] = []
    waiting = list(parts)
    while waiting:
        part = waiting.pop()
        near = next(
            (o for o in done if part.gap_px(o) < nearer_px and (not one_class or part.kind == o.kind)),
            None,
        )
        if near is None:
            done.append(part)
        else:
            done.remove(near)
            waiting.append(part.with_(near))
    return done


def _prediction(part: _Part, frame_hw: tuple[int, int], grow_px: int) -> Prediction:
    high, wide = frame_hw
    box = Box(
        max(0, part.x1 - grow_px),
        max(0, part.y1 - grow_px),
        min(wide, part.x2 + grow_px),
        min(high, part.y2 + grow_px),
        part.kind,
    )
    return Prediction(box, part.mass[part.kind] / part.area_px)
