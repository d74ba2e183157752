"""What other loops ask of a node all the time: whether it is there, and whether it wants signatures."""

import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timedelta

from fleet.core.roster import Node, NodeId
from fleet.errors import FleetError
from fleet.ports import Roster

OVERLAP = timedelta(seconds=5)
"""Clocks of ingesting processes may differ, and a transaction is seen later than it says."""
_WHOLE_S = 600.0
SIGNED = "signed"


@dataclass(frozen=True, slots=True)
class Known:
    is_online: bool
    is_signed_for: bool


class Directory:
    """Reads the database at most once a second, and then what has changed. Any thread may ask.

    A board tells in `info` that it wants signatures. One that has told nothing yet gets them; one that says it does
    not could not read them. Somebody who forges `info` can so have a board refuse what it is told, and no more.
    """

    def __init__(self, roster: Roster, now: Callable[[], datetime], fresh_s: float = 1.0) -> None:
        self._roster = roster
        self._now = now
        self._fresh_s = fresh_s
        self._lock = threading.Lock()
        self._known: dict[NodeId, Known] = {}
        self._read_at: datetime | None = None
        self._read_s = 0.0
        self._whole_s = 0.0

    def online(self) -> frozenset[NodeId]:
        self._refresh()
        return frozenset(node for node, known in self._known.items() if known.is_online)

    def counts(self) -> tuple[int, int]:
        """Nodes, and those that are online; as of the last look where the database is away."""
        with suppress(FleetError):
            self._refresh()
        known = list(self._known.values())
        return len(known), sum(each.is_online for each in known)

    def is_signed_for(self, node: NodeId) -> bool:
        self._refresh()
        known = self._known.get(node)
        return known is None or known.is_signed_for

    def _refresh(self) -> None:
        """Errors: Retryable, Permanent of the database."""
        with self._lock:
            now_s = time.monotonic()
            if self._read_at is not None and now_s - self._read_s < self._fresh_s:
                return
            at = self._now()
            if self._read_at is None or now_s - self._whole_s > _WHOLE_S:
                self._known = {node.id: _known(node) for node in self._roster.nodes()}
                self._whole_s = now_s
            else:
                changed = {node.id: _known(node) for node in self._roster.changed_since(self._read_at - OVERLAP)}
                self._known = {**self._known, **changed}
            self._read_at, self._read_s = at, now_s


def _known(node: Node) -> Known:
    return Known(node.is_online, node.info is None or SIGNED in node.info.capabilities)
