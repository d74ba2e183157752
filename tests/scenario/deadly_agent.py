"""The agent, but it kills itself when it is told to: `python -m tests.scenario.deadly_agent ORDERS run --config FILE`.

The file ORDERS holds `write N` (after the N-th write of the update's journal from now on) or `effect NAME` (after the
next effect of this name was begun). It is removed at the moment of death.
"""

import os
import signal
import sys
from pathlib import Path

from agent import cli
from agent.adapters.journal_fs import FileJournal
from agent.core.update import Effect
from agent.loops.updater import Updater

_write, _effect = FileJournal.write, Updater._one
_written = 0


def _die(orders: Path) -> None:
    orders.unlink()
    os.kill(os.getpid(), signal.SIGKILL)


def _order(orders: Path) -> list[str]:
    return orders.read_text().split() if orders.exists() else []


def _arm(orders: Path) -> None:
    def write(self: FileJournal, content: bytes) -> None:
        global _written  # noqa: PLW0603  one agent a process
        _write(self, content)
        if self._path.name == "update.journal" and (order := _order(orders)) and order[0] == "write":
            _written += 1
            if _written == int(order[1]):
                _die(orders)

    def run_effect(self: Updater, effect: Effect) -> None:
        _effect(self, effect)
        if _order(orders) == ["effect", effect.value]:
            _die(orders)

    FileJournal.write = write  # type: ignore[method-assign]
    Updater._one = run_effect  # type: ignore[method-assign]


if __name__ == "__main__":
    _arm(Path(sys.argv[1]))
    sys.exit(cli.main(sys.argv[2:]))
