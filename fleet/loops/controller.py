"""Rollouts: what boards have reported goes in, state and orders are committed, in turns of a second or less.

Everything is read from the database and written there in one transaction, so that the process may die at any step.
"""

import logging
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime

from fleet.core.rollout import (
    Enrolled,
    Event,
    Left,
    Observed,
    Reported,
    Rollout,
    Superseded,
    Ticked,
    place,
    steps,
)
from fleet.core.roster import Node, NodeId
from fleet.errors import Conflict, LeaseLost, NotFound, Retryable
from fleet.loops.directory import OVERLAP
from fleet.loops.lead import Lead
from fleet.loops.meters import Meters
from fleet.ports import Lease, Rollouts, Roster

log = logging.getLogger(__name__)
_LEAST_TURN_S = 0.1
_LISTED = 200
_ATTEMPTS = 4


@dataclass(frozen=True, slots=True)
class Pace:
    """`tick_s`: how often a rollout looks at the clock. `whole_s`: how often all nodes are looked at, not only those
    that have changed, for boards that have left and filters that ask for the time.
    """

    tick_s: float = 1.0
    list_s: float = 2.0
    whole_s: float = 60.0


@dataclass(frozen=True, slots=True)
class Sight:
    """What one turn goes by. `taken`: boards for which a newer rollout answers, and which."""

    changed: Sequence[Node]
    whole: Sequence[Node] | None
    is_ticking: bool
    now: datetime
    taken: dict[NodeId, str]


