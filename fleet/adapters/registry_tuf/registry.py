"""Publish, revoke, refresh: each writes files first, then targets, snapshot, and last the timestamp that shows them.

Below the folder: `metadata/`, `files/{sha256}`, `bundles/{sha256 of the manifest}/{path}` (hard links to files), and
`controller-keys.json`. The first three may be served by any web server or copied to an object store.
"""

import hashlib
import logging
import shutil
import threading
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from securesystemslib.signer import CryptoSigner
from tuf.api.metadata import Metadata, Root, Snapshot, TargetFile, Targets, Timestamp

from fleet.adapters.registry_tuf import controllers
from fleet.adapters.registry_tuf.disk import copy_verified, link, locked
from fleet.adapters.registry_tuf.keys import KeyRing, KeysMissing
from fleet.adapters.registry_tuf.metadata import ROLES, MetadataFolder
from fleet.core.registry import BadBundle, Lifetimes, files_of, is_due, parse_manifest
from fleet.core.registry.bundle import MANIFEST
from fleet.errors import Conflict, ErrorCode, FleetError, NotFound, Permanent
from schemas.manifest import Manifest
from schemas.registry import MAX_SIGNED_MANIFEST_BYTES, ModelTarget, bundle_path, target_path

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Published:
    """`is_live`: boards can see it; else it waits for a refresh where the online keys are."""

    name: str
    version: str
    manifest_sha256: str
    is_new: bool
    is_live: bool

    @property
    def path(self) -> str:
        """Behind the registry's URL: one of `urls` of `desired/model`."""
        return bundle_path(self.manifest_sha256)


@dataclass(frozen=True, slots=True)
class Listed:
    manifest: Manifest
    manifest_sha256: str
    published_at: datetime


