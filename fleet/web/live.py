"""The live view: one look at the database a moment, however many listen. All but the looking is on the event loop."""

import asyncio
import logging
from collections import deque
from collections.abc import AsyncIterator

from anyio import to_thread
from prometheus_client import Counter, Gauge

from fleet.errors import FleetError, Retryable
from fleet.ports import Query
from fleet.web.parts import ApiParts
from fleet.web.watch import Change, Kind, Watch, result_change

_PAGE = 500
_SHARE = 4
"""Looking takes at most one part in so many of the time, however large the fleet."""
_log = logging.getLogger(__name__)


class Listener:
    """What one client has not been sent yet. Cut off where that becomes too much; while older results are replayed to
    it, new ones do not wait here.
    """

    def __init__(self, kinds: frozenset[Kind], most: int, *, is_replaying: bool) -> None:
        self.kinds = kinds
        self.is_cut = False
        self.is_replaying = is_replaying
        self._most = most
        self._waiting: deque[Change] = deque()
        self._arrived = asyncio.Event()

    def offer(self, changes: list[Change]) -> None:
        kinds = self.kinds - {Kind.RESULT} if self.is_replaying else self.kinds
        wanted = [change for change in changes if change.kind in kinds]
        # However much comes at once: who had read what came before is not slow.
        if len(self._waiting) > self._most:
            self.cut()
        elif wanted:
            self._waiting.extend(wanted)
            self._arrived.set()

    def cut(self) -> None:
        self.is_cut = True
        self._waiting.clear()
        self._arrived.set()

    async def take(self, timeout_s: float) -> list[Change]:
        """All that waits; empty where nothing came in time, or where it was cut off."""
        try:
            async with asyncio.timeout(timeout_s):
                await self._arrived.wait()
        except TimeoutError:
            return []
        self._arrived.clear()
        taken = list(self._waiting)
        self._waiting.clear()
        return taken


class Hub:
    """Looks while anybody listens."""

    def __init__(self, parts: ApiParts) -> None:
        self._parts = parts
        self._watch = Watch(parts)
        self._listeners: set[Listener] = set()
        self._task: asyncio.Task[None] | None = None
        self._looking: asyncio.Lock | None = None
        self._count = Gauge("rkfleet_live_listeners", "Live views that are open.", registry=parts.metrics)
        self._cut = Counter("rkfleet_live_cut", "Live views cut off, as they were too slow.", registry=parts.metrics)

    @property
    def is_full(self) -> bool:
        return len(self._listeners) >= self._parts.settings.live_listeners

    async def join(self, kinds: frozenset[Kind], *, is_replaying: bool = False) -> Listener:
        """When it returns, no change is missed any more. Raises FleetError. Each `join` is followed by one `leave`."""
        await self._look(kinds)
        listener = Listener(kinds, self._parts.settings.live_backlog, is_replaying=is_replaying)
        self._listeners.add(listener)
        self._count.set(len(self._listeners))
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._run())
        return listener

    def leave(self, listener: Listener) -> None:
        self._listeners.discard(listener)
        self._count.set(len(self._listeners))

    async def replay(self, listener: Listener, row: int) -> AsyncIterator[Change]:
        """Results that were kept after this row, in order. At its end nothing is missing between them and those that
        wait for the listener; some may be in both.
        """
        while True:
            found = await to_thread.run_sync(self._find, row)
            for change in found:
                yield change
            row = found[-1].row if found else row
            if len(found) == _PAGE:
                continue
            if not listener.is_replaying:
                return
            # From here on they wait; those of the moment before are in the look that follows.
            listener.is_replaying = False

    def _find(self, row: int) -> list[Change]:
        return [result_change(each) for each in self._parts.results.find(Query(), limit=_PAGE, after_row=row)]

    async def _run(self) -> None:
        loop = asyncio.get_running_loop()
        took_s = 0.0
        while self._listeners:
            await asyncio.sleep(max(self._parts.settings.live_interval_s, (_SHARE - 1) * took_s))
            began = loop.time()
            try:
                await self._look()
            except Retryable as error:
                _log.warning("live view: %s", error)
            except FleetError as error:
                _log.error("live view: %s", error)
                self._cut_off(list(self._listeners))
            took_s = loop.time() - began

    async def _look(self, more: frozenset[Kind] = frozenset()) -> None:
        """At what the listeners want, and at `more`, for one who is about to join."""
        if self._looking is None:
            self._looking = asyncio.Lock()
        async with self._looking:
            kinds = more.union(*(listener.kinds for listener in self._listeners))
            changes = await to_thread.run_sync(self._watch.look, kinds)
        for listener in self._listeners:
            listener.offer(changes)
        self._cut_off([listener for listener in self._listeners if listener.is_cut])

    def _cut_off(self, listeners: list[Listener]) -> None:
        for listener in listeners:
            listener.cut()
            self.leave(listener)
            self._cut.inc()
