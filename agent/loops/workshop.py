"""One thread for the long steps of an update: download, verify, load, self-test, hand over to the lanes."""

import logging
import queue
import threading
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

from agent.core import health
from agent.core.bundle import Bundle, GoldenFrame
from agent.core.health import Healthy
from agent.core.update import Crowded, Event, Failed, Fetched, Loaded, ModelRef, SelfTested, Verified
from agent.errors import AgentError, Permanent, Retryable
from agent.loops import inspect
from agent.loops.generations import replanned
from agent.loops.orders import Flip, LaneOrder, Release, Replan, StartShadow
from agent.ports import Fetcher, Segmenter, Store, Trust
from schemas.codes import FailureCode
from schemas.state import DesiredModel

log = logging.getLogger(__name__)

_LOOK_AT_STOP_S = 0.5
_RELEASED_WITHIN_S = 15.0
_BLAMED_ON_THE_MODEL = frozenset(
    {FailureCode.NPU_CRASHED, FailureCode.NPU_HUNG, FailureCode.NPU_TIMEOUT, FailureCode.NPU_FAULT}
)
"""While the current model runs beside it on the same NPU, a candidate that fails in these ways is not tried again."""
_LOST_ON_THE_DISK = frozenset({FailureCode.MODEL_MISSING, FailureCode.MODEL_DIGEST_MISMATCH})
"""What was right when it was downloaded and is so no longer: the disk's fault, mended by another download."""


class Models(Protocol):
    """What the workshop needs of bundles and cores. Errors: AgentError."""

    def open(self, ref: ModelRef) -> Bundle:
        """Every file verified anew."""

    def examine(self, bundle: Bundle) -> None:
        """All that can be known before the NPU sees the file: its header, and whether the settings fit the classes."""

    def load(self, lane: str, ref: ModelRef, bundle: Bundle) -> "inspect.Loaded": ...

    def golden(self, bundle: Bundle) -> Sequence[GoldenFrame]: ...

    def has_room(self, bundle: Bundle, lanes: int) -> bool:
        """Whether the memory that the manifest announces is free; True where it announces none."""


@dataclass(frozen=True, slots=True)
class WorkshopParts:
    trust: Trust
    store: Store
    fetcher: Fetcher
    models: Models
    lanes: Mapping[str, Callable[[LaneOrder], None]]
    retire: Callable[[Segmenter], None]
    tell: Callable[[Event], None]
    is_out: Callable[[str], bool] = lambda _lane: False
    """A lane whose core is out has no say in an update, and gets the model when the core is back."""


@dataclass(frozen=True, slots=True)
class _Task:
    work: int
    stop: threading.Event
    body: Callable[[int, threading.Event], Event | None]


