"""Pictures and masks that belong to results, in a folder bounded by bytes."""

import hashlib
from pathlib import Path

from agent.errors import Retryable
from schemas.codes import FailureCode
from schemas.result import Evidence

FORMATS = {".jpg": "image/jpeg", ".png": "image/png", ".json": "application/json"}


class FolderEvidence:
    """`save` writes one file whole or not at all; the oldest files go when `max_bytes` would be passed.

    Owned by one thread. Evidence is best effort: it is written before its result, and not fsynced.
    """

    def __init__(self, folder: Path, max_bytes: int) -> None:
        self._folder = folder
        self._max_bytes = max_bytes
        self._used: dict[Path, int] = {}
        try:
            folder.mkdir(parents=True, exist_ok=True)
            kept = sorted((entry.stat().st_mtime_ns, entry) for entry in folder.iterdir() if entry.suffix in FORMATS)
            self._used = {entry: entry.stat().st_size for _, entry in kept}
        except OSError as error:
            raise _typed(error) from error

    def save(self, name: str, content: bytes) -> Evidence:
        """`name` ends in one of FORMATS. Errors: Retryable(DISK_FULL)."""
        path = self._folder / name
        partial = path.with_name(f".{name}.partial")
        try:
            self._make_room(len(content))
            partial.write_bytes(content)
            partial.replace(path)
        except OSError as error:
            partial.unlink(missing_ok=True)
            raise _typed(error) from error
        self._used[path] = len(content)
        return Evidence(
            uri=path.resolve().as_uri(), format=FORMATS[path.suffix], sha256=hashlib.sha256(content).hexdigest()
        )

    def _make_room(self, size_bytes: int) -> None:
        total = sum(self._used.values()) + size_bytes
        for path in list(self._used):
            if total <= self._max_bytes:
                return
            path.unlink(missing_ok=True)
            total -= self._used.pop(path)


def _typed(error: OSError) -> Retryable:
    return Retryable(FailureCode.DISK_FULL, f"evidence: {error.strerror or error}: {error.filename}", delay_s=5.0)
