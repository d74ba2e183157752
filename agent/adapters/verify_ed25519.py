"""Opens signed messages (`rkfleet.signed/1`) with the controller keys that the board was provisioned with.

Source: RFC 8032; the signatures are checked by `cryptography`, which is loaded with the first message.
"""

import base64
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

from pydantic import ValidationError

from agent.core.command import Refusal
from agent.core.outgoing import Incoming
from agent.errors import Permanent
from agent.least_time import LeastTime
from schemas.codes import FailureCode
from schemas.envelope import MAX_ENVELOPE_BYTES, ControllerKeys, Envelope, Signature, keyid_of

_MOST_FILE_BYTES = 65_536
_MOST_AHEAD = timedelta(days=1)
_MOST_COMMAND_LIFE = timedelta(hours=1)
"""Longer ones could be repeated after the board has forgotten that it has answered them."""


class Ed25519Verifier:
    """Fits the port Verifier. Owned by control."""

    def __init__(self, keys: Path, least: LeastTime) -> None:
        """Errors: Permanent(CONFIG_INVALID) where the keys cannot be read."""
        self._keys = _read(keys)
        self._least = least

    def open(self, message: Incoming) -> Incoming | Refusal:
        """The message that was signed, in the place of its envelope. Never raises, whatever came.

        Refusals: MESSAGE_TOO_LARGE; SIGNATURE_INVALID for what is unsigned, altered, signed by nobody we know or meant
        for another topic; COMMAND_EXPIRED.
        """
        size = len(message.payload)
        if size > MAX_ENVELOPE_BYTES:
            text = f"{size} bytes; a signed message has at most {MAX_ENVELOPE_BYTES}"
            return Refusal(FailureCode.MESSAGE_TOO_LARGE, text)
        try:
            envelope = Envelope.model_validate_json(message.payload)
            signed = envelope.signed
        except (ValidationError, UnicodeEncodeError):
            return _invalid("not signed: this board obeys rkfleet.signed/1 only")
        if envelope.topic != message.topic:
            return _invalid("signed for another topic")
        if not any(self._is_right(each, signed) for each in envelope.signatures):
            return _invalid("no signature by a controller key of this board is right")
        return self._in_time(envelope) or replace(message, payload=envelope.payload.encode())

    def _in_time(self, envelope: Envelope) -> Refusal | None:
        """A signature of ours also tells that it is at least as late as it says, unless a clock that may be right
        gives it the lie: a controller whose clock once ran ahead must not make all that follows expired.
        """
        if envelope.expires <= envelope.issued:
            return _invalid("it expires before it was issued")
        if "/cmd/" in envelope.topic and envelope.expires - envelope.issued > _MOST_COMMAND_LIFE:
            return _invalid(f"a command is signed for at most {_MOST_COMMAND_LIFE}")
        if not self._least.is_clock_behind and envelope.issued > self._least.now() + _MOST_AHEAD:
            return _invalid(f"it says that it was issued at {envelope.issued_at}, which is yet to come")
        self._least.learn(envelope.issued)
        if envelope.expires <= self._least.now():
            return Refusal(FailureCode.COMMAND_EXPIRED, f"its signature expired at {envelope.expires_at}")
        return None

    def _is_right(self, signature: Signature, signed: bytes) -> bool:
        from cryptography.exceptions import InvalidSignature  # noqa: PLC0415  8 MB, only for boards that verify
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey  # noqa: PLC0415

        public = self._keys.get(signature.keyid)
        if public is None:
            return False
        try:
            Ed25519PublicKey.from_public_bytes(public).verify(base64.b64decode(signature.sig), signed)
        except InvalidSignature:
            return False
        return True


def _invalid(text: str) -> Refusal:
    return Refusal(FailureCode.SIGNATURE_INVALID, text)


def _read(path: Path) -> Mapping[str, bytes]:
    try:
        with path.open("rb") as file:
            keys = ControllerKeys.model_validate_json(file.read(_MOST_FILE_BYTES)).keys
    except OSError as error:
        raise Permanent(FailureCode.CONFIG_INVALID, f"trust.controller_keys: {path}: {error.strerror}") from error
    except ValidationError as error:
        raise Permanent(FailureCode.CONFIG_INVALID, f"trust.controller_keys: {path}: {error}") from error
    found = {each.keyid: base64.b64decode(each.public) for each in keys}
    _refuse_misnamed(list(found.items()), path)
    return found


def _refuse_misnamed(keys: Sequence[tuple[str, bytes]], path: Path) -> None:
    for keyid, public in keys:
        if keyid != keyid_of(public):
            text = f"trust.controller_keys: {path}: {keyid[:16]} is not the id of its key"
            raise Permanent(FailureCode.CONFIG_INVALID, text)
