"""A time that never goes back: what a board takes for now when a signature may have expired.

A board without a battery starts in 1970, where nothing has expired yet. Adapters share it.
"""

import json
import logging
import threading
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

from agent.disk import sealed, unsealed, write_whole

log = logging.getLogger(__name__)

_MOST_BYTES = 1024
_STEP = timedelta(minutes=10)
_FLOOR = datetime(2026, 1, 1, tzinfo=UTC)
"""Before this software was written nothing was signed for it."""


class LeastTime:
    """Any thread may call. What is learnt is written when it is 10 minutes later than what was written before, so a
    restart loses no more than that.

    Only times that somebody has signed, or that a verified signature bounds, may be learnt: a clock that once ran
    into the future would otherwise make everything expired for ever.
    """

    def __init__(self, path: Path, clock: Callable[[], datetime]) -> None:
        self._path = path
        self._clock = clock
        self._lock = threading.Lock()
        self._written = self._least = self._read()

    def now(self) -> datetime:
        """The later of the system's clock and the latest time that was learnt."""
        return max(self._clock(), self._least)

    @property
    def is_clock_behind(self) -> bool:
        """It is certainly wrong."""
        return self._clock() < self._least

    def learn(self, time: datetime) -> None:
        """Earlier times change nothing. What the disk does not take is known until the process ends."""
        with self._lock:
            self._least = max(self._least, time)
            if self._least - self._written < _STEP:
                return
            content = sealed(json.dumps({"least": self._least.isoformat()}).encode())
            try:
                write_whole(self._path, content, self._path.with_suffix(".new"))
            except OSError as error:
                log.warning("the latest time is not kept: %s: %s", self._path, error.strerror or error)
                return
            self._written = self._least

    def _read(self) -> datetime:
        """What cannot be read counts as never written: a board must start, and the next signature teaches it."""
        try:
            with self._path.open("rb") as file:
                content = unsealed(file.read(_MOST_BYTES))
            if content is not None:
                return max(_FLOOR, datetime.fromisoformat(json.loads(content)["least"]).astimezone(UTC))
        except (OSError, ValueError, KeyError, TypeError):
            pass
        return _FLOOR