class Workshop:
    """Methods only queue work and may be called from any thread; each ends in an event for `tell`, unless it was
    abandoned.
    """

    def __init__(self, parts: WorkshopParts) -> None:
        self._parts = parts
        self._tasks: queue.SimpleQueue[_Task] = queue.SimpleQueue()
        self._stop = threading.Event()
        self._under_way: _Task | None = None
        self._candidates: dict[str, inspect.Loaded] = {}
        self.progress: float | None = None

    def run(self, stop: threading.Event) -> None:
        """Until stopped. Work that crashed has failed, and is told as such when the loop is started again."""
        crashed, self._under_way = self._under_way, None
        if crashed is not None:
            self._parts.tell(Failed(crashed.work, code=FailureCode.INTERNAL, text="a step of the update crashed"))
        while not stop.is_set():
            self.turn(_LOOK_AT_STOP_S)
        self._drop()

    @property
    def is_idle(self) -> bool:
        """No step waits to be done."""
        return self._tasks.empty()

    def turn(self, wait_s: float) -> None:
        """Wait for one step and do it."""
        try:
            task = self._tasks.get(timeout=wait_s) if wait_s > 0 else self._tasks.get_nowait()
        except queue.Empty:
            return
        self._under_way = task
        if not task.stop.is_set():
            self._one(task)
        self._under_way = None

    def wake(self) -> None:
        """End a download that is under way, or the wait for work; call it before waiting for the loop's end."""
        self._stop.set()
        self._queue(-1, lambda _work, _stop: None)

    def abandon(self) -> None:
        """All that is queued or under way; candidates that no lane has yet are ended."""
        self._stop.set()
        self._stop = threading.Event()
        self._queue(-1, lambda _work, _stop: self._drop())

    def fetch(self, work: int, desired: DesiredModel, pinned: Collection[str]) -> None:
        self._queue(work, lambda work, stop: self._fetch(work, stop, desired, pinned))

    def verify(self, work: int, ref: ModelRef) -> None:
        self._queue(work, lambda work, _stop: self._verify(work, ref))

    def load(self, work: int, ref: ModelRef, *, alone: bool) -> None:
        self._queue(work, lambda work, stop: self._load(work, stop, ref, alone=alone))

    def self_test(self, work: int) -> None:
        self._queue(work, self._self_test)

    def start_shadow(self, work: int) -> None:
        self._queue(work, lambda work, _stop: self._start_shadow(work))

    def flip(self, work: int) -> None:
        self._queue(work, lambda work, _stop: self._flip(work))

    def replan(self, order: Replan) -> None:
        """Cameras or recipes have changed; candidates follow, and so do lanes that have got one meanwhile."""
        self._queue(-1, lambda _work, _stop: self._replan(order))

    def clean_up(self, pinned: Collection[str]) -> None:
        self._queue(-1, lambda _work, _stop: self._parts.store.prune(pinned))

    def _queue(self, work: int, body: Callable[[int, threading.Event], Event | None]) -> None:
        self._tasks.put(_Task(work, self._stop, body))

    def _one(self, task: _Task) -> None:
        try:
            event = task.body(task.work, task.stop)
        except AgentError as error:
            event = _failed(task.work, error)
        if event is not None and task.work >= 0 and not task.stop.is_set():
            self._parts.tell(event)

    def _fetch(self, work: int, stop: threading.Event, desired: DesiredModel, pinned: Collection[str]) -> Event:
        parts = self._parts
        self.progress = 0.0
        try:
            chosen = parts.trust.authorise(desired, stop)
            parts.store.make_room(chosen, pinned)
            missing = parts.store.missing(chosen)
            total = max(1, sum(file.max_bytes for file in missing))
            done = 0
            for file in missing:
                before = done

                def tell(size: int, before: int = before) -> None:
                    self.progress = min(1.0, (before + size) / total)

                parts.fetcher.fetch(file, desired.urls, parts.store.partial(file.sha256), stop, progress=tell)
                parts.store.add(file.sha256)
                done += file.max_bytes
        finally:
            self.progress = None
        return Fetched(work)

    def _verify(self, work: int, ref: ModelRef) -> Event:
        self._parts.models.examine(self._open(ref))
        return Verified(work)

    def _open(self, ref: ModelRef) -> Bundle:
        try:
            return self._parts.models.open(ref)
        except Permanent as error:
            if error.code not in _LOST_ON_THE_DISK:
                raise
            raise Retryable(error.code, error.text) from error

    def _load(self, work: int, stop: threading.Event, ref: ModelRef, *, alone: bool) -> Event | None:
        models, lanes = self._parts.models, self._parts.lanes
        self._drop()
        bundle = self._open(ref)
        if alone:
            self._release(work)
        able = [lane for lane in lanes if not self._parts.is_out(lane)] or list(lanes)
        if not alone and not models.has_room(bundle, len(able)):
            return Crowded(work)
        try:
            for lane in able:
                if stop.is_set():
                    return None
                self._candidates[lane] = models.load(lane, ref, bundle)
        except AgentError as error:
            self._drop()
            if error.code is FailureCode.NPU_OUT_OF_MEMORY:
                return Crowded(work)
            return _blamed(work, error)
        return Loaded(work)

    def _release(self, work: int) -> None:
        gone = []
        for send in self._parts.lanes.values():
            done = threading.Event()
            send(Release(work, done))
            gone.append(done)
        for done in gone:
            done.wait(_RELEASED_WITHIN_S)

    def _self_test(self, work: int, stop: threading.Event) -> Event | None:
        """Golden frames through every core's child; the worst counts."""
        verdict: Healthy | None = None
        for loaded in self._candidates.values():
            bundle = loaded.bundle
            classes, golden = len(bundle.manifest.classes), bundle.manifest.golden
            agreements = []
            for frame in self._parts.models.golden(bundle):
                if stop.is_set():
                    return None
                try:
                    seen = loaded.segmenter.segment(frame.inputs)
                except AgentError as error:
                    return _blamed(work, error)
                agreements.append(health.agreement(seen.class_map, frame.class_map, classes))
            outcome = health.self_test(agreements, golden.least_agreement)
            if not isinstance(outcome, Healthy):
                return Failed(work, outcome.measured, code=outcome.code, text=outcome.text)
            if verdict is None or outcome.measured["selfTestAgreement"] < verdict.measured["selfTestAgreement"]:
                verdict = outcome
        return SelfTested(work, verdict.measured if verdict else {})

    def _start_shadow(self, work: int) -> None:
        for lane, loaded in self._candidates.items():
            self._parts.lanes[lane](StartShadow(work, loaded))
        self._candidates = {}

    def _flip(self, work: int) -> None:
        for lane, send in self._parts.lanes.items():
            send(Flip(work, self._candidates.pop(lane, None)))

    def _replan(self, order: Replan) -> None:
        for lane, loaded in self._candidates.items():
            self._candidates[lane] = replanned(loaded, order)
        for send in self._parts.lanes.values():
            send(order)

    def _drop(self) -> None:
        candidates, self._candidates = self._candidates, {}
        for loaded in candidates.values():
            self._parts.retire(loaded.segmenter)


def _failed(work: int, error: AgentError) -> Failed:
    is_retryable = isinstance(error, Retryable)
    delay_s = error.delay_s if isinstance(error, Retryable) else 0.0
    return Failed(work, code=error.code, text=error.text, is_retryable=is_retryable, delay_s=delay_s)


def _blamed(work: int, error: AgentError) -> Failed:
    failed = _failed(work, error)
    return replace(failed, is_retryable=failed.is_retryable and error.code not in _BLAMED_ON_THE_MODEL)
