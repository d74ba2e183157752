"""Users and their tokens."""

import secrets
from datetime import timedelta
from typing import Annotated

from fastapi import Path, Query
from starlette.concurrency import run_in_threadpool

from fleet.core.access import RIGHTS, TOKEN_BYTES, Principal, Right, Role, Token, User, token_digest, token_text
from fleet.errors import Conflict, NotFound
from fleet.web.guard import needs, routes_of
from fleet.web.problem import ApiError, ProblemCode, invalid
from fleet.web.routes.asked import Key
from fleet.web.routes.asked import Query as Strictly
from fleet.web.routes.login import LOGIN, end_logins
from fleet.web.service import Api, Service, Who
from fleet.web.views.access import (
    MadeToken,
    NewToken,
    NewUser,
    TokensView,
    TokenView,
    UserChange,
    UserName,
    UsersView,
    UserView,
)

router = routes_of("access")
Name = Annotated[UserName, Path()]


class TokensQuery(Strictly):
    """Another than who asks only with the right `users`."""

    user: UserName | None = None


@router.get("/users", **needs(Right.USERS))
def list_users(api: Api) -> UsersView:
    """By name."""
    return UsersView(users=[UserView.of(user) for user in api.parts.users.users()])


@router.post("/users", status_code=201, **needs(Right.USERS, 409, body=True))
async def add_user(asked: NewUser, api: Api, who: Who) -> UserView:
    """With a password, or for tokens alone."""
    hashed = await _hashed(api, asked.password)
    return await run_in_threadpool(_add, api, who, asked, hashed)


@router.patch("/users/{name}", **needs(Right.USERS, 404, 409, body=True))
async def change_user(name: Name, asked: UserChange, api: Api, who: Who) -> UserView:
    """At once: the tokens of a user that is locked are good for nothing."""
    user = await run_in_threadpool(api.parts.users.user, name)
    hashed = await _hashed(api, asked.password)
    return await run_in_threadpool(_change, api, who, user, (asked, hashed))


@router.get("/tokens", **needs(Right.READ))
def list_tokens(asked: Annotated[TokensQuery, Query()], api: Api, who: Who) -> TokensView:
    """One's own; with the right `users` all, or those of one user."""
    if asked.user not in {None, who.user} and not who.may(Right.USERS):
        raise _own_alone()
    user = asked.user if who.may(Right.USERS) else who.user
    now = api.now()
    return TokensView(tokens=[TokenView.of(token, now) for token in api.parts.users.tokens(user)])


@router.post("/tokens", status_code=201, **needs(Right.READ, 404, body=True))
def add_token(asked: NewToken, api: Api, who: Who) -> MadeToken:
    """For a program. Needs a login, or the right `users`: a token that leaks makes no others."""
    name = asked.user or who.user
    if name != who.user and not who.may(Right.USERS):
        raise _own_alone()
    if not who.token_id.startswith(LOGIN) and not who.may(Right.USERS):
        raise ApiError(403, ProblemCode.FORBIDDEN, "log in with your password to make a token")
    user = api.parts.users.user(name)
    if not RIGHTS[asked.role] <= RIGHTS[user.role]:
        raise invalid(f"{name} is {user.role}: a token of the role {asked.role} would give more")
    if not RIGHTS[asked.role] <= who.rights:
        raise ApiError(403, ProblemCode.FORBIDDEN, f"the role {asked.role} would give more than you have")
    return _made(api, who, asked, user)


@router.delete("/tokens/{token_id}", status_code=204, **needs(Right.READ, 404))
def revoke_token(token_id: Key, api: Api, who: Who) -> None:
    """One's own; with the right `users` any. One's own login too: that is logging out."""
    owners = {token.id: token.user for token in api.parts.users.tokens(None if who.may(Right.USERS) else who.user)}
    if token_id not in owners:
        raise NotFound(f"there is no token {token_id!r}")
    with api.audited(who.user, "token.revoke", token_id, {"user": owners[token_id]}):
        api.parts.users.revoke(token_id, api.now())


def _own_alone() -> ApiError:
    return ApiError(403, ProblemCode.FORBIDDEN, f"tokens of others need the right {Right.USERS.value!r}")


async def _hashed(api: Service, password: str | None) -> str | None:
    return None if password is None else await api.hashing(lambda: api.parts.passwords.hash(password))


def _add(api: Service, who: Principal, asked: NewUser, hashed: str | None) -> UserView:
    user = User(asked.name, asked.role, is_active=True, created_at=api.now())
    detail = {"role": asked.role.value, "hasPassword": hashed is not None}
    with api.audited(who.user, "user.add", user.name, detail):
        api.parts.users.add(user, hashed)
    return UserView.of(user)


def _change(api: Service, who: Principal, user: User, wanted: tuple[UserChange, str | None]) -> UserView:
    asked, hashed = wanted
    stays_admin = (asked.role or user.role) is Role.ADMIN and asked.is_active is not False
    if user.role is Role.ADMIN and user.is_active and not stays_admin and not _has_other_admin(api, user.name):
        raise Conflict(f"{user.name} is the last active admin")
    detail = asked.model_dump(mode="json", by_alias=True, exclude_none=True, exclude={"password"})
    with api.audited(who.user, "user.change", user.name, {**detail, "newPassword": hashed is not None}):
        changed = api.parts.users.change(user.name, role=asked.role, is_active=asked.is_active, password_hash=hashed)
        if hashed is not None:
            end_logins(api.parts.users, user.name, api)
    return UserView.of(changed)


def _has_other_admin(api: Service, name: str) -> bool:
    return any(user.name != name and user.is_active and user.role is Role.ADMIN for user in api.parts.users.users())


def _made(api: Service, who: Principal, asked: NewToken, user: User) -> MadeToken:
    now, text = api.now(), token_text(secrets.token_bytes(TOKEN_BYTES))
    expires = None if asked.expires_in_days is None else now + timedelta(days=asked.expires_in_days)
    token = Token(f"t-{secrets.token_hex(8)}", user.name, asked.role, asked.description, now, expires)
    detail = {"user": user.name, "role": asked.role.value, "expiresAt": expires, "description": asked.description}
    with api.audited(who.user, "token.add", token.id, detail):
        api.parts.users.add_token(token, token_digest(text) or "")
    return MadeToken(id=token.id, token=text, expires_at=expires)
