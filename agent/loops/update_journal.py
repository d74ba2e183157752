"""What the updater remembers over restarts, and the alarm while the disk does not take it."""

from agent.core import update
from agent.core.update import Update
from agent.errors import AgentError, Permanent
from agent.loops.desk import Desk
from agent.ports import Journal
from schemas.codes import FailureCode

_SOURCE = "journal"


class UpdateJournal:
    """Owned by control."""

    def __init__(self, journal: Journal, desk: Desk) -> None:
        self._journal = journal
        self._desk = desk
        self._written: Update | None = None

    def read(self, first: Update) -> Update:
        """What was written last; `first` where there is nothing, or nothing that can be read, which is told."""
        state = first
        try:
            content = self._journal.read()
            if content is not None:
                state = update.load(content)
        except (Permanent, update.BadJournal) as error:
            text = f"the journal of updates cannot be read, the board goes on with what is installed: {error}"
            self._desk.happened(FailureCode.JOURNAL_CORRUPT, "update", text)
        self._written = state
        return state

    def write(self, state: Update) -> bool:
        """True when the disk has this state. False where it does not take it; the alarm stands until it does."""
        if state == self._written:
            return True
        try:
            self._journal.write(update.dump(state))
        except AgentError as error:
            self._desk.set(error.code, _SOURCE, error.text)
            return False
        self._written = state
        for code in (FailureCode.DISK_FULL, FailureCode.INTERNAL):
            self._desk.clear(code, _SOURCE)
        return True
