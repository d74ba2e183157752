"""The pictures of one call on their way through the stages."""

import contextlib
from collections.abc import Sequence

import numpy as np

from agent.adapters.segmenter_process.layouts import Tensors
from agent.adapters.segmenter_process.process import wait_for_any
from agent.adapters.segmenter_process.supervised import Supervised
from agent.adapters.segmenter_process.wire import Compute, Computed
from agent.core.frame import Pixels
from agent.errors import AgentError
from agent.ports import Segmentation


class Station:
    """A stage, its memory, and the picture that is with it: None, or its number, under way or done."""

    def __init__(self, stage: Supervised, tensors: Tensors) -> None:
        self.stage = stage
        self.tensors = tensors
        self.item: int | None = None
        self.is_done = False

    @property
    def is_free(self) -> bool:
        return self.item is None

    @property
    def is_busy(self) -> bool:
        return self.item is not None and not self.is_done

    def begin(self, item: int, shape: int) -> None:
        """On what lies in its memory."""
        self.item, self.is_done = item, False
        self.stage.ask(lambda call: Compute(call, shape, item))

    def finish(self) -> Computed:
        """Wait for the answer. After an error nothing is with the stage any more: it has answered, or is lost."""
        item, self.item = self.item, None
        made = self.stage.answer()
        if not isinstance(made, Computed) or made.item != item:
            raise self.stage.not_believed(made)
        self.item, self.is_done = item, True
        return made

    def release(self) -> None:
        self.item = None


class Flow:
    """For one call; `shape` is the number of the input shape. The stations stand in the order of the stages."""

    def __init__(self, stations: Sequence[Station], shape: int) -> None:
        self._stations = stations
        self._shape = shape
        self._inference_ms: dict[int, float] = {}
        self._postprocess_ms: dict[int, float] = {}

    def run(self, items: Sequence[Sequence[Pixels]]) -> list[Segmentation]:
        """Errors: that of the first stage that fails; none is at work then."""
        waiting = list(range(len(items)))[::-1]
        left = len(items)
        try:
            while left:
                self._move_on(items, waiting)
                left -= self._finish_one()
        except AgentError:
            self._settle()
            raise
        last = self._stations[-1].tensors
        return [
            Segmentation(*last.maps(self._shape, item), self._inference_ms[item], self._postprocess_ms[item])
            for item in range(len(items))
        ]

    def _move_on(self, items: Sequence[Sequence[Pixels]], waiting: list[int]) -> None:
        """From the last stage to the first, so that each one that becomes free is filled by the one before it."""
        for number in range(len(self._stations) - 1, -1, -1):
            station = self._stations[number]
            if not station.is_free:
                continue
            if number == 0:
                if waiting:
                    item = waiting.pop()
                    _copy([picture[None] for picture in items[item]], station.tensors.takes(self._shape))
                    station.begin(item, self._shape)
                continue
            before = self._stations[number - 1]
            if before.item is not None and before.is_done:
                _copy(before.tensors.gives(self._shape), station.tensors.takes(self._shape))
                item = before.item
                before.release()
                station.begin(item, self._shape)

    def _finish_one(self) -> int:
        """Wait for a stage; returns 1 when a picture has left the last one. A stage whose time is up raises."""
        busy = {child: station for station in self._stations if station.is_busy and (child := station.stage.child)}
        soonest = min(busy.values(), key=lambda station: station.stage.left_s)
        heard = wait_for_any(list(busy), soonest.stage.left_s)
        station = busy[heard] if heard else soonest
        item = station.item
        made = station.finish()
        if item is not None:
            self._inference_ms[item] = self._inference_ms.get(item, 0.0) + made.inference_ms
            self._postprocess_ms[item] = self._postprocess_ms.get(item, 0.0) + made.postprocess_ms
        if station is not self._stations[-1]:
            return 0
        station.release()
        return 1

    def _settle(self) -> None:
        """Wait for those that are still at work, or end them."""
        for station in self._stations:
            if station.is_busy and station.stage.child is not None:
                with contextlib.suppress(AgentError):  # the error that is raised came first
                    station.finish()


def _copy(sources: Sequence[np.ndarray], targets: Sequence[np.ndarray]) -> None:
    for source, target in zip(sources, targets, strict=True):
        np.copyto(target, source)
