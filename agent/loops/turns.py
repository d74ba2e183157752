"""Results of one camera leave in the order in which its frames were taken, however many lanes work on them."""

import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from types import TracebackType
from typing import Self

MOST_WAITING = 6
"""Works that wait for their turn, over all cameras; each may hold a picture."""


@dataclass(slots=True, eq=False)
class _Place:
    given_s: float
    work: Callable[[], None] | None = None
    is_over: bool = False


@dataclass(slots=True)
class _Line:
    places: deque[_Place] = field(default_factory=deque)
    is_served: bool = False


class Turns:
    """One line for each camera. For any threads; nobody waits for a turn: whoever ends the one that holds up the others
    does their work as well, so a lane goes on to its next frame at once.

    A turn whose holder has not come back after `hold_s` is passed by; its work is done when it comes, late.
    """

    def __init__(self, hold_s: float = 60.0, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._hold_s = hold_s
        self._monotonic = monotonic
        self._changed = threading.Condition()
        self._lines: dict[str, _Line] = {}
        self._waiting = 0

    def give(self, camera: str) -> "Turn":
        """The last place in the camera's line. Use it as a context: what is not handed in there is given back."""
        place = _Place(self._monotonic())
        with self._changed:
            self._lines.setdefault(camera, _Line()).places.append(place)
        return Turn(self, camera, place)

    def wait_for_room(self, timeout_s: float) -> bool:
        """Before the next frame is taken, holding no turn: False where too much still waits."""
        with self._changed:
            return self._changed.wait_for(lambda: self._waiting < MOST_WAITING, timeout_s)

    def move_on(self) -> None:
        """Do the work behind turns that are held for too long. For whoever has nothing else to do."""
        with self._changed:
            cameras = list(self._lines)
        for camera in cameras:
            self._serve(camera)

    def _hand_in(self, camera: str, place: _Place, work: Callable[[], None]) -> None:
        with self._changed:
            was_passed_by = place.is_over
            if not was_passed_by:
                place.work = work
                self._waiting += 1
        if was_passed_by:
            work()
        else:
            self._serve(camera)

    def _give_back(self, camera: str, place: _Place) -> None:
        with self._changed:
            place.is_over = True
        self._serve(camera)

    def _serve(self, camera: str) -> None:
        """Whatever is due in the line, unless another thread is at it."""
        while True:
            with self._changed:
                line = self._lines.get(camera)
                work = self._next(camera, line) if line is not None and not line.is_served else None
                if line is None or work is None:
                    return
                line.is_served = True
            try:
                work()
            finally:
                with self._changed:
                    line.is_served = False
                    self._waiting -= 1
                    self._changed.notify_all()

    def _next(self, camera: str, line: _Line) -> Callable[[], None] | None:
        """Take the first work out of the line, where no turn before it is open."""
        while line.places:
            first = line.places[0]
            if first.work is None and not first.is_over and not self._is_held_too_long(line):
                return None
            line.places.popleft()
            if first.work is not None:
                return first.work
            first.is_over = True
        del self._lines[camera]
        return None

    def _is_held_too_long(self, line: _Line) -> bool:
        others_wait = any(place.work is not None for place in line.places)
        return others_wait and self._monotonic() - line.places[0].given_s > self._hold_s


class Turn:
    """Owned by the lane that took the frame."""

    def __init__(self, turns: Turns, camera: str, place: _Place) -> None:
        self._turns = turns
        self._camera = camera
        self._place = place
        self._is_handed_in = False

    def hand_in(self, work: Callable[[], None]) -> None:
        """Once. `work` is done here and now, or by another thread when the turns before are over; what it raises,
        it raises there.
        """
        self._is_handed_in = True
        self._turns._hand_in(self._camera, self._place, work)  # noqa: SLF001  one thing in two classes

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        if not self._is_handed_in:
            self._turns._give_back(self._camera, self._place)  # noqa: SLF001  one thing in two classes
