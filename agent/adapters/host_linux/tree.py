"""Capped reads below a root. The kernel's text files come and go, and a driver may put anything into them."""

import os
import re
from fnmatch import fnmatchcase
from itertools import islice
from pathlib import Path

FILE_CAP_BYTES = 64 * 1024
HEAD_BYTES = 4096
ENTRIES_CAP = 1024
_INTEGER = re.compile(r"-?\d{1,18}")


class Tree:
    """A file system seen from `root`. Paths are relative to it. Nothing here raises: what cannot be read is None."""

    def __init__(self, root: Path) -> None:
        self._root = root

    def text(self, path: str) -> str | None:
        """The whole file, bytes outside ASCII replaced; None when it cannot be read or is above FILE_CAP_BYTES."""
        data = self._read(path, FILE_CAP_BYTES + 1)
        return None if data is None or len(data) > FILE_CAP_BYTES else data.decode("ascii", "replace")

    def first_line(self, path: str) -> str | None:
        """The first line, however large the file; None when it does not end within HEAD_BYTES."""
        data = self._read(path, HEAD_BYTES)
        if data is None or b"\n" not in data:
            return None
        return data.partition(b"\n")[0].decode("ascii", "replace")

    def integer(self, path: str, least: int, most: int) -> int | None:
        """A decimal number that stands alone in its file and lies within the bounds."""
        text = (self.text(path) or "").strip()
        if not _INTEGER.fullmatch(text):
            return None
        value = int(text)
        return value if least <= value <= most else None

    def names(self, folder: str, pattern: str) -> list[str]:
        """Entries of a folder that match a shell pattern, sorted; empty when there is no such folder."""
        try:
            with os.scandir(self._root / folder) as entries:
                found = [entry.name for entry in islice(entries, ENTRIES_CAP)]
        except OSError:
            return []
        return sorted(name for name in found if fnmatchcase(name, pattern))

    def exists(self, path: str) -> bool:
        return os.path.lexists(self._root / path)

    def _read(self, path: str, most_bytes: int) -> bytes | None:
        # Not blocking: where a pipe stands in place of a file, opening it would wait for ever.
        data = bytearray()
        try:
            handle = os.open(self._root / path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY)
        except OSError:
            return None
        try:
            while len(data) < most_bytes and (piece := os.read(handle, most_bytes - len(data))):
                data += piece
        except OSError:
            return None
        finally:
            os.close(handle)
        return bytes(data)
