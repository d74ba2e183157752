"""Passwords hashed with Argon2id, with the parameters that argon2-cffi recommends."""

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError

_NOBODY = "no such user, and no password is this"


class Argon2Passwords:
    """About 50 ms and 64 MB a call by default: callers bound how many run at once."""

    def __init__(self, hasher: PasswordHasher | None = None) -> None:
        self._hasher = hasher or PasswordHasher()
        self._decoy = self._hasher.hash(_NOBODY)

    def hash(self, password: str) -> str:
        return self._hasher.hash(password)

    def verify(self, password_hash: str | None, password: str) -> bool:
        try:
            matches = self._hasher.verify(password_hash or self._decoy, password)
        except (VerificationError, InvalidHashError):
            return False
        return matches and password_hash is not None

    def is_outdated(self, password_hash: str) -> bool:
        return self._hasher.check_needs_rehash(password_hash)
