"""`controller-keys.json`: whose commands boards obey. It is copied to each board when that is provisioned."""

import base64
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from pydantic import ValidationError
from securesystemslib.signer import CryptoSigner, SSlibKey

from fleet.adapters.registry_tuf.disk import write_whole
from fleet.adapters.registry_tuf.keys import KeyRing, KeysMissing
from fleet.errors import ErrorCode, NotFound, Permanent
from schemas.envelope import MAX_SIGNATURES, ControllerKey, ControllerKeys, keyid_of

NAME = "controller-keys.json"


def read(folder: Path) -> list[ControllerKey]:
    """The oldest first. Errors: Permanent(INVALID) for a file that is none."""
    try:
        return ControllerKeys.model_validate_json((folder / NAME).read_bytes()).keys
    except FileNotFoundError:
        return []
    except ValidationError as error:
        raise Permanent(ErrorCode.INVALID, f"{folder / NAME}: {error}") from error


def add(folder: Path, signer: CryptoSigner) -> ControllerKey:
    """A key that is there already is not added again. Errors: Permanent(INVALID) where there are too many."""
    known = read(folder)
    raw = bytes.fromhex(signer.public_key.keyval["public"])
    keyid = keyid_of(raw)
    for each in known:
        if each.keyid == keyid:
            return each
    if len(known) >= MAX_SIGNATURES:
        raise Permanent(ErrorCode.INVALID, f"there are {len(known)} controller keys: revoke one first")
    made = ControllerKey(keyid=keyid, name=f"controller-{keyid[:8]}", public=base64.b64encode(raw).decode())
    _write(folder, [*known, made])
    return made


def remove(folder: Path, keyid: str) -> None:
    """Errors: NotFound; Permanent(INVALID) for the last one, without which nobody is obeyed."""
    known = read(folder)
    left = [each for each in known if each.keyid != keyid]
    if len(left) == len(known):
        raise NotFound(f"there is no controller key {keyid}")
    if not left:
        raise Permanent(ErrorCode.INVALID, "it is the last controller key: `rkfleet registry rotate controller` first")
    _write(folder, left)


def signing_key(folder: Path, keys: KeyRing) -> bytes:
    """The 32 bytes of the newest controller key that is at hand. Errors: KeysMissing."""
    known = read(folder)
    for each in reversed(known):
        public = Ed25519PublicKey.from_public_bytes(base64.b64decode(each.public))
        raw = keys.raw("controller", SSlibKey.from_crypto(public).keyid)
        if raw is not None:
            return raw
    raise KeysMissing(f"none of the {len(known)} controller keys is at hand")


def _write(folder: Path, keys: list[ControllerKey]) -> None:
    write_whole(folder / NAME, ControllerKeys(keys=keys).to_json() + b"\n")
