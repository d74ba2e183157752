"""Which NPU cores inspect: one that is broken or slow is taken out and tried again, but never the last that works."""

import statistics
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import Enum, auto

from agent.core.backoff import Backoff
from schemas.telemetry import CoreState

_MOST_KINDS = 8

Kind = tuple[str, tuple[int, ...]]
"""A model's digest, and pictures, height and width of a call: calls of one kind cost the same on every core."""
Call = tuple[Kind, float]
"""One call of a segmenter, and the time of its inference in ms."""


@dataclass(frozen=True, slots=True)
class Rules:
    """A core is broken after `faults` in a row; while it is back from a trial for less than `window` frames, after one.
    It is slow where the median of its last `window` calls of a kind is more than `factor` times, and more than
    `least_ms` over, the median of the other cores' medians of as many calls. The wait before a trial is jittered and
    grows from at most `first_s` to at most `most_s`; a core that is well for `window` frames begins anew.
    """

    faults: int = 3
    factor: float = 3.0
    least_ms: float = 5.0
    window: int = 50
    first_s: float = 5.0
    most_s: float = 600.0


class _Why(Enum):
    BROKEN = auto()
    SLOW = auto()


@dataclass(slots=True)
class _Core:
    backoff: Backoff
    is_ready: bool = False
    faults: int = 0
    out: _Why | None = None
    due_s: float = 0.0
    is_returning: bool = False
    well: int = 0
    latencies_ms: dict[Kind, deque[float]] = field(default_factory=dict)

    @property
    def works(self) -> bool:
        return self.out is None and self.is_ready and not self.faults


class Cores:
    """Owned by one thread at a time. Times are monotonic seconds; `random` is uniform in [0, 1) and jitters a wait."""

    def __init__(self, rules: Rules | None = None) -> None:
        self._rules = rules or Rules()
        self._cores: dict[str, _Core] = {}

    def join(self, name: str) -> None:
        """A core that has no model yet; one that is known stays as it is."""
        self._cores.setdefault(name, _Core(Backoff(self._rules.first_s, self._rules.most_s)))

    def state(self, name: str) -> CoreState:
        core = self._cores[name]
        if core.out is not None:
            return CoreState.OUT
        if not core.is_ready:
            return CoreState.LOADING
        return CoreState.FAILING if core.faults else CoreState.WORKING

    def has_model(self, name: str, *, is_ready: bool) -> None:
        """Whether a model is loaded. What a core was found to be is not forgotten with its model."""
        self._cores[name].is_ready = is_ready

    def well(self, name: str, calls: Sequence[Call], now_s: float, random: float) -> str | None:
        """A frame without a fault. Return why the core is taken out, None where it stays."""
        core = self._cores[name]
        core.is_ready, core.faults = True, 0
        core.well += 1
        if core.well == self._rules.window:
            core.backoff, core.is_returning = core.backoff.succeeded(), False
        for kind, latency_ms in calls:
            self._note(core, kind, latency_ms)
        if core.out is not None or not self._has_other(name):
            return None
        for kind in {kind for kind, _ in calls}:
            taken = core.latencies_ms[kind]
            slow = self._slow(name, kind, taken) if len(taken) == self._rules.window else None
            if slow is not None:
                self._take_out(core, _Why.SLOW, now_s, random)
                return slow
        return None

    def fault(self, name: str, text: str, now_s: float, random: float) -> str | None:
        """A frame or a load that failed. Return why the core is taken out, None where it stays, or is out already."""
        core = self._cores[name]
        core.faults += 1
        if core.out is not None:
            self._put_off(core, now_s, random)
            return None
        if core.faults < (1 if core.is_returning else self._rules.faults) or not self._has_other(name):
            return None
        self._take_out(core, _Why.BROKEN, now_s, random)
        return f"{core.faults} fault{'s' if core.faults > 1 else ''} in a row: {text}"

    def is_due(self, name: str, now_s: float) -> bool:
        """Whether a core that is out is to be tried. A slow one is at once where no other works: it beats none."""
        core = self._cores[name]
        return now_s >= core.due_s or (core.out is _Why.SLOW and not self._has_other(name))

    def tried(self, name: str, calls: Sequence[Call], now_s: float, random: float) -> str | None:
        """A trial without a fault. Return why the core stays out; None, and it is in again, where it is well."""
        core = self._cores[name]
        slow = None
        if self._has_other(name):
            kinds = {kind: [ms for other, ms in calls if other == kind] for kind, _ in calls}
            slows = (self._slow(name, kind, latencies_ms) for kind, latencies_ms in kinds.items())
            slow = next((text for text in slows if text is not None), None)
        if slow is not None:
            core.out = _Why.SLOW
            self._put_off(core, now_s, random)
            return slow
        core.out, core.is_ready, core.faults = None, True, 0
        core.is_returning, core.well = True, 0
        return None

    def _note(self, core: _Core, kind: Kind, latency_ms: float) -> None:
        taken = core.latencies_ms.pop(kind, None) or deque(maxlen=self._rules.window)
        taken.append(latency_ms)
        core.latencies_ms[kind] = taken  # the last one used is the last to be forgotten
        if len(core.latencies_ms) > _MOST_KINDS:
            del core.latencies_ms[next(iter(core.latencies_ms))]

    def _has_other(self, name: str) -> bool:
        return any(core.works for other, core in self._cores.items() if other != name)

    def _slow(self, name: str, kind: Kind, latencies_ms: Sequence[float]) -> str | None:
        rules = self._rules
        windows = [c.latencies_ms.get(kind, ()) for other, c in self._cores.items() if other != name and c.works]
        medians = [statistics.median(window) for window in windows if len(window) == rules.window]
        if not medians:
            return None
        mine, theirs = statistics.median(latencies_ms), statistics.median(medians)
        if mine <= rules.factor * theirs or mine <= theirs + rules.least_ms:
            return None
        return f"an inference takes {mine:.1f} ms, on the other cores {theirs:.1f} ms"

    def _take_out(self, core: _Core, why: _Why, now_s: float, random: float) -> None:
        core.out = why
        core.latencies_ms.clear()
        self._put_off(core, now_s, random)

    def _put_off(self, core: _Core, now_s: float, random: float) -> None:
        core.backoff, wait_s = core.backoff.failed(random)
        core.due_s = now_s + wait_s
