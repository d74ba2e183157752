"""The last lines of the log, in memory."""

import logging
from collections import deque

_MOST_LINE_CHARS = 2000


class LogRing(logging.Handler):
    """Keeps the last `most_lines` records as formatted text. Any thread may log and read."""

    def __init__(self, most_lines: int = 2000, level: int = logging.DEBUG) -> None:
        super().__init__(level)
        self._lines: deque[tuple[int, str]] = deque(maxlen=most_lines)

    def emit(self, record: logging.LogRecord) -> None:
        """Called under the handler's lock, as all handlers are."""
        try:
            text = self.format(record)
        except (TypeError, ValueError, LookupError, AttributeError):  # a call whose values do not fit its text
            self.handleError(record)
            return
        self._lines.append((record.levelno, text[:_MOST_LINE_CHARS]))

    def lines(self, count: int, level: str = "DEBUG") -> list[str]:
        """The newest `count` of at least this level, oldest first. Raises ValueError for what is no level's name."""
        least = logging.getLevelNamesMapping().get(level)
        if least is None:
            raise ValueError(f"{level!r} is no level; there are {', '.join(logging.getLevelNamesMapping())}")
        self.acquire()
        try:
            fitting = [text for number, text in self._lines if number >= least]
        finally:
            self.release()
        return fitting[-count:] if count > 0 else []