class Registry:
    """Any process may open one; writers wait for each other. `keys` is asked only where something is signed."""

    def __init__(self, folder: Path, keys: KeyRing, lifetimes: Lifetimes | None = None) -> None:
        self.folder = folder
        self.keys = keys
        self.lifetimes = lifetimes or Lifetimes()
        self.metadata = MetadataFolder(folder / "metadata", self.lifetimes)

    def init(self, now: datetime, *, root_keys: int = 3, threshold: int = 2) -> Path:
        """Make keys and an empty repository; returns the root metadata that boards are to be provisioned with.

        Errors: Conflict where there is one already; Permanent(INVALID) for a threshold that cannot be; KeysMissing.
        """
        if not 1 <= threshold <= root_keys:
            raise Permanent(ErrorCode.INVALID, f"{threshold} of {root_keys} root keys cannot be")
        first = self.metadata.folder / "1.root.json"
        self.metadata.folder.mkdir(parents=True, exist_ok=True)
        with locked(self.folder):
            if first.exists():
                raise Conflict(f"{self.folder} is a registry already")
            for left in self.metadata.folder.iterdir():
                left.unlink()  # by an init that was stopped; without a root it is no registry
            for name in ("files", "bundles"):
                (self.folder / name).mkdir(exist_ok=True)
            signers = {role: self.keys.obtain(role, root_keys if role == "root" else 1) for role in ROLES}
            root = Root(consistent_snapshot=True)
            for role in ROLES:
                for signer in signers[role]:
                    root.add_key(signer.public_key, role)
            root.roles["root"].threshold = threshold
            controllers.add(self.folder, self.keys.obtain("controller", 1)[0])
            self.metadata.write(Targets(), signers["targets"], now)
            self._write_snapshot(1, signers["snapshot"], now)
            self._write_timestamp(1, signers["timestamp"], now)
            self.metadata.write(root, signers["root"], now)  # last: without it there is no registry
        return first

    def publish(self, bundle: Path, now: datetime) -> Published:
        """Sign a bundle and offer its files. The same bundle again changes nothing.

        Errors: Permanent(INVALID) for a bundle whose files are not those of its manifest; Conflict where the version
        is published with other content; KeysMissing; OSError.
        """
        try:
            with (bundle / MANIFEST).open("rb") as file:
                raw = file.read(MAX_SIGNED_MANIFEST_BYTES + 1)
            manifest = parse_manifest(raw)
            files = files_of(manifest)
        except (BadBundle, FileNotFoundError) as error:
            raise Permanent(ErrorCode.INVALID, f"{bundle}: {error}") from error
        sha256, path = hashlib.sha256(raw).hexdigest(), target_path(manifest.name, manifest.version)
        with locked(self.folder):
            root = self.metadata.root().signed
            targets = self.metadata.targets(root)
            known = targets.signed.targets.get(path)
            if known is not None and known.hashes.get("sha256") != sha256:
                raise Conflict(f"{manifest.name} {manifest.version} is published with other content: give it a version")
            for each in files:
                self._take(bundle / each.path, each.sha256, each.bytes, each.path, sha256)
            self._take(bundle / MANIFEST, sha256, len(raw), MANIFEST, sha256)
            if known is None:
                custom = ModelTarget(manifest=raw.decode(), published_at=now)
                target = TargetFile.from_data(path, raw, ["sha256"])
                target.unrecognized_fields["custom"] = custom.model_dump(mode="json", by_alias=True)
                targets.signed.targets[path] = target
                self._sign_targets(root, targets.signed, now)
            is_live = self._refresh_if_possible(now)
        return Published(manifest.name, manifest.version, sha256, is_new=known is None, is_live=is_live)

    def revoke(self, name: str, version: str, now: datetime) -> bool:
        """Take a model back; boards that run it go on until they are told otherwise. True when boards can see it, and
        only then its files are removed.

        Errors: NotFound, KeysMissing, OSError.
        """
        with locked(self.folder):
            root = self.metadata.root().signed
            targets = self.metadata.targets(root).signed
            if targets.targets.pop(target_path(name, version), None) is None:
                raise NotFound(f"{name} {version} is not published")
            self._sign_targets(root, targets, now)
            is_live = self._refresh_if_possible(now)
            if is_live:
                self._prune(targets)
        return is_live

    def resign(self, now: datetime) -> None:
        """Sign what is published anew, before it expires. Errors: KeysMissing."""
        with locked(self.folder):
            root = self.metadata.root().signed
            self._sign_targets(root, self.metadata.targets(root).signed, now)
            self._refresh_if_possible(now)

    def listed(self) -> list[Listed]:
        """What is published, by name and version. No key is needed."""
        found = []
        for target in self.metadata.targets(self.metadata.root().signed).signed.targets.values():
            custom = ModelTarget.model_validate(target.custom)
            manifest = parse_manifest(custom.manifest.encode())
            found.append(Listed(manifest, target.hashes["sha256"], custom.published_at))
        return sorted(found, key=lambda each: (each.manifest.name, each.published_at))

    def roles(self) -> list[dict[str, Any]]:
        """Each role's version, expiry, threshold and keys, as plain values; the controller's keys last."""
        root = self.metadata.root().signed
        found = []
        for role in ROLES:
            signed = root if role == "root" else self.metadata.signed(role, root)
            version, expires = (signed.version, signed.expires.isoformat()) if signed else (0, "unsigned")
            needed = root.roles[role]
            found.append({"role": role, "version": version, "expires": expires, "threshold": needed.threshold,
                          "keys": list(needed.keyids)})  # fmt: skip
        keyids = [each.keyid for each in controllers.read(self.folder)]
        return [*found, {"role": "controller", "version": 1, "expires": "", "threshold": 1, "keys": keyids}]

    def refresh(self, now: datetime, *, force: bool = False) -> bool:
        """Renew snapshot and timestamp where they are due or where the publisher has signed something new; True when
        anything was written. Errors: KeysMissing, Permanent.
        """
        with locked(self.folder):
            return self.renew(now, {}, force=force)

    def renew(self, now: datetime, extra: dict[str, list[CryptoSigner]], *, force: bool = False) -> bool:
        """`refresh` for who holds the lock already; `extra` signers are those of a role's coming root."""
        root = self.metadata.root().signed
        version = self.metadata.targets(root).signed.version
        snapshot = self.metadata.newest("snapshot", Snapshot, root)
        listed = snapshot.signed.meta["targets.json"].version if snapshot else 0
        if force or not self._is_fresh(snapshot, now) or listed != version:
            self._write_snapshot(version, [*self._signers(root, "snapshot"), *extra.get("snapshot", [])], now)
            snapshot = self.metadata.newest("snapshot", Snapshot, root)
        if snapshot is None:
            raise Permanent(ErrorCode.INTERNAL, f"{self.metadata.folder}: the snapshot just written is not there")
        timestamp = self.metadata.newest("timestamp", Timestamp, root)
        shown = timestamp.signed.snapshot_meta.version if timestamp else 0
        if not force and self._is_fresh(timestamp, now) and shown == snapshot.signed.version:
            return False
        signers = [*self._signers(root, "timestamp"), *extra.get("timestamp", [])]
        self._write_timestamp(snapshot.signed.version, signers, now)
        return True

    def _is_fresh(self, found: Metadata[Snapshot] | Metadata[Timestamp] | None, now: datetime) -> bool:
        return found is not None and not is_due(found.signed.expires, self.lifetimes.of(found.signed.type), now)

    def _signers(self, root: Root, role: str) -> list[CryptoSigner]:
        needed = root.roles[role]
        return self.keys.enough(role, needed.keyids, needed.threshold)

    def _sign_targets(self, root: Root, targets: Targets, now: datetime) -> None:
        self.metadata.write(targets, self._signers(root, "targets"), now)

    def _write_snapshot(self, targets_version: int, signers: list[CryptoSigner], now: datetime) -> None:
        meta = {"targets.json": self.metadata.meta_of("targets", targets_version)}
        self.metadata.write(Snapshot(meta=meta), signers, now)

    def _write_timestamp(self, snapshot_version: int, signers: list[CryptoSigner], now: datetime) -> None:
        self.metadata.write(Timestamp(snapshot_meta=self.metadata.meta_of("snapshot", snapshot_version)), signers, now)

    def _refresh_if_possible(self, now: datetime) -> bool:
        try:
            self.renew(now, {})
        except KeysMissing as error:
            log.warning("not shown to boards before the next refresh: %s", error.text)
            return False
        return True

    def _take(self, source: Path, sha256: str, size: int | None, name: str, manifest_sha256: str) -> None:
        stored = self.folder / "files" / sha256
        try:
            problem = None if stored.exists() else copy_verified(source, stored, sha256, size)
        except (FileNotFoundError, IsADirectoryError):
            problem = f"{source}: the file is missing"
        if problem:
            raise Permanent(ErrorCode.INVALID, problem)
        link(stored, self.folder / bundle_path(manifest_sha256) / name)

    def _prune(self, targets: Targets) -> None:
        """Files that no published model needs."""
        kept = {target.hashes["sha256"] for target in targets.targets.values()}
        needed = set(kept)
        for each in self.listed():
            needed.update(file.sha256 for file in files_of(each.manifest))
        for folder in (self.folder / "bundles").iterdir():
            if folder.name not in kept:
                shutil.rmtree(folder)
        for path in (self.folder / "files").iterdir():
            if path.name not in needed:
                path.unlink()


def keep_fresh(
    registry: Registry, stop: threading.Event, now: Callable[[], datetime], every: timedelta = timedelta(minutes=10)
) -> None:
    """The server's loop: refresh now and then until stopped. What fails is logged and tried again."""
    while not stop.is_set():
        try:
            if registry.refresh(now()):
                log.info("snapshot and timestamp are signed anew")
        except (FleetError, OSError) as error:
            log.error("the registry's metadata are not renewed: %s", error)
        stop.wait(every.total_seconds())
