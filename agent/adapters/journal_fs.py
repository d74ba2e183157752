"""The journal of the update machine: one small file that is whole after any crash."""

import errno
import hashlib
import logging
import os
from pathlib import Path

from agent.errors import AgentError, Permanent, Retryable
from schemas.codes import FailureCode

log = logging.getLogger(__name__)

MAX_BYTES = 1_000_000
_MAGIC = b"rkfleet journal 1 "
_HEAD_BYTES = len(_MAGIC) + 64 + 1
_FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})


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
                raise _typed(error) from error
            if raw is None:
                continue
            content = _unwrapped(raw)
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
            _write_durably(self._partial, _wrapped(content))
            raw = _raw(self._path)
            if raw is not None and _unwrapped(raw) is not None:  # never put garbage in the place of a whole copy
                self._path.replace(self._previous)
            self._partial.replace(self._path)
            _sync_folder(self._path.parent)
        except OSError as error:
            raise _typed(error) from error


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
            _sync_folder(self._path.parent)
        except OSError as error:
            log.warning("%s: %s", self._path, error)
            return True
        return was_left

    def leave(self) -> None:
        try:
            self._path.touch()
            _sync_folder(self._path.parent)
        except OSError as error:
            log.warning("%s: %s", self._path, error)


def _wrapped(content: bytes) -> bytes:
    return _MAGIC + hashlib.sha256(content).hexdigest().encode() + b"\n" + content


def _unwrapped(raw: bytes) -> bytes | None:
    content = raw[_HEAD_BYTES:]
    return content if raw == _wrapped(content) else None


def _raw(path: Path) -> bytes | None:
    """Bounded, so that a file of any size is only garbled."""
    try:
        with path.open("rb") as file:
            return file.read(_HEAD_BYTES + MAX_BYTES + 1)
    except FileNotFoundError:
        return None
    except IsADirectoryError:
        return b""


def _write_durably(path: Path, content: bytes) -> None:
    try:
        with path.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
    except OSError:
        path.unlink(missing_ok=True)  # a full disk wants its bytes back
        raise


def _sync_folder(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _typed(error: OSError) -> AgentError:
    text = f"journal: {error.strerror or error}: {error.filename}"
    if error.errno in _FULL:
        return Retryable(FailureCode.DISK_FULL, text, delay_s=5.0)
    return Permanent(FailureCode.INTERNAL, text)
