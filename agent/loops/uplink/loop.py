"""The uplink's loop."""

import logging
import queue
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime
from enum import Enum

from agent.core.outgoing import Outgoing
from agent.errors import AgentError, Retryable
from agent.loops.uplink.backlog import Backlog, due_now
from agent.loops.uplink.settings import UplinkHooks, UplinkSettings
from agent.loops.uplink.urgent import Urgent
from agent.ports import Connected, Delivered, Disconnected, Link, LinkEvent, Refused, Reset, Spool
from schemas.codes import FailureCode

_log = logging.getLogger(__name__)

_EVENTS_A_TURN = 1000
_PAUSE_S = 1.0
_PARTS_OF_WINDOW = 2  # more at once leaves the link idle, less makes more switches
_WORTH_A_MARK = 16


class _Wake(Enum):
    NEW_ROWS = 1
    OLD_ROWS = 2
    OUTCOMES = 3


@dataclass(frozen=True, slots=True)
class _Flight:
    message: Outgoing
    row: int | None
    since_s: float


class Uplink:
    """`run` is its thread; `report`, `wake`, `reread` and `now` may be called from any.

    A row is marked sent when the broker has acknowledged it, and it may be sent twice, never less than once. New rows
    go first; what became unsent again behind them (a replay, a stall) follows when there are none.
    `clock` gives UTC, `mono` seconds that never jump.
    """

    def __init__(
        self,
        link: Link,
        spool: Spool,
        settings: UplinkSettings,
        hooks: UplinkHooks,
        *,
        clock: Callable[[], datetime],
        mono: Callable[[], float] = time.monotonic,
    ) -> None:
        self._link = link
        self._spool = spool
        self._settings = settings
        self._hooks = hooks
        self._clock = clock
        self._mono = mono
        self._queue: queue.SimpleQueue[LinkEvent | _Wake] = queue.SimpleQueue()
        self._delivered: deque[int] = deque()
        self._is_told = False
        self._waking = threading.Event()
        self._urgent = Urgent(settings.replies)
        self._backlog = Backlog(spool, settings.chunk_rows, self._is_out)
        self._limit = 0
        self._token = 0
        self._flights: dict[int, _Flight] = {}
        self._late: dict[int, _Flight] = {}
        self._rows_out: set[int] = set()
        self._acknowledged: dict[int, float] = {}
        self._dead: dict[int, str] = {}
        self._retry_at_s = 0.0
        self._reread_at_s = 0.0
        self.published = 0

    def report(self, event: LinkEvent) -> None:
        """Deliveries are gathered a little, to save thread switches, but not when no other is to come."""
        if not isinstance(event, Delivered):
            self._queue.put(event)
            return
        self._delivered.append(event.token)
        if not self._is_told and len(self._delivered) >= min(self._limit // _PARTS_OF_WINDOW, len(self._flights)):
            self._is_told = True
            self._queue.put(_Wake.OUTCOMES)

    def wake(self) -> None:
        """There are new rows. Many calls make one pass."""
        if not self._waking.is_set():
            self._waking.set()
            self._queue.put(_Wake.NEW_ROWS)

    def reread(self) -> None:
        """Old rows are unsent again: call it after a replay."""
        self._queue.put(_Wake.OLD_ROWS)

    def now(self, message: Outgoing) -> None:
        """Send past the spool. Of retained state the latest wins, and it is kept while connected only: all of it is
        due again after Connected. Replies wait for a connection, the oldest are dropped beyond the bound.
        """
        self._urgent.put(message)
        self.wake()

    def run(self, stop: threading.Event) -> None:
        """Until `stop` is set; then what is new in the spool has `drain_s` to reach the broker."""
        while not stop.is_set():
            self.turn(self._settings.poll_s)
        deadline_s = self._mono() + self._settings.drain_s
        while self._mono() < deadline_s and self._limit and not self._is_drained():
            self.turn(min(self._settings.poll_s, 0.05))
        self._mark()
        if self._acknowledged or self._flights:
            _log.info("%d rows will be sent again after the restart", len(self._acknowledged) + len(self._flights))

    def _is_drained(self) -> bool:
        return not (self._flights or self._urgent or self._backlog.has_new)

    def turn(self, wait_s: float) -> None:
        """Wait for something to do and do it: outcomes, then what can be published, then the marks and the next rows,
        while the link has its work.
        """
        if self._acknowledged:
            wait_s = min(wait_s, self._settings.mark_after_s)
        try:
            self._handle(self._queue.get(timeout=wait_s) if wait_s > 0 else self._queue.get_nowait())
            for _ in range(_EVENTS_A_TURN):
                self._handle(self._queue.get_nowait())
        except queue.Empty:
            self._settle()
        if self._limit:
            self._look_for_stalls()
        self._publish()
        if self._is_mark_due():
            self._mark()
        if 0 < self._limit <= len(self._flights):
            self._read_ahead()

    def _is_mark_due(self) -> bool:
        if self._dead or len(self._acknowledged) >= self._settings.mark_rows:
            return True
        if not self._acknowledged:
            return False
        if not self._flights and len(self._acknowledged) >= _WORTH_A_MARK:
            return True
        return self._mono() - next(iter(self._acknowledged.values())) >= self._settings.mark_after_s

    def _settle(self) -> None:
        now_s = self._mono()
        while self._delivered:
            flight = self._landed(self._delivered.popleft())
            if flight and flight.row is not None:
                self.published += 1
                self._acknowledged.setdefault(flight.row, now_s)

    def _handle(self, item: LinkEvent | _Wake) -> None:
        if item is _Wake.OUTCOMES:
            self._is_told = False  # before they are settled: what comes after this tells anew
        self._settle()
        match item:
            case _Wake.NEW_ROWS:
                self._waking.clear()
                self._backlog.grown()
            case _Wake.OLD_ROWS:
                self._backlog.reread()
            case Refused(token, _, reason):
                flight = self._landed(token)
                if flight:
                    if flight.row is not None:
                        self._dead[flight.row] = reason
                    _log.error("the broker refused a message on %s: %s", flight.message.topic, reason)
                    self._hooks.refused(flight.message.topic, item)
            case Connected() | Disconnected() | Reset():
                self._changed(item)

    def _changed(self, event: Connected | Disconnected | Reset) -> None:
        self._urgent.changed(connected=isinstance(event, Connected))
        self._limit = 0
        if isinstance(event, Connected):
            self._limit = max(1, min(self._settings.window, event.receive_maximum))
            now_s = self._mono()
            self._flights = {token: replace(flight, since_s=now_s) for token, flight in self._flights.items()}
            self._backlog.grown()
        elif isinstance(event, Reset):
            for flight in reversed(self._flights.values()):
                if flight.row is None:
                    self._urgent.put_back(flight.message)
            self._flights.clear()
            self._late.clear()
            self._rows_out.clear()
            self._backlog.restart()
        self._hooks.changed(event)

    def _landed(self, token: int) -> _Flight | None:
        flight = self._flights.pop(token, None)
        if flight is None:
            return self._late.pop(token, None)
        if flight.row is not None:
            self._rows_out.discard(flight.row)
        return flight

    def _look_for_stalls(self) -> None:
        """Give up waiting for what has no outcome. A late one still counts: the broker may just be slow."""
        now_s = self._mono()
        while self._flights:
            token, flight = next(iter(self._flights.items()))
            if now_s - flight.since_s < self._settings.stall_s:
                break
            self._landed(token)
            _log.warning("no outcome for a message on %s in %.0f s", flight.message.topic, self._settings.stall_s)
            if flight.row is not None:  # state and replies have lost their meaning by now
                self._late[token] = flight
                self._backlog.reread()
        while len(self._late) > 4 * self._settings.window:
            self._late.pop(next(iter(self._late)))
        if now_s >= self._reread_at_s:
            self._reread_at_s = now_s + self._settings.stall_s
            self._backlog.reread()

    def _publish(self) -> None:
        now_s, now = self._mono(), self._clock()
        while len(self._flights) < self._limit:
            urgent = self._urgent.take() if self._urgent else None
            if urgent is not None:
                if not self._hand_over(urgent, None, now_s):
                    self._urgent.put_back(urgent)
                    return
                continue
            if now_s < self._retry_at_s:
                return
            if len(self._acknowledged) >= self._settings.unmarked_rows or not self._publish_row(now_s, now):
                return

    def _publish_row(self, now_s: float, now: datetime) -> bool:
        try:
            spooled = self._backlog.take()
        except AgentError as error:
            self._spool_failed(error)
            return False
        if spooled is None:
            return False
        message = due_now(spooled, now)
        if message is None:
            self._acknowledged.setdefault(spooled.row, now_s)
        elif not self._hand_over(message, spooled.row, now_s):
            self._backlog.put_back(spooled)
            return False
        return True

    def _read_ahead(self) -> None:
        if self._mono() < self._retry_at_s:
            return
        try:
            self._backlog.read_ahead(self._limit)
        except AgentError as error:
            self._spool_failed(error)

    def _hand_over(self, message: Outgoing, row: int | None, now_s: float) -> bool:
        self._token += 1
        if not self._link.publish(message, self._token):
            return False
        self._flights[self._token] = _Flight(message, row, now_s)
        if row is not None:
            self._rows_out.add(row)
        return True

    def _mark(self) -> None:
        if self._mono() < self._retry_at_s:
            return
        try:
            for row, reason in list(self._dead.items()):
                self._spool.refused(row, reason)
                del self._dead[row]
            if self._acknowledged:
                self._spool.sent(list(self._acknowledged))
                self._acknowledged.clear()
        except AgentError as error:
            self._spool_failed(error)

    def _spool_failed(self, error: AgentError) -> None:
        """What is known stays in memory until the spool takes it. A corrupt spool has begun a new file by itself."""
        if not isinstance(error, Retryable) and error.code is not FailureCode.SPOOL_CORRUPT:
            raise error
        self._retry_at_s = self._mono() + (error.delay_s if isinstance(error, Retryable) else _PAUSE_S)
        _log.warning("the spool failed: %s", error)
        self._hooks.spool_failed(error)

    def _is_out(self, row: int) -> bool:
        return row in self._rows_out or row in self._acknowledged or row in self._dead
