"""Users, tokens, and the audit."""

import json
from datetime import UTC, datetime
from typing import Annotated, Any, Self

from pydantic import AfterValidator, Field

from fleet.core.access import LEAST_PASSWORD, MOST_PASSWORD, Principal, Right, Role, Token, User, user_name
from fleet.core.audit import Broken, Record
from schemas.base import Strict, UtcTime, Wire

Plain = Annotated[str, Field(max_length=200, pattern=r"^[^\x00-\x1f\x7f]*$")]
UserName = Annotated[str, Field(max_length=64, pattern=r"^[a-z0-9][a-z0-9._@-]{0,63}$"), AfterValidator(user_name)]
Password = Annotated[str, Field(min_length=LEAST_PASSWORD, max_length=MOST_PASSWORD)]


class Login(Strict):
    name: Annotated[str, Field(max_length=64)]
    password: Annotated[str, Field(max_length=MOST_PASSWORD)]


class LoggedIn(Wire):
    """The token is shown this once."""

    token: str
    expires_at: UtcTime
    role: Role


class Me(Wire):
    """`role` is the user's; `rights` are those of the token, which may be fewer."""

    name: str
    role: Role
    rights: list[Right]
    token_id: str

    @classmethod
    def of(cls, user: User, who: Principal) -> Self:
        return cls(name=user.name, role=user.role, rights=sorted(who.rights), token_id=who.token_id)


class UserView(Wire):
    name: str
    role: Role
    is_active: bool
    created_at: UtcTime

    @classmethod
    def of(cls, user: User) -> Self:
        return cls(name=user.name, role=user.role, is_active=user.is_active, created_at=user.created_at)


class UsersView(Wire):
    users: list[UserView]


class NewUser(Strict):
    """Without a password the user has tokens alone."""

    name: UserName
    role: Role
    password: Password | None = None


class UserChange(Strict):
    """What is left out stays. A new password ends the user's logins."""

    role: Role | None = None
    is_active: bool | None = None
    password: Password | None = None


class PasswordChange(Strict):
    old: Annotated[str, Field(max_length=MOST_PASSWORD)]
    new: Password


class TokenView(Wire):
    """`id` of a login begins with `login-`."""

    id: str
    user: str
    role: Role
    description: str
    created_at: UtcTime
    expires_at: UtcTime | None
    revoked_at: UtcTime | None
    last_used_at: UtcTime | None
    is_valid: bool

    @classmethod
    def of(cls, token: Token, now: datetime) -> Self:
        return cls(
            id=token.id,
            user=token.user,
            role=token.role,
            description=token.description,
            created_at=token.created_at,
            expires_at=token.expires_at,
            revoked_at=token.revoked_at,
            last_used_at=token.last_used_at,
            is_valid=token.is_valid(now),
        )


class TokensView(Wire):
    tokens: list[TokenView]


class NewToken(Strict):
    """`user` is another than who asks only with the right `users`."""

    role: Role
    description: Plain = ""
    expires_in_days: Annotated[float, Field(gt=0, le=3650, allow_inf_nan=False)] | None = None
    user: UserName | None = None


class MadeToken(Wire):
    """The token is shown this once."""

    id: str
    token: str
    expires_at: UtcTime | None


class RecordView(Wire):
    """`digest` seals the record and the digest `before` it."""

    number: int
    at: UtcTime
    actor: str
    action: str
    subject: str
    detail: dict[str, Any]
    before: str
    digest: str

    @classmethod
    def of(cls, record: Record) -> Self:
        read = json.loads(record.detail)
        return cls(
            number=record.number,
            at=datetime.fromtimestamp(record.at_ms / 1000, UTC),
            actor=record.actor,
            action=record.action,
            subject=record.subject,
            detail=read if isinstance(read, dict) else {"detail": read},
            before=record.before,
            digest=record.digest,
        )


class Records(Wire):
    """In order. `next` is `after` of the next page; null where nothing follows yet."""

    records: list[RecordView]
    next: int | None


class BrokenView(Wire):
    number: int
    text: str


class Verified(Wire):
    """`broken` is the first record that does not fit."""

    ok: bool
    broken: BrokenView | None

    @classmethod
    def of(cls, broken: Broken | None) -> Self:
        found = None if broken is None else BrokenView(number=broken.number, text=broken.text)
        return cls(ok=found is None, broken=found)
