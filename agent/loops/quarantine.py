"""How each lane's core stands among the others: measured with every frame, and tried while it is out."""

import random
import threading
import time
from collections.abc import Callable, Sequence

import numpy as np

from agent.core.cores import Call, Cores, Rules
from agent.core.frame import Pixels
from agent.errors import AgentError
from agent.loops.inspect import Loaded
from agent.loops.stats import Stats
from agent.ports import Runtime, Segmentation, Segmenter
from schemas.codes import FailureCode
from schemas.telemetry import CoreState

TRIAL_CALLS = 5
"""Of a trial, for each input shape of the model."""
_OF_CORE = frozenset(code for code in FailureCode if code.startswith("npu-"))


class Quarantine:
    """What all lanes share. `chance` is uniform in [0, 1)."""

    def __init__(
        self,
        rules: Rules | None = None,
        monotonic: Callable[[], float] = time.monotonic,
        chance: Callable[[], float] = random.random,
    ) -> None:
        self.lock = threading.Lock()
        self.cores = Cores(rules)
        self.monotonic = monotonic
        self.chance = chance

    def is_out(self, name: str) -> bool:
        with self.lock:
            return self.cores.state(name) is CoreState.OUT


class Metered:
    """A segmenter whose calls are noted, and how often its child had to be started again."""

    def __init__(self, loaded: Loaded) -> None:
        self._segmenter = loaded.segmenter
        self._sha256 = loaded.ref.manifest_sha256
        self._restarts = _restarts(loaded.segmenter)
        self.calls: list[Call] = []

    @property
    def runtime(self) -> Runtime:
        return self._segmenter.runtime

    @property
    def shapes(self) -> Sequence[tuple[int, int]]:
        return self._segmenter.shapes

    @property
    def batch(self) -> int:
        return self._segmenter.batch

    @property
    def restarts(self) -> int:
        return _restarts(self._segmenter) - self._restarts

    def segment(self, inputs: Sequence[Pixels]) -> Segmentation:
        made = self._segmenter.segment(inputs)
        self._note([inputs], [made])
        return made

    def segment_all(self, items: Sequence[Sequence[Pixels]]) -> Sequence[Segmentation]:
        made = self._segmenter.segment_all(items)
        self._note(items, made)
        return made

    def _note(self, items: Sequence[Sequence[Pixels]], made: Sequence[Segmentation]) -> None:
        shape = (len(items), *items[0][0].shape[:2])
        self.calls.append(((self._sha256, shape), sum(each.inference_ms for each in made)))

    def close(self) -> None:
        self._segmenter.close()


class Standing:
    """Of one core, owned by its lane. Methods that may change it return why the core went out, else None."""

    def __init__(self, name: str, quarantine: Quarantine, stats: Stats) -> None:
        self._name = name
        self._shared = quarantine
        self._stats = stats
        with quarantine.lock:
            quarantine.cores.join(name)
        self._tell()

    @property
    def is_out(self) -> bool:
        return self._shared.is_out(self._name)

    @property
    def is_due(self) -> bool:
        with self._shared.lock:
            return self._shared.cores.is_due(self._name, self._shared.monotonic())

    def has_model(self, *, is_ready: bool) -> None:
        with self._shared.lock:
            self._shared.cores.has_model(self._name, is_ready=is_ready)
        self._tell()

    def looked(self, metered: Metered, inference_ms: Sequence[float], *, is_compared: bool) -> str | None:
        """Frames without a fault, each with its time. `is_compared` False: their latency says nothing of the core."""
        for each in inference_ms:
            self._stats.core_looked(self._name, each)
        calls = metered.calls if is_compared else ()
        shared = self._shared
        with shared.lock:
            why = shared.cores.well(self._name, calls, shared.monotonic(), shared.chance())
        self._tell(metered.restarts)
        return why

    def failed(self, error: AgentError, metered: Metered | None = None) -> str | None:
        """A frame, or without `metered` a load. What no core is to blame for changes nothing."""
        if error.code not in _OF_CORE:
            return None
        if metered is not None:
            self._stats.core_looked(self._name, None)
        shared = self._shared
        with shared.lock:
            why = shared.cores.fault(self._name, error.text, shared.monotonic(), shared.chance())
        self._tell(metered.restarts if metered else 0)
        return why

    def try_again(self, loaded: Loaded) -> str | None:
        """A trial on empty pictures, so that no frame and no result is at stake. Why it stays out; None: it is back."""
        metered = Metered(loaded)
        shared = self._shared
        try:
            for height, width in metered.shapes:
                inputs = [np.zeros((height, width, 3), np.uint8)] * len(loaded.bundle.manifest.inputs)
                for _ in range(TRIAL_CALLS):
                    metered.segment(inputs)
        except AgentError as error:
            with shared.lock:
                shared.cores.fault(self._name, error.text, shared.monotonic(), shared.chance())
            why: str | None = error.text
        else:
            with shared.lock:
                why = shared.cores.tried(self._name, metered.calls, shared.monotonic(), shared.chance())
        self._tell(metered.restarts)
        return why

    def _tell(self, restarts: int = 0) -> None:
        with self._shared.lock:
            state = self._shared.cores.state(self._name)
        self._stats.core_is(self._name, state, restarts)


def _restarts(segmenter: Segmenter) -> int:
    """Of its child, where it has one."""
    restarts = getattr(segmenter, "restarts", 0)
    return restarts if isinstance(restarts, int) else 0