class Controller:
    """`is_hearing`: whether what boards say arrives. Where it does not, no rollout's clock moves: that nobody hears a
    board is not the board's silence. `decided` is called after orders were committed.
    """

    def __init__(
        self,
        stores: tuple[Roster, Rollouts],
        lead: Lead,
        now: Callable[[], datetime],
        *,
        meters: Meters,
        is_hearing: Callable[[], bool],
        pace: Pace = Pace(),
    ) -> None:
        self._roster, self._rollouts = stores
        self._lead = lead
        self._now = now
        self._meters = meters
        self._is_hearing = is_hearing
        self._pace = pace
        self._wake = threading.Event()
        self._held: dict[str, Rollout] = {}
        self._epoch = -1
        self._since: datetime | None = None
        self._listed_s = self._whole_s = self._ticked_s = 0.0
        self.decided: Callable[[], None] = _nobody

    def wake(self) -> None:
        """There may be something to decide. Any thread may call."""
        self._wake.set()

    def run(self, stop: threading.Event) -> None:
        while not stop.is_set():
            lease = self._lead.lease
            if lease is not None:
                self._try(lease, stop)
            self._wake.wait(self._pace.tick_s)
            self._wake.clear()
            stop.wait(_LEAST_TURN_S)

    def _try(self, lease: Lease, stop: threading.Event) -> None:
        try:
            self.turn(lease)
        except LeaseLost as error:
            log.warning("%s", error.text)
            self._lead.lost()
        except Retryable as error:
            self._meters.retries.labels("controller").inc()
            log.warning("rollouts wait: %s", error.text)
            stop.wait(error.delay_s)

    def turn(self, lease: Lease) -> None:
        """Errors: LeaseLost, Retryable, and what is Permanent about the database."""
        if lease.epoch != self._epoch:
            self._held, self._since, self._listed_s, self._epoch = {}, None, 0.0, lease.epoch
        self._list()
        if not self._held:
            self._since = None  # nothing is missed: whoever comes first looks at all
            return
        sight = self._look()
        for rollout in sorted(self._held.values(), key=lambda each: (each.created_at, each.id), reverse=True):
            after = self._advance(rollout, sight, lease)
            if after is None or after.state.is_over:
                self._held.pop(rollout.id)
                continue
            self._held[after.id] = after
            sight.taken.update({m.id: after.id for m in after.members.values() if not m.is_released})
        self._since = sight.now
        self._count()

    def _list(self) -> None:
        """Rollouts that others have created. A change of one that is known is met as a conflict."""
        now_s = time.monotonic()
        if self._listed_s and now_s - self._listed_s < self._pace.list_s:
            return
        known = {each.id for each in self._rollouts.summaries(_LISTED) if not each.state.is_over}
        if not self._listed_s:
            self._held = {each.id: each for each in self._rollouts.unfinished()}
        for rollout_id in known - set(self._held):
            self._held[rollout_id] = self._rollouts.load(rollout_id)
        self._listed_s = now_s
        self._count()

    def _look(self) -> Sight:
        now, now_s = self._now(), time.monotonic()
        whole: Sequence[Node] | None = None
        if self._since is None or now_s - self._whole_s > self._pace.whole_s:
            whole = changed = self._roster.nodes()
            self._whole_s = now_s
        else:
            changed = self._roster.changed_since(self._since - OVERLAP)
        is_ticking = now_s - self._ticked_s >= self._pace.tick_s and self._is_hearing()
        if is_ticking:
            self._ticked_s = now_s
        return Sight(changed, whole, is_ticking, now, {})

    def _advance(self, rollout: Rollout, sight: Sight, lease: Lease) -> Rollout | None:
        """Committed; None where it is gone."""
        for attempt in range(_ATTEMPTS):
            after, effects = steps(rollout, self._events(rollout, sight, attempt), sight.now)
            if after is rollout:
                return rollout
            try:
                self._rollouts.commit(rollout, after, effects, lease, sight.now)
            except NotFound:
                return None
            except Conflict as error:
                self._meters.decisions.labels("conflict").inc()
                log.info("rollout %s is read again: %s", rollout.id, error.text)
                rollout = self._rollouts.load(rollout.id)
                if rollout.state.is_over:
                    return None
                continue
            self._meters.decisions.labels("committed").inc()
            if effects:
                self.decided()
            return after
        log.error("rollout %s is changed by others all the time, or its orders are refused", rollout.id)
        return rollout

    def _events(self, rollout: Rollout, sight: Sight, attempt: int) -> list[Event]:
        members = rollout.members
        events: list[Event] = []
        for taken_by, nodes in _by_rollout(rollout, sight.taken).items():
            events.append(Superseded(nodes, taken_by))
        if attempt > 0:
            events += self._ordered_by_others(rollout)
        for node in sight.changed:
            if node.id in members:
                if node.model is not None:
                    events.append(Reported(node.id, node.model))
                if node.inspection is not None:
                    events.append(Observed(node.id, node.inspection))
        events += self._comings(rollout, sight)
        if sight.is_ticking:
            events.append(Ticked())
        return events

    def _comings(self, rollout: Rollout, sight: Sight) -> list[Event]:
        """Boards that come to match, and boards that have left."""
        events: list[Event] = []
        # The first deal needs all nodes: who is dealt what depends on how many there are.
        nodes = sight.whole if sight.whole is not None or rollout.members else self._roster.nodes()
        fresh = [each for each in (sight.changed if nodes is None else nodes) if each.id not in sight.taken]
        if rollout.state.is_live and any(each.id not in rollout.members for each in fresh):
            placements = place(rollout, fresh, self._rollouts.floors(), sight.now)
            if placements:
                events.append(Enrolled(placements))
        if sight.whole is not None:
            there = {node.id for node in sight.whole}
            gone = tuple(m.id for m in rollout.members.values() if not m.is_released and m.id not in there)
            if gone:
                events.append(Left(gone))
        return events

    def _ordered_by_others(self, rollout: Rollout) -> list[Event]:
        """A board to which somebody has given a higher generation is no longer ours, and would refuse ours."""
        events: list[Event] = []
        floors = self._rollouts.floors()
        for member in rollout.members.values():
            if member.is_released or floors.get(member.id, 0) <= max(member.generation, member.floor):
                continue
            desired = self._rollouts.desired(member.id)
            if desired is not None and desired.rollout_id != rollout.id:
                events.append(Superseded((member.id,), desired.rollout_id))
        return events

    def _count(self) -> None:
        states: dict[str, int] = {}
        for rollout in self._held.values():
            states[rollout.state.value] = states.get(rollout.state.value, 0) + 1
        self._meters.rollouts.clear()
        for state, count in states.items():
            self._meters.rollouts.labels(state).set(count)


def _by_rollout(rollout: Rollout, taken: dict[NodeId, str]) -> dict[str, tuple[NodeId, ...]]:
    found: dict[str, tuple[NodeId, ...]] = {}
    for member in rollout.members.values():
        if not member.is_released and member.id in taken:
            by = taken[member.id]
            found[by] = (*found.get(by, ()), member.id)
    return found


def _nobody() -> None:
    return
