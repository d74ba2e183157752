"""The first user of a server that has none: an admin with a token in a file that only its owner may read."""

import os
import secrets
from datetime import datetime
from pathlib import Path

from fleet.core.access import TOKEN_BYTES, Role, Token, User, token_digest, token_text
from fleet.errors import Conflict
from fleet.ports import Users

ADMIN = "admin"
NAME = "admin-token"


def make_first_admin(users: Users, folder: Path, now: datetime) -> Path | None:
    """The token's file; None where there are users already. Errors: OSError, and those of the database.

    Safe to be killed at any step, and for two processes that start at once: an admin who cannot get in, having neither
    token nor password, counts as none.
    """
    known = users.users()
    is_stranded = [user.name for user in known] == [ADMIN] and not _can_log_in(users)
    if known and not is_stranded:
        return None
    path = folder / NAME
    text = token_text(secrets.token_bytes(TOKEN_BYTES))
    digest = token_digest(text)
    if digest is None:
        raise AssertionError("a token that was just made is none")
    if not known:
        try:
            users.add(User(ADMIN, Role.ADMIN, is_active=True, created_at=now), None)
        except Conflict:
            return None  # another process is at it
    _write(path, text)
    users.add_token(Token(secrets.token_hex(8), ADMIN, Role.ADMIN, "made at the first start", now), digest)
    return path


def _can_log_in(users: Users) -> bool:
    return bool(users.tokens(ADMIN)) or users.password_hash(ADMIN) is not None


def _write(path: Path, text: str) -> None:
    made = path.with_name(f"{path.name}.{os.getpid()}")
    handle = os.open(made, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(handle, "w") as file:
        file.write(f"{text}\n")
        file.flush()
        os.fsync(file.fileno())
    made.replace(path)
