"""Signs desired state, commands and jobs with the controller's key: `rkfleet.signed/1`."""

import base64
from datetime import UTC, datetime, timedelta

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from schemas.envelope import Envelope, Signature, keyid_of, signed_bytes

COMMAND_LIFE = timedelta(minutes=5)
STATE_LIFE = timedelta(days=30)
"""Of desired state: a board that was off for longer waits until it is signed anew."""


class ControllerSigner:
    """Any thread may call."""

    def __init__(self, key: bytes) -> None:
        """`key`: the 32 bytes of the private key."""
        self._private = Ed25519PrivateKey.from_private_bytes(key)
        self.keyid = keyid_of(self._private.public_key().public_bytes_raw())

    def sign(self, topic: str, payload: bytes, now: datetime, life: timedelta) -> bytes:
        """The envelope to publish on `topic`.

        Errors: ValueError for a payload that is no UTF-8, and for a life that is none.
        """
        if life <= timedelta(0):
            raise ValueError(f"a signature that holds for {life}")
        text, issued, expires = payload.decode(), _text(now), _text(now + life)
        signature = self._private.sign(signed_bytes(topic, issued, expires, text))
        envelope = Envelope(
            schema="rkfleet.signed/1",
            topic=topic,
            issued_at=issued,
            expires_at=expires,
            payload=text,
            signatures=[Signature(keyid=self.keyid, sig=base64.b64encode(signature).decode())],
        )
        return envelope.to_json()


def _text(time: datetime) -> str:
    return time.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
