"""Files by digest from a registry upstream, verified before anyone gets them; metadata as they are, kept for bad days.

The mirror holds no key and is trusted with nothing: boards verify all that it gives. It verifies digests so that one
garbled download does not stay.
"""

import hashlib
import logging
import os
import threading
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from concurrent.futures import TimeoutError as NotYet
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import urllib3
from urllib3.exceptions import HTTPError

from fleet.core.registry import BadBundle, files_of, parse_manifest
from fleet.core.registry.bundle import MANIFEST
from schemas.registry import MAX_SIGNED_MANIFEST_BYTES, bundle_path

log = logging.getLogger(__name__)

_CHUNK_BYTES = 1 << 16
_AT_ONCE = 4
_REDIRECTS = 3


class Pending(Exception):
    """The download goes on; ask again."""


class Away(Exception):
    """Upstream does not answer, or not with what it should."""


class _Absent(Exception):
    """Upstream says that there is no such file."""


@dataclass(frozen=True, slots=True)
class MirrorLimits:
    """`wait_s`: how long a board is kept waiting for a file that is still on its way."""

    max_bytes: int = 50 * 2**30
    max_file_bytes: int = 4 * 2**30
    max_metadata_bytes: int = 16_000_000
    wait_s: float = 10.0
    connect_s: float = 5.0
    read_s: float = 20.0


class Mirror:
    """Any thread may call. One process has the folder."""

    def __init__(self, folder: Path, upstream: str, limits: MirrorLimits | None = None) -> None:
        self._files, self._metadata = folder / "files", folder / "metadata"
        self._limits = limits or MirrorLimits()
        self._upstream = upstream.rstrip("/")
        timeout = urllib3.Timeout(connect=self._limits.connect_s, read=self._limits.read_s)
        self._pool = urllib3.PoolManager(timeout=timeout, retries=urllib3.Retry(total=0, redirect=_REDIRECTS))
        self._workers = ThreadPoolExecutor(_AT_ONCE, "mirror")
        self._under_way: dict[str, Future[Path]] = {}
        self._lock = threading.Lock()
        for each in (self._files, self._metadata):
            each.mkdir(parents=True, exist_ok=True)

    def metadata(self, name: str) -> bytes | None:
        """Upstream's, or the last that it gave when it is away; None where there is none: a root version that nobody
        can give is, to a board, one that does not exist yet. `name` must be a plain file name.

        Errors: Away for metadata that were never seen.
        """
        kept = self._metadata / name
        try:
            content = self._small(f"metadata/{name}")
        except _Absent:
            return None
        except Away as error:
            log.warning("from before: %s: %s", name, error)
            if kept.exists():
                return kept.read_bytes()
            if name.endswith(".root.json"):
                return None
            raise
        _write(kept, content)
        return content

    def of_bundle(self, manifest_sha256: str, path: str) -> Path | None:
        """A file by its name in a bundle: its digest is in the manifest. Errors: Away, Pending."""
        manifest = self.file(manifest_sha256, f"{bundle_path(manifest_sha256)}/{MANIFEST}", MAX_SIGNED_MANIFEST_BYTES)
        if manifest is None or path == MANIFEST:
            return manifest
        try:
            files = files_of(parse_manifest(manifest.read_bytes()))
        except BadBundle as error:
            raise Away(f"upstream's manifest: {error}") from error
        digest = next((file.sha256 for file in files if file.path == path), None)
        return None if digest is None else self.file(digest, f"files/{digest}", self._limits.max_file_bytes)

    def file(self, sha256: str, source: str | None = None, max_bytes: int | None = None) -> Path | None:
        """The file of this digest, from `source` below upstream's URL; None where upstream has none.

        Errors: Away, Pending.
        """
        path = self._files / sha256
        if path.is_file():
            os.utime(path)  # used
            return path
        with self._lock:
            future = self._under_way.get(sha256)
            if future is None:
                most = max_bytes or self._limits.max_file_bytes
                future = self._workers.submit(self._download, source or f"files/{sha256}", sha256, most)
                self._under_way[sha256] = future
        try:
            return future.result(self._limits.wait_s)
        except NotYet:
            raise Pending(sha256) from None
        except _Absent:
            return None

    def close(self) -> None:
        self._workers.shutdown(wait=False, cancel_futures=True)
        self._pool.clear()

    def _small(self, source: str) -> bytes:
        most = self._limits.max_metadata_bytes
        with self._open(source, {}) as response:
            content: bytes = response.read(most + 1)
        if len(content) > most:
            raise Away(f"{source}: more than {most} bytes")
        return content

    def _download(self, source: str, sha256: str, max_bytes: int) -> Path:
        partial = self._files / f".{sha256}.partial"
        try:
            self._receive(source, partial, max_bytes)
            if _digest(partial) != sha256:
                partial.unlink()
                raise Away(f"{source}: not the file of SHA-256 {sha256}")
            partial.replace(self._files / sha256)
        except OSError as error:
            raise Away(f"{partial}: {error.strerror or error}") from error
        finally:
            with self._lock:
                self._under_way.pop(sha256, None)
        self._shrink(sha256)
        return self._files / sha256

    def _receive(self, source: str, partial: Path, max_bytes: int) -> None:
        """Goes on where an earlier download ended."""
        size = partial.stat().st_size if partial.exists() else 0
        headers = {"Range": f"bytes={size}-"} if size else {}
        with self._open(source, headers) as response, partial.open("ab") as file:
            if response.status == 416:
                return  # all of it is here; the digest tells whether it is right
            if response.status == 200:
                file.truncate(0)
                size = 0
            for chunk in response.stream(_CHUNK_BYTES):
                size += len(chunk)
                if size > max_bytes:
                    file.truncate(0)
                    raise Away(f"{source}: more than {max_bytes} bytes")
                file.write(chunk)
            file.flush()
            os.fsync(file.fileno())

    @contextmanager
    def _open(self, source: str, headers: dict[str, str]) -> Iterator[urllib3.BaseHTTPResponse]:
        asked = {"Accept-Encoding": "identity", "User-Agent": "rkfleet-mirror", **headers}
        try:
            response = self._pool.request("GET", f"{self._upstream}/{source}", headers=asked, preload_content=False)
            try:
                if response.status == 404:
                    raise _Absent(source)
                if response.status not in {200, 206, 416}:
                    raise Away(f"{source}: upstream answers {response.status}")
                yield response
            finally:
                response.close()
        except HTTPError as error:
            raise Away(f"{source}: {error}") from error

    def _shrink(self, newest: str) -> None:
        """The least recently used go first."""
        files = [(path.stat(), path) for path in self._files.iterdir() if not path.name.startswith(".")]
        total = sum(about.st_size for about, _ in files)
        for about, path in sorted(files, key=lambda each: each[0].st_mtime_ns):
            if total <= self._limits.max_bytes:
                return
            if path.name != newest:
                path.unlink(missing_ok=True)
                total -= about.st_size


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _write(path: Path, content: bytes) -> None:
    """Best effort: a full disk must not keep boards from what upstream has just given."""
    fresh = path.with_name(f".{path.name}.{threading.get_ident()}")
    try:
        fresh.write_bytes(content)
        fresh.replace(path)
    except OSError as error:
        log.error("not kept for bad days: %s: %s", path, error)
