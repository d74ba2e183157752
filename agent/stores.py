"""Everything of the agent that lies on the disk, opened below one folder."""

from collections.abc import Callable
from datetime import datetime
from pathlib import Path

from agent.adapters.collection_fs import FolderCollection
from agent.adapters.evidence_fs import FolderEvidence
from agent.adapters.inbox_sqlite import InboxLimits, SqliteInbox
from agent.adapters.jobs_fs import FolderJobBook
from agent.adapters.journal_fs import FileJournal, StopMark
from agent.adapters.spool_sqlite import SpoolLimits, SqliteSpool
from agent.adapters.store_fs import FolderStore, StoreLimits
from agent.config import Storage
from agent.errors import Permanent
from agent.loops.lots import Lots
from schemas.codes import FailureCode
from schemas.target import Target


class Stores:
    """Errors: those of the adapters, and Permanent(CONFIG_INVALID) where the folder cannot be made; only an unusable
    folder keeps the agent from starting.
    """

    def __init__(self, storage: Storage, target: Target, now: Callable[[], datetime]) -> None:
        self._storage = storage
        self.folder = folder = storage.data_dir
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise Permanent(FailureCode.CONFIG_INVALID, f"storage.data_dir: {folder}: {error.strerror}") from error
        self.spool = SqliteSpool(
            folder / "spool.db", SpoolLimits(max_bytes=storage.spool_max_bytes, max_age_s=storage.spool_max_age_s), now
        )
        self.inbox = SqliteInbox(folder / "inbox.db", InboxLimits(), now)
        self.models = FolderStore(
            folder / "models", target, StoreLimits(storage.store_max_bytes, storage.store_reserve_bytes)
        )
        self.update_journal = FileJournal(folder / "update.journal")
        self.config_journal = FileJournal(folder / "config.journal")
        self.lots = Lots(FileJournal(folder / "lots.journal"))
        self.jobs = FolderJobBook(folder / "jobs")
        self.collection = FolderCollection(folder / "collected")
        self.stop_mark = StopMark(folder / "stopped-cleanly")

    def evidence(self, lane: str, lanes: int) -> FolderEvidence | None:
        """The lane's share of what may be kept; None where nothing may."""
        most_bytes = self._storage.evidence_max_bytes
        return FolderEvidence(self.folder / "evidence" / lane, most_bytes // lanes) if most_bytes else None

    def corrupt(self) -> list[tuple[str, Path]]:
        """What could not be read and began anew, with the file that was moved aside."""
        files = (("spool", self.spool.corrupt_file), ("inbox", self.inbox.corrupt_file))
        return [(name, file) for name, file in files if file is not None]

    def close(self) -> None:
        self.spool.close()
        self.inbox.close()
