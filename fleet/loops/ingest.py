"""Boards' messages into the database, in batches; each is acknowledged when what it says is kept."""

import logging
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from fleet.core.roster import BadMessage, Heard, NodeId, read
from fleet.errors import Permanent, Retryable
from fleet.loops.meters import Meters
from fleet.mail import Letter, Postbox
from fleet.ports import Arrival, Jobs, Results, Roster
from schemas.job import JobExecution
from schemas.result import Result
from schemas.state import ReportedModel
from schemas.status import Status

log = logging.getLogger(__name__)
_WAIT_S = 0.5
_MOST_IN_A_ROW = 10
_SLOWLY_S = 5.0
"""So many messages that cannot be kept one after the other are rather a fault of the database: haste would lose all."""


@dataclass(frozen=True, slots=True)
class Stores:
    roster: Roster
    results: Results
    jobs: Jobs


@dataclass(frozen=True, slots=True)
class Ending:
    """A boot is over, in order, and this was its last result."""

    node: NodeId
    boot_id: str
    last: int
    at: datetime


@dataclass(slots=True)
class Sorted:
    """A batch by what is done with it. `has_reports`: a rollout may have to look."""

    arrivals: list[Arrival] = field(default_factory=list)
    heard: list[Heard] = field(default_factory=list)
    executions: list[tuple[NodeId, JobExecution]] = field(default_factory=list)
    endings: list[Ending] = field(default_factory=list)
    bad: list[str] = field(default_factory=list)
    families: dict[str, int] = field(default_factory=dict)
    has_reports: bool = False

    def put(self, letter: Letter) -> None:
        try:
            heard = read(letter.topic, letter.payload, letter.at, is_retained=letter.is_retained)
        except BadMessage as error:
            if letter.payload or not letter.is_retained:
                self.bad.append(str(error))
            return
        self.families[heard.family] = self.families.get(heard.family, 0) + 1
        match heard.message:
            case Result() as result:
                self.arrivals.append(Arrival(result, letter.payload, letter.at))
                return
            case JobExecution() as said:
                self.executions.append((heard.node, said))
            case Status(reason="shutdown", last_sequence_number=int(last)) as status:
                self.endings.append(Ending(heard.node, status.boot_id, last, letter.at))
            case ReportedModel():
                self.has_reports = True
        self.heard.append(heard)


class Ingest:
    """`reported` is called when boards have said something of their models."""

    def __init__(self, box: Postbox, stores: Stores, meters: Meters, reported: Callable[[], None]) -> None:
        self._box = box
        self._stores = stores
        self._meters = meters
        self._reported = reported
        self._in_a_row = 0
        self.problem: str | None = None

    def run(self, stop: threading.Event) -> None:
        while not stop.is_set():
            letters = self._box.take(_WAIT_S)
            if letters:
                self.work_off(letters, stop)

    def work_off(self, letters: Sequence[Letter], stop: threading.Event) -> None:
        """Keeps a batch and settles its letters, in their order. Waits where the database is away; what cannot be kept
        is found by halving, told, and dropped. Nothing is settled when it is stopped before.
        """
        batch = _sorted(letters)
        while True:
            try:
                self._keep(batch)
            except Retryable as error:
                self.problem = error.text
                self._meters.retries.labels("ingest").inc()
                log.warning("%d messages wait: %s", len(letters), error.text)
                if stop.wait(error.delay_s):
                    return
            except Permanent as error:
                self._split(letters, error, stop)
                return
            else:
                break
        self.problem = None
        self._in_a_row = 0
        self._count(batch)
        for letter in letters:
            letter.settle()
        if batch.has_reports:
            self._reported()

    def _keep(self, batch: Sorted) -> None:
        """Each part again does no harm."""
        if batch.arrivals:
            done = self._stores.results.ingest(batch.arrivals)
            self._meters.results.labels("new").inc(done.new)
            self._meters.results.labels("duplicate").inc(done.duplicates)
        if batch.heard:
            self._stores.roster.heard(batch.heard)
        if batch.executions:
            self._stores.jobs.heard(batch.executions)
        for each in batch.endings:
            self._stores.results.boot_ended(each.node, each.boot_id, each.last, each.at)

    def _split(self, letters: Sequence[Letter], error: Permanent, stop: threading.Event) -> None:
        if len(letters) > 1:
            half = len(letters) // 2
            self.work_off(letters[:half], stop)
            if not stop.is_set():
                self.work_off(letters[half:], stop)
            return
        log.error("a message on %s cannot be kept: %s", letters[0].topic[:200], error.text)
        self._meters.refused.labels("not-kept").inc()
        self._in_a_row += 1
        if self._in_a_row > _MOST_IN_A_ROW:
            self.problem = error.text
            if stop.wait(_SLOWLY_S):
                return
        letters[0].settle()

    def _count(self, batch: Sorted) -> None:
        for family, count in batch.families.items():
            self._meters.messages.labels(family).inc(count)
        if batch.bad:
            self._meters.refused.labels("bad").inc(len(batch.bad))
            log.warning("%d messages are none of ours, the first: %s", len(batch.bad), batch.bad[0])


def _sorted(letters: Sequence[Letter]) -> Sorted:
    batch = Sorted()
    for letter in letters:
        batch.put(letter)
    return batch
