"""An Ed25519 key at rest: its 32 bytes sealed by a passphrase.

scrypt and AES-256-GCM, for the standard container of such keys (PKCS 8) stretches a passphrase by 2,048 rounds only.
"""

import base64
import hashlib
import json
import os
from typing import Any

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

SCHEMA = "rkfleet.key/1"
LEAST_PASSPHRASE_CHARS = 12
KEY_BYTES = 32
_COST = {"n": 2**15, "r": 8, "p": 1}
_MOST_MEMORY_BYTES = 2**26


class WrongPassphrase(ValueError):
    """Or a file that was altered: the two cannot be told apart."""


def seal(key: bytes, passphrase: str) -> bytes:
    """Errors: ValueError for a passphrase that is too short to protect anything."""
    if len(passphrase) < LEAST_PASSPHRASE_CHARS:
        raise ValueError(f"a passphrase has at least {LEAST_PASSPHRASE_CHARS} characters")
    salt, nonce = os.urandom(16), os.urandom(12)
    box = AESGCM(_stretched(passphrase, salt)).encrypt(nonce, key, SCHEMA.encode())
    parts = {"salt": salt, "nonce": nonce, "box": box}
    document = {"schema": SCHEMA, **{name: base64.b64encode(part).decode() for name, part in parts.items()}}
    return json.dumps(document).encode() + b"\n"


def unseal(content: bytes, passphrase: str) -> bytes:
    """Errors: WrongPassphrase; ValueError for what is no such file."""
    try:
        document: dict[str, Any] = json.loads(content)
        if document["schema"] != SCHEMA:
            raise ValueError(f"a key of the format {document['schema']!r}")
        salt, nonce, box = (base64.b64decode(document[name], validate=True) for name in ("salt", "nonce", "box"))
    except (KeyError, TypeError) as error:
        raise ValueError(f"not a key: {error}") from error
    try:
        return AESGCM(_stretched(passphrase, salt)).decrypt(nonce, box, SCHEMA.encode())
    except InvalidTag:
        raise WrongPassphrase("the passphrase is not the key's, or the file was altered") from None


def _stretched(passphrase: str, salt: bytes) -> bytes:
    return hashlib.scrypt(passphrase.encode(), salt=salt, dklen=32, maxmem=_MOST_MEMORY_BYTES, **_COST)
