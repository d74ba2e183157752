"""Who may do what: roles and their rights, and tokens that are kept as digests alone."""

import base64
import hashlib
import re
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

TOKEN_BYTES = 32
_TOKEN = re.compile(r"rkf_[A-Za-z0-9_-]{43}")
_NAME = re.compile(r"[a-z0-9][a-z0-9._@-]{0,63}")
LEAST_PASSWORD = 10
MOST_PASSWORD = 256
"""A bound on the work of hashing."""


class Role(StrEnum):
    VIEWER = "viewer"
    OPERATOR = "operator"
    PUBLISHER = "publisher"
    ADMIN = "admin"


class Right(StrEnum):
    """`read` is all that is shown of nodes, rollouts, models, results and alarms."""

    READ = "read"
    LABEL = "label"
    COMMAND = "command"
    JOB = "job"
    CONFIGURE = "configure"
    ROLLOUT = "rollout"
    PUBLISH = "publish"
    AUDIT = "audit"
    REMOVE_NODE = "remove-node"
    USERS = "users"
    RETENTION = "retention"


_VIEWER = frozenset({Right.READ})
_OPERATOR = _VIEWER | {Right.LABEL, Right.COMMAND, Right.JOB, Right.CONFIGURE, Right.ROLLOUT, Right.AUDIT}
RIGHTS: dict[Role, frozenset[Right]] = {
    Role.VIEWER: _VIEWER,
    Role.OPERATOR: _OPERATOR,
    # Who makes a model fit to be run does not decide that it runs: two people stand between a model and the fleet.
    Role.PUBLISHER: _VIEWER | {Right.PUBLISH},
    Role.ADMIN: frozenset(Right),
}


@dataclass(frozen=True, slots=True)
class User:
    name: str
    role: Role
    is_active: bool
    created_at: datetime


@dataclass(frozen=True, slots=True)
class Token:
    """`id` is for people and lists; the secret is nowhere. `role` may be less than the user's, never more."""

    id: str
    user: str
    role: Role
    description: str
    created_at: datetime
    expires_at: datetime | None = None
    revoked_at: datetime | None = None
    last_used_at: datetime | None = None

    def is_valid(self, now: datetime) -> bool:
        return self.revoked_at is None and (self.expires_at is None or now < self.expires_at)


@dataclass(frozen=True, slots=True)
class Principal:
    """Who stands behind a request."""

    user: str
    rights: frozenset[Right]
    token_id: str = ""

    def may(self, right: Right) -> bool:
        return right in self.rights


def principal(user: User, token: Token | None, now: datetime) -> Principal | None:
    """None for whom nothing is allowed: a user that was locked, a token that is over or another's."""
    if not user.is_active:
        return None
    if token is None:
        return Principal(user.name, RIGHTS[user.role])
    if token.user != user.name or not token.is_valid(now):
        return None
    return Principal(user.name, RIGHTS[user.role] & RIGHTS[token.role], token.id)


def token_text(random: bytes) -> str:
    """`random` are TOKEN_BYTES from the operating system. Shown once, never stored; raises ValueError for less."""
    if len(random) != TOKEN_BYTES:
        raise ValueError(f"a token is made of {TOKEN_BYTES} random bytes")
    return "rkf_" + base64.urlsafe_b64encode(random).rstrip(b"=").decode()


def token_digest(text: str) -> str | None:
    """What is stored, and what a presented token is looked up by; None for what cannot be a token.

    A plain digest is enough: nobody can try 2^256 secrets. The look-up compares digests, so its time tells nothing.
    """
    return hashlib.sha256(text.encode()).hexdigest() if _TOKEN.fullmatch(text) else None


def user_name(text: str) -> str:
    """Raises ValueError for what cannot be one."""
    if not _NAME.fullmatch(text):
        raise ValueError("a user's name has 1 to 64 of a-z, 0-9, . _ @ - and begins with a letter or a digit")
    return text


def password_problem(password: str) -> str | None:
    """None where it will do."""
    if len(password) < LEAST_PASSWORD:
        return f"a password has at least {LEAST_PASSWORD} characters"
    if len(password) > MOST_PASSWORD:
        return f"a password has at most {MOST_PASSWORD} characters"
    return None
