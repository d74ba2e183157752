"""The lane of a simulated board: it obeys the same orders as a real one and draws what its model finds.

What a model does in the shadow and on probation is drawn as fast as it is asked for: an update takes no longer than its
code does, however many pictures it is to be watched for.
"""

import random
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime

from agent.core.frame import Frame, Order
from agent.core.outgoing import Outgoing, Place
from agent.core.result import Origin
from agent.errors import AgentError
from agent.loops.control import Inspected, Item, Recorded
from agent.loops.generations import Generations
from agent.loops.inspect import Loaded
from agent.loops.ledger import Ledger
from agent.loops.orders import LaneOrder, LaneReport, ShadowSaw, SpoolState
from agent.loops.outbox import Outbox
from agent.loops.stats import Stats
from agent.simulate.manner import Character
from agent.simulate.pictures import CAMERA, Inspection, Moment, frame_of, result_of
from schemas.recipe import Evaluation
from schemas.result import Result
from schemas.telemetry import CoreState

NAME = "core-0"
UNPUBLISHED_HZ = 1.0
"""Pictures a second that a board without results counts in its telemetry."""
_AT_ONCE = 100
_MOST_AT_ONCE = 500
"""Of a board that could not be heard for long, results that are caught up on."""


@dataclass(frozen=True, slots=True)
class LaneParts:
    """`wake` has `advance` called; `watched_for` is how many results decide on a new model; `load` brings a model back
    that the lane no longer has. At a rate of 0 results are counted and not published. `witness` sees those that are.
    """

    character: Character
    chance: random.Random
    rate_hz: float
    topic: str
    origin: Origin
    outbox: Outbox
    stats: Stats
    ledger: Ledger
    tell: Callable[[Item], None]
    wake: Callable[[], None]
    watched_for: Callable[[], int]
    load: Callable[[], Loaded]
    witness: Callable[[Frame, Result], None]
    now: Callable[[], datetime]
    monotonic: Callable[[], float]


class Lane:
    """`send` may be called from any thread; all else belongs to the board's."""

    def __init__(self, parts: LaneParts) -> None:
        self._parts = parts
        self._orders: deque[LaneOrder] = deque()
        self._wanted: deque[Order] = deque()
        self._models = Generations(lambda segmenter: segmenter.close())
        self._owed = 0.0
        self._looked_s = parts.monotonic()
        self._told = ""
        self.inspected = 0
        self.published = 0

    def send(self, order: LaneOrder) -> None:
        self._orders.append(order)
        self._parts.wake()

    def trigger(self, camera: str, order: Order) -> bool:
        if camera != CAMERA:
            return False
        self._wanted.append(order)
        return True

    def advance(self) -> bool:
        """Orders, then some of what the update waits for. False where nothing is left to do."""
        while self._orders:
            self._models.obey(self._orders.popleft())
        self._tell_model()
        if self._models.shadow is not None:
            self._compare(self._models.shadow)
            return True
        parts = self._parts
        if parts.ledger.is_watched:
            self.account(min(_MOST_AT_ONCE, parts.watched_for()))
            parts.tell(Recorded())
            return True
        return False

    def account(self, count: int) -> None:
        """What the model that inspects has done, for the comparison with the next one."""
        model = self._models.active
        if model is None:
            return
        manner, sha256 = self._parts.character.manner_of(model.ref), model.ref.manifest_sha256
        for evaluation, inference_ms in manner.draw(self._parts.chance, count):
            inspection = Inspection(evaluation, inference_ms)
            self._parts.ledger.recorded(sha256, inspection.evaluation, inspection.total_ms)

    def inspect(self) -> None:
        """What has come due since the last call."""
        parts, now_s = self._parts, self._parts.monotonic()
        self._owed += (now_s - self._looked_s) * (parts.rate_hz or UNPUBLISHED_HZ)
        self._looked_s = now_s
        due, self._owed = min(int(self._owed), _MOST_AT_ONCE), self._owed % 1.0
        orders = [*self._wanted, *(None for _ in range(due))]
        self._wanted.clear()
        model = self._models.active
        if model is None or not orders:
            return
        drawn = parts.character.manner_of(model.ref).draw(parts.chance, len(orders))
        for order, (evaluation, inference_ms) in zip(orders, drawn, strict=True):
            self._one(model, Inspection(evaluation, inference_ms), order)
        if due:
            parts.tell(Inspected(CAMERA, now_s))

    def _tell_model(self) -> None:
        parts = self._parts
        if self._models.active is None:
            self._models.begin(parts.load())
        model = self._models.active
        if model is not None and model.ref.manifest_sha256 != self._told:
            self._told = model.ref.manifest_sha256
            parts.stats.core_is(NAME, CoreState.WORKING)
            parts.tell(LaneReport(NAME, None, model=model.model, manifest_sha256=self._told))

    def _compare(self, shadow: Loaded) -> None:
        parts, character = self._parts, self._parts.character
        active = self._models.active
        new = character.manner_of(shadow.ref)
        old = character.manner_of(active.ref) if active else new
        before, after = old.draw(parts.chance, _AT_ONCE), new.draw(parts.chance, _AT_ONCE)
        for (_, old_ms), (seen, new_ms) in zip(before, after, strict=True):
            agreement = None
            if seen is not Evaluation.UNDEFINED:
                agreement = min(1.0, new.agreement + parts.chance.uniform(-0.005, 0.005))
            is_same = parts.chance.random() < new.agreement
            parts.tell(ShadowSaw(shadow.ref.manifest_sha256, agreement, is_same, old_ms, new_ms))

    def _one(self, model: Loaded, inspection: Inspection, order: Order | None) -> None:
        parts = self._parts
        self.inspected += 1
        moment = Moment(parts.now(), parts.monotonic(), self.inspected, order)
        if (parts.rate_hz > 0 or order is not None) and not self._publish(inspection, moment, model):
            return
        parts.stats.recorded(CAMERA, inspection.evaluation, inspection.stages_ms)
        parts.stats.core_looked(NAME, inspection.inference_ms if inspection.evaluation else None)

    def _publish(self, inspection: Inspection, moment: Moment, model: Loaded) -> bool:
        """False where the spool does not take it, and that is told."""
        parts, frame = self._parts, frame_of(moment)
        kept = result_of(inspection, frame, model.model, parts.origin, parts.chance)

        def message(place: Place) -> Outgoing:
            return Outgoing(parts.topic, kept.placed(place.boot_id, place.sequence_number))

        try:
            parts.outbox.result(message)
        except AgentError as error:
            parts.tell(SpoolState(error.code, error.text))
            return False
        self.published += 1
        parts.witness(frame, kept.result)
        return True
