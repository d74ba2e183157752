"""Models that load nothing and remember how often they were ended."""

from collections.abc import Mapping, Sequence

import numpy as np

from agent.core.frame import Pixels
from agent.core.update import ModelRef
from agent.errors import AgentError
from agent.loops.inspect import CameraPlan, Loaded
from agent.ports import Runtime, Segmentation
from tests.unit.a_bundle import a_bundle

SIZE_PX = 32
BUNDLE = a_bundle(size_px=SIZE_PX)


class Counted:
    """A segmenter that sees nothing, or raises `fault`."""

    runtime = Runtime("counted", "1")
    shapes: Sequence[tuple[int, int]] = ((SIZE_PX, SIZE_PX),)
    batch: int = 1

    def __init__(self, fault: AgentError | None = None) -> None:
        self.ended = 0
        self.calls = 0
        self._fault = fault

    def segment(self, inputs: Sequence[Pixels]) -> Segmentation:
        self.calls += 1
        if self._fault is not None:
            raise self._fault
        nothing = np.zeros((SIZE_PX, SIZE_PX), np.uint8)
        return Segmentation(nothing, nothing, 1.0, 0.1)

    def segment_all(self, items: Sequence[Sequence[Pixels]]) -> Sequence[Segmentation]:
        return [self.segment(inputs) for inputs in items]

    def close(self) -> None:
        self.ended += 1


def a_ref(number: int) -> ModelRef:
    return ModelRef("m", str(number), f"{number:064x}", number)


def a_model(
    number: int,
    segmenter: Counted | None = None,
    plans: Mapping[tuple[str, str | None], CameraPlan] | None = None,
) -> Loaded:
    ref = a_ref(number)
    info = BUNDLE.info(number, "1", None).model_copy(update={"version": ref.version})
    return Loaded(segmenter or Counted(), ref, info, BUNDLE, plans or {})
