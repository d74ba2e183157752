"""Where a simulated board keeps what must outlive a crash: as a real one does, or in memory."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Protocol

from agent.adapters.store_fs import FolderStore
from agent.config import Storage
from agent.loops.jobs.ports import Collection, JobBook
from agent.loops.lots import Lots
from agent.ports import Inbox, Journal, Spool, Store
from agent.simulate.config import Simulation
from agent.simulate.memory import MemoryInbox, MemoryJobBook, MemoryJournal, MemorySpool, NoCollection
from agent.simulate.models import NoStore
from agent.stores import Stores
from schemas.target import Target


class Disk(Protocol):
    """`agent.stores.Stores` is one."""

    @property
    def spool(self) -> Spool: ...
    @property
    def inbox(self) -> Inbox: ...
    @property
    def models(self) -> Store: ...
    @property
    def update_journal(self) -> Journal: ...
    @property
    def config_journal(self) -> Journal: ...
    @property
    def lots(self) -> Lots: ...
    @property
    def jobs(self) -> JobBook: ...
    @property
    def collection(self) -> Collection: ...
    def close(self) -> None: ...


@dataclass(frozen=True, slots=True)
class MemoryDisk:
    spool: MemorySpool
    inbox: MemoryInbox
    models: Store
    update_journal: MemoryJournal
    config_journal: MemoryJournal
    lots: Lots
    jobs: MemoryJobBook
    collection: NoCollection

    def close(self) -> None:
        """Nothing is open."""


def disk_of(simulation: Simulation, folder: Path, target: Target, now: Callable[[], datetime]) -> Disk:
    """Below `folder`, which is the board's own; it is not made where nothing is kept in it. Errors: AgentError."""
    if simulation.data is not None:
        return Stores(Storage(data_dir=folder), target, now)
    store: Store = FolderStore(folder, target) if simulation.trust.manifests else NoStore()
    return MemoryDisk(
        spool=MemorySpool(now),
        inbox=MemoryInbox(int(now().timestamp())),
        models=store,
        update_journal=MemoryJournal(),
        config_journal=MemoryJournal(),
        lots=Lots(MemoryJournal()),
        jobs=MemoryJobBook(),
        collection=NoCollection(),
    )
