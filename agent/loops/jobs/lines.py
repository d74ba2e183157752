"""Log lines that fit into one message."""

import json
from collections.abc import Sequence

from schemas.job import LogsOutput

MOST_BYTES = 15_000
"""Of lines as JSON; with the rest of its status a message stays below 16 KB."""
_MOST_LINE_CHARS = 2000


def newest(lines: Sequence[str], most_bytes: int = MOST_BYTES) -> LogsOutput:
    """As many of the last lines as fit, oldest first; long ones are cut."""
    kept: list[str] = []
    size_bytes = 0
    for line in reversed(lines):
        clean = line[:_MOST_LINE_CHARS].encode(errors="replace").decode()  # a lone surrogate is no UTF-8
        size_bytes += len(json.dumps(clean, ensure_ascii=False).encode()) + 1
        if size_bytes > most_bytes:
            break
        kept.append(clean)
    return LogsOutput(lines=kept[::-1], is_partial=len(kept) < len(lines))
