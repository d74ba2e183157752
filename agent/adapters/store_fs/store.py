"""Model files by SHA-256, and bundles as manifests that name them.

Below the folder: `files/DIGEST`, `bundles/DIGEST-OF-MANIFEST/...` (hard links), `partials/DIGEST` (downloads under way,
with their notes), `quarantine/DIGEST` (files whose content is no longer that of their name).
"""

import hashlib
import re
import threading
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from pathlib import Path

from agent.adapters.store_fs import disk
from agent.adapters.store_fs.bundles import BundleFolders
from agent.core.fetch_plan import MAX_MANIFEST_BYTES, FetchPlan, Wanted, most_bytes, parse_manifest, plan
from agent.errors import AgentError, Permanent, Retryable
from schemas.codes import FailureCode
from schemas.target import Target

_DIGEST = re.compile(r"[0-9a-f]{64}")
_ROTTEN_KEPT = 3
_DELAY_S = 60.0


@dataclass(frozen=True, slots=True)
class StoreLimits:
    """`quota_bytes`: the most that stored files may take; `reserve_bytes`: what a download leaves free on the disk."""

    quota_bytes: int = 4 * 2**30
    reserve_bytes: int = 256 * 2**20


class FolderStore:
    """Any thread may call; one process at a time has the folder.

    A kill at any moment leaves each file whole or absent, and each bundle's folder whole or absent; the interrupted
    call is made again.
    """

    def __init__(self, folder: Path, target: Target, limits: StoreLimits | None = None) -> None:
        """Errors: Permanent(CONFIG_INVALID) where the folder cannot be used."""
        self._folder = folder
        self._target = target
        self._limits = limits or StoreLimits()
        self._files = folder / "files"
        self._partials = folder / "partials"
        self._quarantine = folder / "quarantine"
        self._bundles = BundleFolders(folder / "bundles", self._files)
        self._lock = threading.RLock()
        try:
            for each in (self._files, self._partials, self._quarantine, folder / "bundles"):
                each.mkdir(parents=True, exist_ok=True)
                if each.is_symlink():
                    raise Permanent(FailureCode.CONFIG_INVALID, f"{each} is a symlink, it must be a folder")
            self._bundles.tidy()
            disk.sync(folder)
        except OSError as error:
            raise Permanent(FailureCode.CONFIG_INVALID, f"cannot use {folder}: {error}") from error

    def has(self, sha256: str) -> bool:
        """A file of this name is there; only reading tells whether it is still right."""
        with self._lock, disk.faults_of(self._folder):
            return disk.is_file(self._path(sha256))

    def missing(self, chosen: FetchPlan) -> tuple[Wanted, ...]:
        """What is still to be downloaded, each digest once."""
        with self._lock, disk.faults_of(self._folder):
            first: dict[str, Wanted] = {}
            for file in chosen.files:
                if not disk.is_file(self._path(file.sha256)):
                    first.setdefault(file.sha256, file)
            return tuple(first.values())

    def partial(self, sha256: str) -> Path:
        """Where a download of this file writes and resumes; `NAME.notes` beside it is the downloader's own."""
        _check(sha256)
        with self._lock, disk.faults_of(self._folder):
            path = self._partials / sha256
            for each in (path, path.with_name(f"{sha256}.notes")):
                disk.remove_unless_file(each)
            return path

    def add(self, sha256: str) -> None:
        """Take the partial file in, which the caller has verified. Again after a kill does nothing.

        Errors: Permanent(MODEL_MISSING) when there is neither a partial nor a stored file.
        """
        with self._lock, disk.faults_of(self._folder):
            source, path = self._partials / sha256, self._path(sha256)
            if not disk.is_file(source):
                self._require(path)
                return
            disk.sync(source)
            disk.remove_unless_file(path)
            disk.move(source, path)
            disk.remove(source.with_name(f"{sha256}.notes"))

    def read(self, sha256: str, max_bytes: int) -> bytes:
        """The verified content of a small file.

        Errors: Permanent with MODEL_MISSING, MODEL_INVALID (larger than max_bytes) or MODEL_DIGEST_MISMATCH (now in
        quarantine).
        """
        with self._lock, disk.faults_of(self._folder):
            path = self._path(sha256)
            self._require(path)
            if disk.size_of(path) > max_bytes:
                raise Permanent(FailureCode.MODEL_INVALID, f"{path} has more than {max_bytes} bytes")
            content = disk.read_file(path, max_bytes)
            self._refuse_decayed(sha256, hashlib.sha256(content).hexdigest())
            return content

    def open_bundle(self, manifest_sha256: str) -> Path:
        """The bundle's folder, every file verified anew. Counts as a use.

        Errors: those of `read`; Permanent with MODEL_TOO_NEW, MODEL_INVALID or MODEL_WRONG_TARGET from the manifest.
        """
        with self._lock, disk.faults_of(self._folder):
            try:
                chosen = self._plan(manifest_sha256)
                for sha256 in chosen.digests:
                    self._require(self._path(sha256))
                    self._refuse_decayed(sha256, disk.digest_of(self._path(sha256)))
            except Permanent:
                self._bundles.remove(manifest_sha256)
                raise
            return self._bundles.show(manifest_sha256, chosen.files)

    def make_room(self, chosen: FetchPlan, pinned: Collection[str]) -> None:
        """Before a download: see that all of it will fit the quota and the disk, if need be without old bundles.

        `pinned`: digests of the manifests that must stay (current, candidate, last good). Partial and stored files
        that belong to no bundle and are not of this plan are removed; unpinned bundles go, the least recently used
        first, only as far as room is needed.
        Errors: Retryable(DISK_FULL); Permanent(DISK_FULL) when the bundle alone is above the quota.
        """
        if chosen.max_bytes > self._limits.quota_bytes:
            text = f"a bundle of up to {chosen.max_bytes} bytes, the store's quota is {self._limits.quota_bytes}"
            raise Permanent(FailureCode.DISK_FULL, text)
        with self._lock, disk.faults_of(self._folder):
            self._drop_partials(chosen.digests)
            missing = self.missing(chosen)
            begun = sum(disk.size_of(self._partials / file.sha256) for file in missing)
            incoming = most_bytes(missing)
            lack = self._shrink({*pinned, chosen.manifest_sha256}, chosen.digests, incoming, incoming - begun)
        if lack and missing:
            raise Retryable(
                FailureCode.DISK_FULL, f"{self._folder}: no room for {incoming} bytes: {lack}", delay_s=_DELAY_S
            )

    def prune(self, pinned: Collection[str]) -> None:
        """When no download is under way: remove all partial files, what belongs to no bundle, and, above the quota,
        the least recently used bundles that are not pinned.
        """
        with self._lock, disk.faults_of(self._folder):
            self._drop_partials(())
            self._shrink(set(pinned), frozenset(), 0, 0)

    def _shrink(self, kept: set[str], digests: frozenset[str], incoming: int, to_disk: int) -> str:
        """Returns what is still lacking. Of `incoming` bytes `to_disk` are yet to be written."""
        in_use = digests.union(*(self._digests_of(each) for each in kept))
        self._drop_unused(in_use)
        victims = (each for each in self._bundles.by_use() if each not in kept)
        while lack := self._lack(incoming, to_disk):
            if self._drop_rotten(keep=0):
                continue
            if (victim := next(victims, None)) is None:
                return lack
            self._bundles.remove(victim)
            self._drop_unused(in_use)
        return ""

    def _lack(self, incoming: int, to_disk: int) -> str:
        used = sum(disk.size_of(path) for each in (self._files, self._quarantine) for path in each.iterdir())
        if used + incoming > self._limits.quota_bytes:
            return f"{used} bytes of the quota of {self._limits.quota_bytes} are in use"
        free = disk.free_bytes(self._folder)
        if to_disk > 0 and to_disk > free - self._limits.reserve_bytes:
            return f"{free} bytes are free on the disk, {self._limits.reserve_bytes} of them reserved"
        return ""

    def _plan(self, manifest_sha256: str) -> FetchPlan:
        raw = self.read(manifest_sha256, MAX_MANIFEST_BYTES)
        return plan(parse_manifest(raw), manifest_sha256, self._target, len(raw))

    def _digests_of(self, manifest_sha256: str) -> frozenset[str]:
        try:
            return self._plan(manifest_sha256).digests
        except AgentError:
            return frozenset({manifest_sha256})  # what its folder links to is in use all the same

    def _refuse_decayed(self, sha256: str, found: str) -> None:
        if found == sha256:
            return
        path = self._path(sha256)
        disk.remove_unless_file(self._quarantine / sha256)
        disk.move(path, self._quarantine / sha256)
        self._drop_rotten(keep=_ROTTEN_KEPT)
        text = f"{path} has decayed, its SHA-256 is {found or 'unreadable'}: moved to quarantine, download it again"
        raise Permanent(FailureCode.MODEL_DIGEST_MISMATCH, text)

    def _drop_partials(self, digests: Iterable[str]) -> None:
        names = {name for sha256 in digests for name in (sha256, f"{sha256}.notes")}
        for path in self._partials.iterdir():
            if path.name not in names:
                disk.remove(path)

    def _drop_unused(self, in_use: Collection[str]) -> None:
        for path in self._files.iterdir():
            if path.name not in in_use and (not disk.is_file(path) or path.lstat().st_nlink == 1):
                disk.remove(path)

    def _drop_rotten(self, keep: int) -> bool:
        newest_first = sorted(self._quarantine.iterdir(), key=lambda path: -path.lstat().st_ctime_ns)
        for path in newest_first[keep:]:
            disk.remove(path)
        return len(newest_first) > keep

    def _path(self, sha256: str) -> Path:
        _check(sha256)
        return self._files / sha256

    def _require(self, path: Path) -> None:
        if not disk.is_file(path):
            raise Permanent(FailureCode.MODEL_MISSING, f"{path} is not in the store: download it again")


def _check(sha256: str) -> None:
    if not _DIGEST.fullmatch(sha256):
        raise ValueError(f"{sha256!r} is no SHA-256 in lower case")
