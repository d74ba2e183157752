"""What has changed since the last look at the database: for the live view. One thread at a time."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum

from fleet.core.rollout import Rollout
from fleet.core.roster import Node, NodeId
from fleet.ports import Query, Results, StoredResult
from fleet.web.parts import ApiParts
from fleet.web.views.events import EventView
from fleet.web.views.nodes import NodeView
from fleet.web.views.results import row
from fleet.web.views.rollouts import ProgressView

OVERLAP = timedelta(seconds=5)
_MOST_EVENTS = 500
_MOST_ROWS = 1000


class Kind(StrEnum):
    NODE = "node"
    ROLLOUT = "rollout"
    RESULT = "result"
    EVENT = "event"


@dataclass(frozen=True, slots=True)
class Change:
    """`row` is that of a result, 0 for all else."""

    kind: Kind
    data: str
    row: int = 0


class Rows:
    """Results in the order of their rows. A row that is missing may belong to a transaction of another process that is
    not over: it is waited for, some seconds long.
    """

    def __init__(self, newest: int, patience_s: float = 5.0) -> None:
        self.low = newest
        """All up to here have come, or will not."""
        self._seen: set[int] = set()
        self._patience = timedelta(seconds=patience_s)
        self._waiting_since: datetime | None = None

    def fresh(self, found: Iterable[StoredResult], now: datetime) -> list[StoredResult]:
        """`found` are rows above `low`, in order."""
        new = [each for each in found if each.row > self.low and each.row not in self._seen]
        self._seen.update(each.row for each in new)
        self._settle(now)
        return new

    def give_up(self) -> None:
        """Go on after the highest row seen, whatever is missing below."""
        self.low = max(self._seen, default=self.low)
        self._seen.clear()
        self._waiting_since = None

    def _settle(self, now: datetime) -> None:
        before = self.low
        while self.low + 1 in self._seen:
            self.low += 1
            self._seen.discard(self.low)
        if not self._seen:
            self._waiting_since = None
        elif self._waiting_since is None or self.low != before:
            self._waiting_since = now
        elif not timedelta(0) <= now - self._waiting_since < self._patience:
            self.give_up()


def newest_row(results: Results) -> int:
    found = results.find(Query(), limit=1, newest_first=True)
    return found[0].row if found else 0


class Watch:
    """The first look at a kind tells nothing: it is where the changes begin."""

    def __init__(self, parts: ApiParts) -> None:
        self._parts = parts
        self._nodes: dict[NodeId, Node] | None = None
        self._rollouts: dict[str, ProgressView] | None = None
        self._rows: Rows | None = None
        self._events: set[tuple[str | None, str]] | None = None
        self._found: list[Change] = []
        """Kept where a look fails half way: what was seen is not seen as new again."""

    def look(self, kinds: frozenset[Kind]) -> list[Change]:
        """All that is new of these kinds; what is known of others is forgotten. Raises FleetError."""
        now = self._parts.now()
        self._nodes = self._nodes if Kind.NODE in kinds else None
        self._rollouts = self._rollouts if Kind.ROLLOUT in kinds else None
        self._rows = self._rows if Kind.RESULT in kinds else None
        self._events = self._events if Kind.EVENT in kinds else None
        if Kind.ROLLOUT in kinds:
            self._found += self._look_at_rollouts()
        if Kind.NODE in kinds:
            self._found += self._look_at_nodes(now)
        if Kind.EVENT in kinds:
            self._found += self._look_at_events()
        if Kind.RESULT in kinds:
            self._look_at_results(now)
        changes, self._found = self._found, []
        return changes

    def _look_at_nodes(self, now: datetime) -> list[Change]:
        found = {node.id: node for node in self._parts.roster.changed_since(now - OVERLAP)}
        before, self._nodes = self._nodes, found
        if before is None:
            return []
        fresh = [node for key, node in found.items() if before.get(key) != node]
        return [Change(Kind.NODE, _text(NodeView.of(node, now))) for node in fresh]

    def _look_at_rollouts(self) -> list[Change]:
        before = self._rollouts
        rollouts = self._parts.rollouts.unfinished()
        found = {rollout.id: _still(rollout) for rollout in rollouts}
        over = [self._parts.rollouts.load(each) for each in (before or {}) if each not in found]
        self._rollouts = found
        if before is None:
            return []
        fresh = [rollout for rollout in rollouts if before.get(rollout.id) != found[rollout.id]]
        return [Change(Kind.ROLLOUT, _text(ProgressView.at(rollout))) for rollout in fresh + over]

    def _look_at_events(self) -> list[Change]:
        found = self._parts.roster.events(_MOST_EVENTS)
        keys = [(None if each.node is None else str(each.node), each.event_id) for each in found]
        before = self._events
        self._events = set(keys)
        if before is None:
            return []
        fresh = [each for each, key in zip(found, keys, strict=True) if key not in before]
        return [Change(Kind.EVENT, _text(EventView.of(each))) for each in reversed(fresh)]

    def _look_at_results(self, now: datetime) -> None:
        if self._rows is None:
            self._rows = Rows(newest_row(self._parts.results))
            return
        while True:
            found = self._parts.results.find(Query(), limit=_MOST_ROWS, after_row=self._rows.low)
            self._found += [result_change(each) for each in self._rows.fresh(found, now)]
            if len(found) < _MOST_ROWS:
                return
            self._rows.give_up()


def result_change(stored: StoredResult) -> Change:
    return Change(Kind.RESULT, row(stored).decode(), stored.row)


def _still(rollout: Rollout) -> ProgressView:
    """Without its clock: that time passes is no change."""
    return ProgressView.at(rollout).model_copy(update={"elapsed_s": 0.0})


def _text(view: NodeView | ProgressView | EventView) -> str:
    return view.model_dump_json(by_alias=True)
