"""The journal of the update machine: one small file that is whole after any crash."""

import logging
from pathlib import Path

from agent.disk import read_bounded, refusal, sealed, sync_folder, unsealed, write_durably
from agent.errors import Permanent
from schemas.codes import FailureCode

log = logging.getLogger(__name__)

MAX_BYTES = 1_000_000
_MAGIC = b"rkfleet journal 1 "
_MOST_RAW_BYTES = MAX_BYTES + 100


class FileJournal:
    """The last content that was written, behind a SHA-256 of it; the one before stays in `{path}.previous`.

    Owned by one thread of one process. `write` is durable when it returns; after a crash during it, `read` gives the
    old content or the new, whole.
    Errors: Retryable(DISK_FULL), and the old content stands; Permanent(INTERNAL) for all else that the system refuses
    (a folder that may not be written to, a broken disk) and, from `read`, where both copies are garbled.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._previous = path.with_name(f"{path.name}.previous")
        self._partial = path.with_name(f"{path.name}.partial")

    def read(self) -> bytes | None:
        """The newest whole content; None where nothing was ever written."""
        garbled: list[Path] = []
        for path in (self._path, self._previous):
            try:
                raw = _raw(path)
            except OSError as error:
                raise refusal(error, "journal") from error
            if raw is None:
                continue
            content = unsealed(raw, _MAGIC)
            if content is not None:
                if garbled:
                    log.warning("%s is garbled: going on from %s", self._path, path)
                return content
            garbled.append(path)
        if garbled:
            names = " and ".join(str(path) for path in garbled)
            raise Permanent(FailureCode.INTERNAL, f"{names}: garbled, and there is no whole copy")
        return None

    def write(self, content: bytes) -> None:
        """Raises ValueError past MAX_BYTES."""
        if len(content) > MAX_BYTES:
            raise ValueError(f"{len(content)} bytes; a journal has at most {MAX_BYTES}")
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            write_durably(self._partial, sealed(content, _MAGIC))
            raw = _raw(self._path)
            if raw is not None and unsealed(raw, _MAGIC) is not None:  # never put garbage in the place of a whole copy
                self._path.replace(self._previous)
            self._partial.replace(self._path)
            sync_folder(self._path.parent)
        except OSError as error:
            raise refusal(error, "journal") from error


class StopMark:
    """A file that only an orderly stop leaves behind."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def take(self) -> bool:
        """Whether the last run ended in good order, or there was none; the mark is gone afterwards, durably."""
        began = self._path.with_name(f"{self._path.name}.began")
        try:
            was_left = self._path.exists() or not began.exists()
            began.touch()
            self._path.unlink(missing_ok=True)
            sync_folder(self._path.parent)
        except OSError as error:
            log.warning("%s: %s", self._path, error)
            return True
        return was_left

    def leave(self) -> None:
        try:
            self._path.touch()
            sync_folder(self._path.parent)
        except OSError as error:
            log.warning("%s: %s", self._path, error)


def _raw(path: Path) -> bytes | None:
    """Bounded, so that a file of any size is only garbled."""
    try:
        return read_bounded(path, _MOST_RAW_BYTES)
    except IsADirectoryError:
        return b""
