"""All boards of one process, from their start to their goodbye, and how they stand."""

import gc
import json
import logging
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

from agent.errors import AgentError
from agent.loops.runner import Crash, Runner
from agent.simulate.board import Board
from agent.simulate.config import Simulation
from agent.simulate.shared import Shared

log = logging.getLogger(__name__)

_LEAVE_WITHIN_S = 5.0
_LOOK_S = 0.1


class Hall:
    """`say` gets a line of JSON now and then, from the thread that runs `run`. Errors: AgentError."""

    def __init__(self, simulation: Simulation, folder: Path, say: Callable[[str], None]) -> None:
        self._simulation = simulation
        self._say = say
        self._runner = Runner(self._crashed)
        self._shared = Shared(simulation, folder, self._runner)
        self._names = simulation.names()
        self._boards: list[Board] = []
        self._began_s = time.monotonic()
        self._failure: AgentError | None = None

    def run(self, stop: threading.Event) -> int:
        """Until stopped or the time is over; the exit code."""
        self._runner.start("boards", self._shared.reactor.run)
        self._shared.reactor.call(self._start_next)
        until_s = self._began_s + (self._simulation.duration_s or float("inf"))
        next_s = time.monotonic()
        while not (stop.wait(_LOOK_S) or self._is_failed or time.monotonic() >= until_s):
            if time.monotonic() >= next_s:
                next_s = time.monotonic() + self._simulation.report_s
                self._say(json.dumps(self.standing()))
        last = self.standing()
        self._leave()
        self._say(json.dumps(last | {"isOver": True}))
        if self._failure is not None:
            raise self._failure
        return 1 if self._runner.failed.is_set() else 0

    def standing(self) -> dict[str, Any]:
        """Sums over all boards; `phases` and `models` of those that are started."""
        boards = list(self._boards)
        standings = [board.standing for board in boards]
        return {
            "boards": self._simulation.nodes,
            "started": len(boards),
            "online": sum(each.is_online for each in standings),
            "phases": dict(Counter(each.phase.value for each in standings)),
            "models": dict(Counter(f"{each.current.name}@{each.current.version}" for each in standings)),
            "generation": max((each.generation for each in standings), default=0),
            "inspected": sum(each.inspected for each in standings),
            "results": sum(each.results for each in standings),
            "uptimeS": round(time.monotonic() - self._began_s, 1),
        }

    @property
    def _is_failed(self) -> bool:
        return self._failure is not None or self._runner.failed.is_set()

    def _start_next(self) -> None:
        """A board at a time, as fast as asked for and no faster than they come up."""
        try:
            board = Board(self._shared, self._names[len(self._boards)])
        except AgentError as error:
            self._failure = error
            return
        self._boards.append(board)
        board.start()
        if len(self._boards) < len(self._names):
            self._shared.reactor.later(1.0 / self._simulation.starts_per_s, self._start_next)
        else:
            _spare_the_collector()

    def _leave(self) -> None:
        """All boards say goodbye; what hangs is left behind."""
        is_gone = threading.Event()
        deadline_s = time.monotonic() + _LEAVE_WITHIN_S

        def look() -> None:
            if all(board.is_over for board in self._boards) or time.monotonic() > deadline_s:
                is_gone.set()
            else:
                self._shared.reactor.later(_LOOK_S, look)

        def leave() -> None:
            self._names = self._names[: len(self._boards)]
            for board in self._boards:
                board.leave(_LEAVE_WITHIN_S)
            look()

        self._shared.reactor.call(leave)
        is_gone.wait(2 * _LEAVE_WITHIN_S)
        self._runner.stop("boards", 1.0)
        self._shared.close()
        for board in self._boards:
            board.close()

    def _crashed(self, crash: Crash) -> None:
        log.error("a bug in the simulation, strike %d: %s", crash.strikes, crash.text)


def _spare_the_collector() -> None:
    """Boards stay, and little of what they do leaves cycles: a look at all of them costs more than an update."""
    gc.freeze()
    gc.set_threshold(50_000, 10, 10)


def run(simulation: Simulation, say: Callable[[str], None], stop: threading.Event) -> int:
    """Boards keep what they must in `data`, or in a folder that goes with the process. Errors: AgentError."""
    if simulation.data is not None:
        return Hall(simulation, simulation.data, say).run(stop)
    with tempfile.TemporaryDirectory(prefix="rkfleet-simulate-") as folder:
        return Hall(simulation, Path(folder), say).run(stop)
