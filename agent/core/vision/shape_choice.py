"""Which of a model's input shapes the next picture gets: a busy scene a larger one, with hysteresis. Pure."""

from dataclasses import dataclass
from typing import Self

from agent.core.vision.geometry import Size
from schemas.manifest import Manifest


@dataclass(frozen=True, slots=True)
class ShapeRule:
    """The model's shapes by rising area, and the complexities that part them; see `Adaptive` of the manifest.

    `first` is the index of the preferred shape, with which a camera begins.
    """

    shapes: tuple[Size, ...]
    thresholds: tuple[float, ...]
    hysteresis: float
    hold_frames: int
    first: int

    @classmethod
    def of(cls, manifest: Manifest) -> Self | None:
        """None where the model's input is not adaptive: its preferred shape is the only one that is used then."""
        adaptive, preferred = manifest.adaptive, manifest.inputs[0].shapes
        if adaptive is None:
            return None
        shapes = tuple(sorted(preferred, key=lambda shape: shape[0] * shape[1]))
        first = shapes.index(preferred[0])
        return cls(shapes, tuple(adaptive.thresholds), adaptive.hysteresis, adaptive.hold_frames, first)

    def asked(self, index: int, complexity: float) -> int:
        """The shape for this complexity where `index` is in use: another only past the threshold by the hysteresis."""
        least = sum(complexity >= threshold + self.hysteresis for threshold in self.thresholds)
        most = sum(complexity >= threshold - self.hysteresis for threshold in self.thresholds)
        return min(max(index, least), most)


@dataclass(frozen=True, slots=True)
class Choice:
    """`index` is in use; the last `held` pictures all asked for a smaller one, at most for `aim`."""

    index: int
    aim: int
    held: int = 0

    @classmethod
    def begin(cls, rule: ShapeRule) -> Self:
        return cls(rule.first, rule.first)

    def saw(self, rule: ShapeRule, complexity: float) -> "Choice":
        """What a picture of this complexity gets. A larger shape comes at once: the picture that needs it must not be
        judged by what went before. A smaller one comes with the last of `hold_frames` pictures in a row that ask for
        one.
        """
        asked = rule.asked(self.index, complexity)
        if asked >= self.index:
            return Choice(asked, asked)
        aim, held = max(asked, self.aim) if self.held else asked, self.held + 1
        return Choice(aim, aim) if held >= rule.hold_frames else Choice(self.index, aim, held)
