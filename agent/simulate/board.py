"""One simulated board's course: it takes turns on the reactor's thread, whenever something has come for it."""

import threading
from concurrent.futures import Future
from dataclasses import dataclass

from agent.core.outgoing import Incoming
from agent.core.update import ModelRef
from agent.loops.control import Mail
from agent.ports import LinkEvent
from agent.simulate.shared import Shared
from agent.simulate.wiring import Wiring
from schemas.state import Phase

_ACCOUNTED = 60
"""Results of the installed model that an update can be compared with from the start."""
_MOST_ROUNDS = 20
"""Then the other boards have their turn."""


@dataclass(frozen=True, slots=True)
class Standing:
    """How far one board is."""

    is_online: bool
    phase: Phase
    generation: int
    current: ModelRef
    inspected: int
    results: int


class Board:
    """`wake` may be called from any thread, all else on the reactor's. Errors of the constructor: AgentError."""

    def __init__(self, shared: Shared, node: str) -> None:
        self._shared = shared
        self._wiring = wiring = Wiring(shared, node, self.wake)
        self._link, self._uplink, self._control = wiring.link, wiring.uplink, wiring.control
        self._lane, self._workshop, self._updater = wiring.lane, wiring.workshop, wiring.updater
        self._pulse_s = min(1.0, max(0.1, 1.0 / shared.simulation.rate)) if shared.simulation.rate else 1.0
        self._thread = 0
        self._is_turning = self._is_called = self._is_leaving = False
        self._is_at_work = False
        self.node = node

    @property
    def is_over(self) -> bool:
        return self._link.is_over

    @property
    def standing(self) -> Standing:
        state = self._updater.state
        return Standing(
            is_online=self._control.state.connected,
            phase=state.phase,
            generation=state.generation,
            current=state.current,
            inspected=self._lane.inspected,
            results=self._lane.published,
        )

    def start(self) -> None:
        self._thread = threading.get_ident()
        self._wiring.configurator.boot(is_clean=True)
        self._updater.boot(is_clean=True)
        self._lane.advance()
        self._lane.account(_ACCOUNTED)
        self._control.begin()
        self._link.start(self._reported, self._accept)
        self._pulse()
        if self._wiring.character.is_flapping:
            self._flap_later()

    def wake(self) -> None:
        if self._is_called or (self._is_turning and threading.get_ident() == self._thread):
            return
        self._is_called = True
        self._shared.reactor.call(self._turn)

    def leave(self, within_s: float) -> None:
        """Say goodbye; `is_over` tells when it is done."""
        self._is_leaving = True
        self._control.last_words()
        self._turn()
        self._link.stop(self._control.goodbye(), within_s)

    def close(self) -> None:
        self._wiring.close()

    def _turn(self) -> None:
        """All that has come, as far as it leads; then what it makes to send."""
        self._is_called = False
        self._is_turning = True
        try:
            if self._advance():
                self._is_turning = False
                self.wake()
        finally:
            self._is_turning = False
        self._uplink.turn(0.0)
        self._link.flush()

    def _advance(self) -> bool:
        """True where it is not at its end yet."""
        for _ in range(_MOST_ROUNDS):
            has_moved = self._lane.advance()
            while not self._control.is_idle:
                self._control.turn(0.0)
                has_moved = True
            if not (self._work() or has_moved):
                return False
        return True

    def _work(self) -> bool:
        """The workshop's steps: here where they take no time, else on the crew's threads, one at a time."""
        crew = self._shared.crew
        if self._is_at_work or self._workshop.is_idle:
            return False
        if crew is None:
            self._work_off()
            return True
        self._is_at_work = True
        crew.submit(self._work_off).add_done_callback(self._done)
        return False

    def _work_off(self) -> None:
        while not self._workshop.is_idle:
            self._workshop.turn(0.0)

    def _done(self, work: "Future[None]") -> None:
        def back() -> None:
            self._is_at_work = False
            work.result()
            self._turn()

        self._shared.reactor.call(back)

    def _pulse(self) -> None:
        """What time brings: pictures, keepalive, waits, telemetry."""
        if self._is_leaving:
            return
        self._lane.inspect()
        self._link.look_at_time()
        self._control.turn(0.0)
        self._turn()
        self._shared.reactor.later(self._pulse_s, self._pulse)

    def _reported(self, event: LinkEvent) -> None:
        self._uplink.report(event)
        self.wake()

    def _accept(self, message: Incoming) -> None:
        """Errors: those of the inbox; the broker then gives the message again."""
        if self._wiring.character.is_silent:
            return
        self._wiring.disk.inbox.put(message)
        self._wiring.tell(Mail())

    def _flap_later(self) -> None:
        mean_s = self._shared.simulation.flap_s
        self._shared.reactor.later(self._wiring.chance.expovariate(1.0 / mean_s), self._flap)

    def _flap(self) -> None:
        self._link.cut()
        self._flap_later()
