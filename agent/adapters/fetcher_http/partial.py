"""The file that a download fills, its running digest, and a note of where its bytes come from."""

import hashlib
import json
import os
import re
import stat
import threading
from pathlib import Path
from types import TracebackType
from typing import Self

from agent.adapters.fetcher_http.options import canceled, storage_failure
from agent.core.fetch_plan import Wanted

_CHUNK_BYTES = 1 << 20
_NOTES_MOST_BYTES = 4096
_STRONG_TAG = re.compile(r'"[\x21\x23-\x7e]{0,200}"')
_DATE = re.compile(r"[A-Za-z0-9 ,:+-]{1,64}")


class Partial:
    """A context manager; opening it reads and digests what an earlier process left.

    The note says which URL and version the bytes are of; it lies beside the file, in `NAME.notes`.
    `resumed`: the bytes may be of more than one version, so a wrong digest proves nothing against the server.
    Errors: Retryable(DISK_FULL), Retryable(INTERNAL) for other faults of the disk, Retryable(CANCELED).
    """

    def __init__(self, path: Path, wanted: Wanted, stop: threading.Event) -> None:
        self.size = 0
        self.resumed = False
        self._path = path
        self._notes = path.with_name(f"{path.name}.notes")
        self._wanted = wanted
        self._digest = hashlib.sha256()
        try:
            # O_NONBLOCK: a FIFO in the file's place must not hold us.
            flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK
            self._file = os.open(path, flags, 0o600)
        except OSError as error:
            raise storage_failure(error, path) from error
        try:
            self._refuse_other_kinds()
            self._load(stop)
        except BaseException:
            os.close(self._file)
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        os.close(self._file)

    @property
    def whole(self) -> bool:
        """All bytes are here and are the right ones."""
        return self.size == (self._wanted.bytes or self.size) and self._digest.hexdigest() == self._wanted.sha256

    def version_at(self, source: str) -> str | None:
        """The strong validator that `source` gave for these bytes, for If-Range."""
        try:
            with self._notes.open("rb") as file:
                said = json.loads(file.read(_NOTES_MOST_BYTES))
            version = said["version"] if said["source"] == source else None
        except (OSError, ValueError, TypeError, KeyError, RecursionError):
            return None  # without a note the digest decides alone
        return version if isinstance(version, str) and validator(version, version) is not None else None

    def begin(self, source: str, version: str | None) -> None:
        """Start anew with the bytes of this version."""
        self.discard()
        fresh = self._notes.with_name(f"{self._notes.name}.new")
        try:
            fresh.unlink(missing_ok=True)
            with fresh.open("x") as file:
                json.dump({"source": source, "version": version}, file)
            fresh.replace(self._notes)
        except OSError as error:
            raise storage_failure(error, fresh) from error

    def discard(self) -> None:
        try:
            self._notes.unlink(missing_ok=True)
            os.ftruncate(self._file, 0)
            os.lseek(self._file, 0, os.SEEK_SET)
        except OSError as error:
            raise storage_failure(error, self._path) from error
        self.size = 0
        self.resumed = False
        self._digest = hashlib.sha256()

    def write(self, chunk: bytes) -> None:
        view = memoryview(chunk)
        while view:
            try:
                count = os.write(self._file, view)
            except OSError as error:
                raise storage_failure(error, self._path) from error
            self._digest.update(view[:count])
            self.size += count
            view = view[count:]

    def keep(self) -> None:
        """The file is whole: put it on the disk for good."""
        try:
            os.fsync(self._file)
            self._notes.unlink(missing_ok=True)
        except OSError as error:
            raise storage_failure(error, self._path) from error

    def _refuse_other_kinds(self) -> None:
        if not stat.S_ISREG(os.fstat(self._file).st_mode):
            raise storage_failure(OSError("not a file"), self._path)

    def _load(self, stop: threading.Event) -> None:
        try:
            about = os.fstat(self._file)
            if about.st_size > self._wanted.max_bytes:
                self.discard()
                return
            while chunk := os.read(self._file, _CHUNK_BYTES):
                if stop.is_set():
                    raise canceled()
                self._digest.update(chunk)
                self.size += len(chunk)
        except OSError as error:
            raise storage_failure(error, self._path) from error
        if self.size == self._wanted.bytes and not self.whole:
            self.discard()


def validator(etag: str, last_modified: str) -> str | None:
    """What If-Range may carry: a strong entity tag, else a date; None for what is neither, or hostile."""
    if _STRONG_TAG.fullmatch(etag):
        return etag
    return last_modified if _DATE.fullmatch(last_modified) else None
