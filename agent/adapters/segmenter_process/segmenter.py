"""A segmenter whose model runs in a child process."""

import pickle
from collections.abc import Sequence

from agent.adapters.segmenter_process.process import Child, Ended, Interpreter, Silent
from agent.adapters.segmenter_process.wire import (
    MESSAGE_BYTES,
    Begin,
    Failed,
    Garbled,
    Loaded,
    Message,
    Segment,
    Segmented,
    encode,
)
from agent.core.frame import Pixels
from agent.core.model import ModelSpec
from agent.errors import AgentError, Permanent, Retryable
from agent.ports import Runtime, Segmentation, SegmenterFactory
from schemas.codes import FailureCode

GRACE_S = 1.0
RESTART_DELAY_S = 0.1
HELD_DELAY_S = 5.0


class ProcessSegmenter:
    """Any segmenter, run in a child: a hang, a crash or a leak of the NPU's library ends with the child.

    The child is started, and the model loaded, here and again by the next call after the child was lost. All inputs of
    one call have the same shape. The maps are views of memory shared with the child; each child has its own, so what
    an ended child wrote is never given as a result.

    `factory` is picklable and importable in the child; `deadline_s` bounds a call, of however many pictures, and
    `load_deadline_s` a load; `core` names the NPU core in errors.

    Errors: those of the segmenter in the child, as they are; Retryable(NPU_HUNG) when a deadline passed and
    Retryable(NPU_CRASHED) when the child ended by itself, both with the last lines of its log.
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
        self._deadline_s = deadline_s
        self._load_deadline_s = load_deadline_s
        self._core = core
        self._interpreter = interpreter or Interpreter()
        self._begin = pickle.dumps(Begin(spec, factory))
        if len(self._begin) > MESSAGE_BYTES:
            raise ValueError(f"a factory of {len(self._begin)} bytes is more than {MESSAGE_BYTES}")
        self._child: Child | None = None
        self._held: Child | None = None
        self._call = 0
        self._starts = 0
        self._closed = False
        self._start()

    @property
    def runtime(self) -> Runtime:
        return self._runtime

    @property
    def shapes(self) -> Sequence[tuple[int, int]]:
        return self._spec.shapes

    @property
    def pid(self) -> int | None:
        """None while no child runs."""
        child = self._child
        return child.pid if child else None

    @property
    def restarts(self) -> int:
        return self._starts - 1

    def memory_bytes(self) -> int:
        """Resident memory of the child; 0 while none runs. May be called from any thread."""
        child = self._child
        return child.memory_bytes() if child else 0

    @property
    def batch(self) -> int:
        return self._spec.batch

    def segment(self, inputs: Sequence[Pixels]) -> Segmentation:
        return self.segment_all([inputs])[0]

    def segment_all(self, items: Sequence[Sequence[Pixels]]) -> Sequence[Segmentation]:
        if self._closed:
            raise Permanent(FailureCode.INTERNAL, f"{self._core}: the segmenter is closed")
        shape = self._spec.shape_of(items, self._core)
        child = self._child or self._start()
        child.memory.put(items, shape)
        self._call += 1
        made = self._ask(child, encode(Segment(self._call, *shape, len(items))), self._deadline_s)
        if not isinstance(made, Segmented):
            raise self._lost(child, f"answered a call with {type(made).__name__}")
        count = len(items)
        times_ms = made.inference_ms / count, made.postprocess_ms / count
        return [Segmentation(*child.memory.maps(shape, item), *times_ms) for item in range(count)]

    def close(self) -> None:
        """End the child, by force after GRACE_S. The memory of maps still in use is freed with them."""
        self._closed = True
        child, self._child = self._child, None
        if child is not None:
            child.end(GRACE_S)

    def _start(self) -> Child:
        """Start a child and have it load the model."""
        if self._held is not None and not self._held.gone():
            text = f"{self._core}: the killed child {self._held.pid} does not end, its driver holds it"
            raise Retryable(FailureCode.NPU_HUNG, text, delay_s=HELD_DELAY_S)
        self._held = None
        try:
            child = Child(self._spec, self._interpreter)
        except OSError as error:
            raise Retryable(FailureCode.NPU_FAULT, f"{self._core}: no child can be started: {error}") from error
        self._starts += 1
        self._call = 0
        self._child = child
        try:
            loaded = self._ask(child, self._begin, self._load_deadline_s)
        except AgentError:
            if self._child is not None:
                self._drop(child, GRACE_S)
            raise
        if not isinstance(loaded, Loaded):
            raise self._lost(child, f"answered the load with {type(loaded).__name__}")
        self._runtime = loaded.runtime
        return child

    def _ask(self, child: Child, data: bytes, deadline_s: float) -> Message:
        """Raise the error that the child answers, or the loss of the child."""
        try:
            child.send(data)
            answer = child.receive(self._call, deadline_s)
        except Silent:
            what = "call" if self._call else "load"
            self._drop(child, 0)
            text = f"{self._core}: no answer to a {what} within {deadline_s:g} s, child {child.pid} killed"
            raise self._retry(FailureCode.NPU_HUNG, text, child) from None
        except (Ended, Garbled) as error:
            raise self._lost(child, str(error)) from error
        if isinstance(answer, Failed):
            raise answer.error
        return answer

    def _lost(self, child: Child, reason: str) -> Retryable:
        self._drop(child, 0 if reason else GRACE_S)
        text = f"{self._core}: child {child.pid} ended in a {'call' if self._call else 'load'}: {child.exit_text()}"
        return self._retry(FailureCode.NPU_CRASHED, f"{text}; it {reason}" if reason else text, child)

    def _drop(self, child: Child, grace_s: float) -> None:
        """Without grace it is killed at once; with it, its own exit code is seen."""
        self._child = None
        gone = child.end(grace_s) if grace_s else child.kill()
        self._held = None if gone else child

    def _retry(self, code: FailureCode, text: str, child: Child) -> Retryable:
        log = child.log_text()
        return Retryable(code, f"{text}; its log ends: {log}" if log else text, delay_s=RESTART_DELAY_S)
