"""What was judged becomes a committed result: evidence, message, spool, and what counts results."""

import logging
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime

from agent.core.frame import Frame
from agent.core.outgoing import Outgoing
from agent.core.result import Fitted, Judged, draft, fitted
from agent.errors import Retryable
from agent.loops.exhibits import Exhibits
from agent.loops.inspect import CameraPlan
from agent.loops.ledger import Ledger
from agent.loops.orders import LaneItem, SpoolState
from agent.loops.outbox import Outbox
from agent.loops.quarantine import Quarantine
from agent.loops.stats import Stats
from agent.ports import Segmenter
from schemas.result import Result

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class LaneParts:
    """What a lane works with. `witness` sees each committed result with its frame and must be quick; `retire` ends a
    segmenter that the lane no longer needs, without holding the lane up. `exhibits` are the lane's own, all else is
    shared; a lane whose `quarantine` no other shares is never taken out.
    """

    outbox: Outbox
    stats: Stats
    ledger: Ledger
    report: Callable[[LaneItem], None]
    exhibits: Exhibits
    witness: Callable[[Frame, Result], None]
    retire: Callable[[Segmenter], None]
    now: Callable[[], datetime]
    monotonic: Callable[[], float]
    new_id: Callable[[], str]
    quarantine: Quarantine = field(default_factory=Quarantine)


@dataclass(frozen=True, slots=True)
class Record:
    """A result that is ready for its turn. `made_s` is when, by the monotonic clock."""

    frame: Frame
    kept: Fitted
    topic: str
    stages_ms: Mapping[str, float]
    manifest_sha256: str
    made_s: float


class Recorder:
    """`made` belongs to the lane; `commit` may be called from any thread."""

    def __init__(self, parts: LaneParts) -> None:
        self._parts = parts

    def made(self, judged: Judged, plan: CameraPlan, manifest_sha256: str) -> Record:
        parts = self._parts
        result_id = parts.new_id()
        judged = replace(judged, evidence=parts.exhibits.keep(judged, plan.origin, result_id))
        kept = fitted(draft(judged, plan.origin, result_id, parts.stats.clock))
        return Record(judged.frame, kept, plan.topic, judged.stages_ms, manifest_sha256, parts.monotonic())

    def commit(self, record: Record, stop: threading.Event) -> None:
        """Wait until the spool takes it: frames are dropped meanwhile, results are not."""
        parts, result = self._parts, record.kept.result
        began_s = parts.monotonic()
        if not self._spooled(record, stop):
            return
        ended_s = parts.monotonic()
        processing_ms = result.processing_times.processing_duration
        stages_ms = {
            **record.stages_ms,
            "turn": (began_s - record.made_s) * 1e3,
            "spool": (ended_s - began_s) * 1e3,
            "total": processing_ms + (ended_s - record.made_s) * 1e3,
        }
        parts.stats.recorded(result.station.camera, result.result_evaluation, stages_ms)
        parts.ledger.recorded(record.manifest_sha256, result.result_evaluation, processing_ms)
        parts.witness(record.frame, result)

    def _spooled(self, record: Record, stop: threading.Event) -> bool:
        parts, result = self._parts, record.kept.result
        blocked = False
        while True:
            last_try = stop.is_set()
            try:
                parts.outbox.result(
                    lambda spot: Outgoing(record.topic, record.kept.placed(spot.boot_id, spot.sequence_number))
                )
                break
            except Retryable as error:
                if last_try:
                    log.error("result %s of frame %s is not kept: %s", result.result_id, result.image.id, error.text)
                    return False
                parts.report(SpoolState(error.code, error.text))
                blocked = True
                stop.wait(error.delay_s)
        if blocked:
            parts.report(SpoolState(None))
        return True
