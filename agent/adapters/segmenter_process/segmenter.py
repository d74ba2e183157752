"""A segmenter whose model runs in a child process."""

import pickle
from collections.abc import Sequence

from agent.adapters.segmenter_process.layouts import Pictures
from agent.adapters.segmenter_process.process import Interpreter
from agent.adapters.segmenter_process.supervised import Role, Supervised
from agent.adapters.segmenter_process.wire import Begin, Segment, Segmented
from agent.core.frame import Pixels
from agent.core.model import ModelSpec
from agent.errors import Permanent
from agent.ports import Runtime, Segmentation, SegmenterFactory
from schemas.codes import FailureCode


class ProcessSegmenter:
    """Any segmenter, run in a child: a hang, a crash or a leak of the NPU's library ends with the child.

    The child is started, and the model loaded, here and again by the next call after the child was lost. All inputs of
    one call have the same shape. The maps are views of memory shared with the child; each child has its own, so what
    an ended child wrote is never given as a result.

    `factory` is picklable and importable in the child; `deadline_s` bounds a call, of however many pictures, and
    `load_deadline_s` a load; `core` names the NPU core in errors.

    Errors: those of the segmenter in the child, as they are, and those of Supervised.
    """

    def __init__(
        self,
        factory: SegmenterFactory,
        spec: ModelSpec,
        *,
        deadline_s: float,
        load_deadline_s: float,
        core: str = "npu",
        interpreter: Interpreter | None = None,
    ) -> None:
        self._spec = spec
        self._core = core
        begin = pickle.dumps(Begin(spec, factory))
        slots = Pictures.slots(spec)
        role = Role(core, slots, begin, deadline_s, load_deadline_s, interpreter or Interpreter())
        self._supervised = Supervised(role)
        self._closed = False
        self._supervised.ready()

    @property
    def runtime(self) -> Runtime:
        return self._supervised.runtime

    @property
    def shapes(self) -> Sequence[tuple[int, int]]:
        return self._spec.shapes

    @property
    def batch(self) -> int:
        return self._spec.batch

    @property
    def pid(self) -> int | None:
        """None while no child runs."""
        child = self._supervised.child
        return child.pid if child else None

    @property
    def restarts(self) -> int:
        return self._supervised.restarts

    def memory_bytes(self) -> int:
        """Resident memory of the child; 0 while none runs. May be called from any thread."""
        child = self._supervised.child
        return child.memory_bytes() if child else 0

    def segment(self, inputs: Sequence[Pixels]) -> Segmentation:
        return self.segment_all([inputs])[0]

    def segment_all(self, items: Sequence[Sequence[Pixels]]) -> Sequence[Segmentation]:
        if self._closed:
            raise Permanent(FailureCode.INTERNAL, f"{self._core}: the segmenter is closed")
        shape = self._spec.shape_of(items, self._core)
        count = len(items)
        pictures = Pictures(self._spec, self._supervised.ready())
        pictures.put(items, shape)
        self._supervised.ask(lambda call: Segment(call, *shape, count))
        made = self._supervised.answer()
        if not isinstance(made, Segmented):
            raise self._supervised.not_believed(made)
        times_ms = made.inference_ms / count, made.postprocess_ms / count
        return [Segmentation(*pictures.maps(shape, item), *times_ms) for item in range(count)]

    def close(self) -> None:
        self._closed = True
        self._supervised.close()
