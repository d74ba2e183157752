"""The models' side: where models lie, the lanes that run them, and what brings new ones."""

import random
import threading
import time
from collections.abc import Callable

from agent.adapters.fetcher_http import HttpFetcher
from agent.core.frame import Frame
from agent.library import Library
from agent.loops.control import Updated
from agent.loops.exhibits import Exhibits
from agent.loops.inspect import Loaded
from agent.loops.lane import Lane, LaneParts
from agent.loops.orders import LaneOrder
from agent.loops.quarantine import Quarantine
from agent.loops.updater import Updater, UpdaterParts
from agent.loops.workshop import Workshop, WorkshopParts
from agent.ports import Segmenter
from agent.wiring.ground import Ground, new_id, now
from agent.wiring.trust import trust_of
from schemas.result import Result

Witness = Callable[[Frame, Result], None]


class Models:
    """`witness` sees each committed result with its frame, on the lane's thread."""

    def __init__(self, ground: Ground, witness: Witness) -> None:
        self._ground = ground
        self.library = Library(ground.settings, ground.target, ground.topics, ground.disk.models, ground.host)
        self._quarantine = Quarantine()
        cores = [f"core-{core}" for core in ground.settings.model.cores]
        self.lanes = {name: self._make_lane(name, witness) for name in cores}
        ground.lanes = self.lanes
        self.workshop = self._make_workshop()
        self.updater = self._make_updater()

    def send(self, order: LaneOrder) -> None:
        for lane in self.lanes.values():
            lane.send(order)

    def _load_current(self, lane: str) -> Loaded:
        ref = self.updater.current
        return self.library.load(lane, ref, self.library.open(ref))

    def _make_lane(self, name: str, witness: Witness) -> Lane:
        ground = self._ground
        settings = ground.settings
        evidence = ground.disk.evidence(name, len(settings.model.cores))
        parts = LaneParts(
            outbox=ground.outbox,
            stats=ground.stats,
            ledger=ground.ledger,
            report=ground.tell,
            exhibits=Exhibits(evidence, settings.storage.evidence_interval_s, time.monotonic),
            witness=witness,
            retire=_retire,
            now=now,
            monotonic=time.monotonic,
            new_id=new_id,
            quarantine=self._quarantine,
        )
        return Lane(name, ground.slots, lambda: self._load_current(name), parts)

    def _make_workshop(self) -> Workshop:
        fetcher, store = HttpFetcher(), self._ground.disk.models
        parts = WorkshopParts(
            trust=trust_of(self._ground, fetcher),
            store=store,
            fetcher=fetcher,
            models=self.library,
            lanes={name: lane.send for name, lane in self.lanes.items()},
            retire=_retire,
            tell=lambda event: self._ground.tell(Updated(event)),
            is_out=self._quarantine.is_out,
        )
        return Workshop(parts)

    def _make_updater(self) -> Updater:
        ground = self._ground
        parts = UpdaterParts(
            journal=ground.disk.update_journal,
            workshop=self.workshop,
            ledger=ground.ledger,
            desk=ground.desk,
            send=self.send,
            publish=ground.uplink.now,
            topics=ground.topics,
            installed=self.library.installed,
            has=self.library.has,
            lot_is_open=lambda: ground.disk.lots.is_open,
            now=now,
            monotonic=time.monotonic,
            chance=random.random,
            settle_s=ground.settings.model.settle_s,
        )
        return Updater(parts)


def _retire(segmenter: Segmenter) -> None:
    """Away from the lane: ending a child that hangs takes its time."""
    threading.Thread(target=segmenter.close, name="retire", daemon=True).start()
