"""Private keys of the registry's roles: sealed files in a folder a keeper, or the environment.

`root/` belongs on a medium that lies in a safe, `publisher/` on the publisher's machine, `online/` on the server. A key
in the environment takes the place of a file: `RKFLEET_KEY_TARGETS` is base64 of 32 random bytes, several are separated
by commas (`openssl rand -base64 32` makes one).
"""

import base64
import binascii
import os
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from securesystemslib.signer import CryptoSigner

from fleet.adapters.registry_tuf.disk import write_whole
from fleet.adapters.registry_tuf.sealed_key import KEY_BYTES, WrongPassphrase, seal, unseal
from fleet.errors import ErrorCode, Permanent

KEEPER = {"root": "root", "targets": "publisher", "snapshot": "online", "timestamp": "online", "controller": "online"}
"""The folder in which a role's keys lie."""
_MOST_FILE_BYTES = 4096


class KeysMissing(Permanent):
    """Fewer keys are at hand than are needed, or they cannot be opened; the text says which."""

    def __init__(self, text: str) -> None:
        super().__init__(ErrorCode.UNAVAILABLE, text)


class KeyRing:
    """`passphrase` is asked with the name of what it opens, once for a file."""

    def __init__(self, folder: Path, environ: Mapping[str, str], passphrase: Callable[[str], str]) -> None:
        self._folder = folder
        self._environ = environ
        self._passphrase = passphrase

    def make(self, role: str) -> CryptoSigner:
        """A new key, sealed in its keeper's folder. Errors: KeysMissing for a passphrase that is too short."""
        return self._keep(role, Ed25519PrivateKey.generate())

    def obtain(self, role: str, count: int) -> list[CryptoSigner]:
        """So many keys to begin with: those of the environment if there are any, else new ones.

        Errors: KeysMissing when the environment has another number of them, and those of `make`.
        """
        given = self._from_environment(role)
        if given and len(given) != count:
            raise KeysMissing(f"{_variable(role)} has {len(given)} keys, {count} are needed")
        return given or [self.make(role) for _ in range(count)]

    def signers(self, role: str, keyids: Iterable[str]) -> list[CryptoSigner]:
        """Those of `keyids` that are at hand. Files that are none of them are not opened.

        Errors: KeysMissing with the reason for a file that cannot be opened.
        """
        wanted = set(keyids)
        found = {each.public_key.keyid: each for each in self._from_environment(role)}
        for path in sorted((self._folder / KEEPER[role]).glob(f"{role}-*.key")):
            keyid = path.stem.removeprefix(f"{role}-")
            if keyid in wanted and keyid not in found:
                found[keyid] = self._open(path, keyid)
        return [found[keyid] for keyid in found if keyid in wanted]

    def enough(self, role: str, keyids: Iterable[str], threshold: int) -> list[CryptoSigner]:
        """Errors: KeysMissing when fewer than `threshold` are at hand."""
        wanted = list(keyids)
        found = self.signers(role, wanted)
        if len(found) < threshold:
            where = f"{self._folder / KEEPER[role]} or {_variable(role)}"
            raise KeysMissing(f"{len(found)} of the {threshold} keys that {role} needs are in {where}")
        return found

    def raw(self, role: str, keyid: str) -> bytes | None:
        """The 32 bytes of a key, for what TUF does not sign; None where it is not at hand. Errors: KeysMissing."""
        found = self.signers(role, [keyid])
        if not found:
            return None
        private = load_pem_private_key(found[0].private_bytes, None)
        return private.private_bytes_raw() if isinstance(private, Ed25519PrivateKey) else None

    def forget(self, role: str, keyid: str) -> None:
        """Remove the file of a key that counts no longer."""
        (self._folder / KEEPER[role] / f"{role}-{keyid}.key").unlink(missing_ok=True)

    def _keep(self, role: str, private: Ed25519PrivateKey) -> CryptoSigner:
        signer = CryptoSigner(private)
        name = f"{role}-{signer.public_key.keyid}.key"
        try:
            sealed = seal(private.private_bytes_raw(), self._passphrase(f"the new key of {role}"))
        except ValueError as error:
            raise KeysMissing(str(error)) from error
        folder = self._folder / KEEPER[role]
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        write_whole(folder / name, sealed, mode=0o600)
        return signer

    def _open(self, path: Path, keyid: str) -> CryptoSigner:
        try:
            with path.open("rb") as file:
                signer = _signer(unseal(file.read(_MOST_FILE_BYTES), self._passphrase(path.name)))
        except (OSError, WrongPassphrase, ValueError) as error:
            raise KeysMissing(f"{path}: {error}") from error
        if signer.public_key.keyid != keyid:
            raise KeysMissing(f"{path}: it holds another key than its name says")
        return signer

    def _from_environment(self, role: str) -> list[CryptoSigner]:
        said = self._environ.get(_variable(role), "")
        try:
            return [_signer(base64.b64decode(each.strip(), validate=True)) for each in said.split(",") if each.strip()]
        except (binascii.Error, ValueError) as error:
            raise KeysMissing(f"{_variable(role)}: not base64 of {KEY_BYTES} bytes") from error


def ask_nobody(environ: Mapping[str, str] | None = None) -> Callable[[str], str]:
    """The passphrase of RKFLEET_KEY_PASSPHRASE, for a server that has nobody to ask."""
    known = os.environ if environ is None else environ

    def passphrase(what: str) -> str:
        try:
            return known["RKFLEET_KEY_PASSPHRASE"]
        except KeyError:
            raise KeysMissing(f"{what}: RKFLEET_KEY_PASSPHRASE is not set") from None

    return passphrase


def _signer(raw: bytes) -> CryptoSigner:
    return CryptoSigner(Ed25519PrivateKey.from_private_bytes(raw))


def _variable(role: str) -> str:
    return f"RKFLEET_KEY_{role.upper()}"
