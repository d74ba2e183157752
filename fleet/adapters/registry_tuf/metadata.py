"""The folder `metadata/`: versions of the four roles, each file whole and signed.

A version that is not validly signed by the newest root counts as not there: what a stopped command left half done is
passed over, and its number is not used again.
"""

from collections.abc import Iterable
from datetime import datetime
from pathlib import Path

from securesystemslib.exceptions import UnverifiedSignatureError
from securesystemslib.signer import CryptoSigner
from tuf.api.exceptions import RepositoryError, UnsignedMetadataError
from tuf.api.metadata import Metadata, MetaFile, Root, Snapshot, T, Targets, Timestamp
from tuf.api.serialization import DeserializationError

from fleet.adapters.registry_tuf.disk import write_whole
from fleet.core.registry import Lifetimes
from fleet.errors import ErrorCode, Permanent
from schemas.registry import ISSUED_FIELD

ROLES = ("root", "targets", "snapshot", "timestamp")
_TIMESTAMP = "timestamp.json"


class MetadataFolder:
    """Reads and writes; who may write when is the registry's business."""

    def __init__(self, folder: Path, lifetimes: Lifetimes) -> None:
        self.folder = folder
        self._lifetimes = lifetimes

    def root(self) -> Metadata[Root]:
        """The newest. Errors: Permanent(INVALID) where there is none."""
        for number in self._numbers("root"):
            found = self._read(f"{number}.root.json", Root)
            if found is not None:
                return found
        raise Permanent(ErrorCode.INVALID, f"{self.folder} holds no registry; `rkfleet registry init` makes one")

    def newest(self, role: str, kind: type[T], root: Root) -> Metadata[T] | None:
        """The greatest version that is signed as this root asks."""
        names = [_TIMESTAMP] if role == "timestamp" else [f"{number}.{role}.json" for number in self._numbers(role)]
        for name in names:
            found = self._read(name, kind)
            if found is not None and is_signed(root, role, found):
                return found
        return None

    def signed(self, role: str, root: Root) -> Targets | Snapshot | Timestamp | None:
        """The newest content of the role, None where nothing is validly signed."""
        found: Metadata[Targets] | Metadata[Snapshot] | Metadata[Timestamp] | None
        match role:
            case "targets":
                found = self.newest(role, Targets, root)
            case "snapshot":
                found = self.newest(role, Snapshot, root)
            case _:
                found = self.newest(role, Timestamp, root)
        return found.signed if found else None

    def targets(self, root: Root) -> Metadata[Targets]:
        """Errors: Permanent(SIGNATURE_INVALID)."""
        found = self.newest("targets", Targets, root)
        if found is None:
            raise Permanent(ErrorCode.SIGNATURE_INVALID, f"{self.folder} has no targets that the publisher has signed")
        return found

    def write(self, signed: T, signers: Iterable[CryptoSigner], now: datetime) -> None:
        """As the next version, issued now. The content of `signed` is kept, its version and times are set."""
        role = signed.type
        signed.version = self._next_version(role, signed.version)
        signed.expires = (now + self._lifetimes.of(role)).replace(microsecond=0)
        if role in {"root", "targets"}:
            signed.unrecognized_fields[ISSUED_FIELD] = now.isoformat(timespec="seconds")
        metadata = Metadata(signed)
        for signer in signers:
            metadata.sign(signer, append=True)
        name = _TIMESTAMP if role == "timestamp" else f"{signed.version}.{role}.json"
        write_whole(self.folder / name, metadata.to_bytes())

    def meta_of(self, role: str, version: int) -> MetaFile:
        """As snapshot and timestamp speak of another role: its length and digest too, against mix-and-match."""
        content = (self.folder / f"{version}.{role}.json").read_bytes()
        return MetaFile.from_data(version, content, ["sha256"])

    def _next_version(self, role: str, now: int) -> int:
        if role == "timestamp":
            found = self._read(_TIMESTAMP, Timestamp)
            return max(now, found.signed.version if found else 0) + 1
        return max([now, *self._numbers(role)]) + 1 if self._numbers(role) else 1

    def _numbers(self, role: str) -> list[int]:
        """The greatest first."""
        heads = [path.name.split(".", 1)[0] for path in self.folder.glob(f"*.{role}.json")]
        return sorted((int(head) for head in heads if head.isascii() and head.isdigit()), reverse=True)

    def _read(self, name: str, kind: type[T]) -> Metadata[T] | None:
        try:
            found = Metadata[T].from_bytes((self.folder / name).read_bytes())
        except (OSError, DeserializationError, RepositoryError, ValueError):
            return None
        return found if isinstance(found.signed, kind) else None


def is_signed(root: Root, role: str, found: Metadata[T]) -> bool:
    try:
        root.verify_delegate(role, found.signed_bytes, found.signatures)
    except (UnsignedMetadataError, UnverifiedSignatureError, ValueError):
        return False
    return True
