"""Which lots are under way on this board's line, remembered over restarts."""

import json

from agent.errors import AgentError, Permanent
from agent.ports import Journal
from schemas.codes import FailureCode
from schemas.command import Lot

MOST_LOTS = 64


class Lots:
    """Owned by control. A journal that cannot be read counts as no lot open: nothing waits for ever on its account."""

    def __init__(self, journal: Journal) -> None:
        self._journal = journal
        self._open = self._read()

    @property
    def is_open(self) -> bool:
        return bool(self._open)

    def take(self, lot: Lot) -> list[str]:
        """Open or close one; returns those that are open.

        Errors: Permanent(COMMAND_INVALID) when too many are open, those of the journal; nothing is changed then.
        """
        lots = [each for each in self._open if each != lot.lot_id]
        if lot.state == "open":
            lots.append(lot.lot_id)
        if len(lots) > MOST_LOTS:
            text = f"{MOST_LOTS} lots are open: close those that have ended"
            raise Permanent(FailureCode.COMMAND_INVALID, text)
        if lots != self._open:
            self._journal.write(json.dumps(lots).encode())
            self._open = lots
        return list(lots)

    def _read(self) -> list[str]:
        try:
            content = json.loads(self._journal.read() or b"[]")
        except (AgentError, ValueError):
            return []
        return [each for each in content if isinstance(each, str)] if isinstance(content, list) else []
