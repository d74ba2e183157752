"""Results that have not come: boards are asked for them, and what a board no longer has is waited for no more."""

import logging
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime, timedelta

from pydantic import ValidationError

from fleet.core.roster import Gap
from fleet.errors import FleetError, Retryable
from fleet.loops.directory import Directory
from fleet.loops.lead import Lead
from fleet.loops.meters import Meters
from fleet.ports import Boards, MissingResults, Results
from schemas.command import CommandName, ReplayOutput, Reply

log = logging.getLogger(__name__)
_MOST_NUMBER = 2**53 - 1


@dataclass(frozen=True, slots=True)
class ReplayPace:
    """`settle_s`: a gap may fill by itself, where two processes ingest. `again_s`: until a board is asked again."""

    turn_s: float = 5.0
    settle_s: float = 5.0
    again_s: float = 60.0
    answer_s: float = 10.0
    limit: int = 1000
    at_once: int = 8


class Replay:
    """Asks while this process leads."""

    def __init__(
        self,
        results: Results,
        boards: Boards,
        directory: Directory,
        lead: Lead,
        *,
        meters: Meters,
        pace: ReplayPace = ReplayPace(),
    ) -> None:
        self._results = results
        self._boards = boards
        self._directory = directory
        self._lead = lead
        self._meters = meters
        self._pace = pace

    def run(self, stop: threading.Event, now: Callable[[], datetime]) -> None:
        while not stop.wait(self._pace.turn_s):
            if self._lead.lease is None:
                continue
            try:
                self.turn(now())
            except Retryable as error:
                self._meters.retries.labels("replay").inc()
                log.warning("missing results wait: %s", error.text)

    def turn(self, now: datetime) -> None:
        """Errors: Retryable, of the database."""
        self._meters.gaps.set(len(self._results.missing(self._pace.limit)))
        found = self._results.missing(self._pace.limit, now - timedelta(seconds=self._pace.again_s))
        due = [each for each in found if now - each.found_at > timedelta(seconds=self._pace.settle_s)]
        if not due:
            return
        # Before they are asked, and boards that are away too: these would stand before all others for ever.
        self._results.asked(due, now)
        online = self._directory.online()
        there = [each for each in due if each.node in online]
        with ThreadPoolExecutor(self._pace.at_once, thread_name_prefix="replay") as pool:
            replies = list(pool.map(self._ask, there))
        self._settle(there, replies, now)

    def _ask(self, missing: MissingResults) -> Reply | None:
        fields = {
            "bootId": missing.boot_id,
            "firstSequenceNumber": missing.gap.first,
            "lastSequenceNumber": min(missing.gap.last, _MOST_NUMBER),
        }
        try:
            return self._boards.command(missing.node, CommandName.REPLAY, fields, self._pace.answer_s)
        except FleetError as error:
            log.warning("%s is not asked for results: %s", missing.node, error.text)
            return None

    def _settle(self, asked: Sequence[MissingResults], replies: Sequence[Reply | None], now: datetime) -> None:
        for missing, reply in zip(asked, replies, strict=True):
            if reply is None or not reply.ok:
                self._meters.replays.labels("unanswered" if reply is None else "refused").inc()
                continue
            try:
                output = ReplayOutput.model_validate(reply.output)
            except ValidationError:
                self._meters.replays.labels("refused").inc()
                continue
            self._meters.replays.labels("answered").inc()
            for first, last in output.missing:
                # Only of what was asked for: a board that lies can give up what is its own, and nothing else.
                lost = Gap(max(first, missing.gap.first), min(last, missing.gap.last))
                if lost.first <= lost.last:
                    self._results.given_up(missing.node, missing.boot_id, lost, now)
