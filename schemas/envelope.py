"""`rkfleet.signed/1`: a message of the controller with its signatures, bound to one topic and a time.

The message is carried as the string that was signed, so that nobody needs a canonical form of JSON. What is signed is
`signed_bytes`: each part with its length before it, as in DSSE's pre-authentication encoding.
"""

import base64
import binascii
import hashlib
from datetime import datetime
from typing import Annotated, Literal

from pydantic import AfterValidator, Field

from schemas.base import Id, Sha256, Strict, Wire

SCHEMA = "rkfleet.signed/1"
MAX_ENVELOPE_BYTES = 786_432
"""A configuration of the greatest size, each of its quotes escaped, and signatures."""
MAX_SIGNATURES = 8
_PUBLIC_KEY_BYTES, _SIGNATURE_BYTES = 32, 64
_TIME = r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{1,6})?Z$"


def _bytes_of(size: int) -> AfterValidator:
    def check(text: str) -> str:
        try:
            raw = base64.b64decode(text, validate=True)
        except (binascii.Error, ValueError) as error:
            raise ValueError("not base64") from error
        if len(raw) != size:
            raise ValueError(f"must stand for {size} bytes")
        return text

    return AfterValidator(check)


def _a_time(text: str) -> str:
    datetime.fromisoformat(text)
    return text


TimeText = Annotated[str, Field(pattern=_TIME), AfterValidator(_a_time)]
"""A time in UTC that is kept as the text that was signed."""


class Signature(Wire):
    """Ed25519. `keyid` is the SHA-256 of the public key's 32 bytes."""

    keyid: Sha256
    sig: Annotated[str, Field(max_length=100), _bytes_of(_SIGNATURE_BYTES)]


class Envelope(Wire):
    """In place of `desired/model`, `desired/config`, `cmd/...` or a job's request. `payload` is that message.

    `topic` is the one it is published on; `expiresAt` is when it may no longer be obeyed by who has not seen it yet.
    """

    schema_id: Literal["rkfleet.signed/1"] = Field(alias="schema")
    topic: Annotated[str, Field(max_length=700)]
    issued_at: TimeText
    expires_at: TimeText
    payload: str
    signatures: Annotated[list[Signature], Field(min_length=1, max_length=MAX_SIGNATURES)]

    @property
    def issued(self) -> datetime:
        return datetime.fromisoformat(self.issued_at)

    @property
    def expires(self) -> datetime:
        return datetime.fromisoformat(self.expires_at)

    @property
    def signed(self) -> bytes:
        """What the signatures are of. Raises UnicodeEncodeError for a payload with lone surrogates."""
        return signed_bytes(self.topic, self.issued_at, self.expires_at, self.payload)


class ControllerKey(Strict):
    keyid: Sha256
    name: Id
    public: Annotated[str, Field(max_length=100), _bytes_of(_PUBLIC_KEY_BYTES)]
    """The key's 32 bytes in base64."""


class ControllerKeys(Strict):
    """The file that a board is given when it is provisioned: whose signature it obeys. One signature is enough."""

    schema_id: Literal["rkfleet.controller.keys/1"] = Field(default="rkfleet.controller.keys/1", alias="schema")
    keys: list[ControllerKey] = Field(min_length=1, max_length=MAX_SIGNATURES)


def signed_bytes(topic: str, issued_at: str, expires_at: str, payload: str) -> bytes:
    parts = [part.encode() for part in (SCHEMA, topic, issued_at, expires_at, payload)]
    return b"".join(b"%d %b " % (len(part), part) for part in parts)


def keyid_of(public: bytes) -> str:
    return hashlib.sha256(public).hexdigest()
