"""Coming in by name and password, and who one is then."""

import logging
import secrets
from datetime import timedelta

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request

from fleet.core.access import TOKEN_BYTES, Right, Token, User, token_digest, token_text, user_name
from fleet.errors import NotFound
from fleet.ports import Users
from fleet.web.guard import needs, routes_of
from fleet.web.parts import ApiParts
from fleet.web.problem import ApiError, ProblemCode
from fleet.web.service import Api, Service, Who
from fleet.web.views.access import LoggedIn, Login, Me, PasswordChange

LOGIN = "login-"
"""What the ids of tokens begin with that a password has made."""
_NOBODY = "?"
_log = logging.getLogger(__name__)
router = routes_of("access")


@router.post("/login", **needs(None, 401, 429, body=True))
async def login(asked: Login, request: Request, api: Api) -> LoggedIn:
    """A token for some hours. A wrong name, a wrong password and a locked user look the same, in time too."""
    name, address = _known(asked.name), request.client.host if request.client else ""
    user = await _checked(api, name, asked.password, address)
    return await run_in_threadpool(_begin, api, user, address)


@router.get("/me", **needs(Right.READ))
def who_am_i(api: Api, who: Who) -> Me:
    """The user, and what this token may do."""
    return Me.of(api.parts.users.user(who.user), who)


@router.post("/me/password", status_code=204, **needs(Right.READ, 429, body=True))
async def change_own_password(asked: PasswordChange, request: Request, api: Api, who: Who) -> None:
    """Ends the user's other logins."""
    await _checked(api, who.user, asked.old, request.client.host if request.client else "", status=403)
    hashed = await api.hashing(lambda: api.parts.passwords.hash(asked.new))
    await run_in_threadpool(_set_password, api, who.user, hashed, who.token_id)


async def _checked(api: Service, name: str, password: str, address: str, status: int = 401) -> User:
    """Raises ApiError: too often, or not the password of an active user."""
    api.logins.begin(name, address)
    user = await api.hashing(lambda: _verified(api.parts, name, password))
    if user is None:
        _log.warning("login of %s from %s refused", name, address)
        code = ProblemCode.UNAUTHENTICATED if status == 401 else ProblemCode.FORBIDDEN
        headers = {"WWW-Authenticate": "Bearer"} if status == 401 else None
        raise ApiError(status, code, "the name or the password is wrong", headers=headers)
    api.logins.right(name, address)
    return user


def _known(text: str) -> str:
    """What cannot be a name is nobody's, and counted like one."""
    try:
        return user_name(text)
    except ValueError:
        return _NOBODY


def _verified(parts: ApiParts, name: str, password: str) -> User | None:
    stored = parts.users.password_hash(name)
    if not parts.passwords.verify(stored, password):
        return None
    try:
        user = parts.users.user(name)
    except NotFound:
        return None
    if user.is_active and stored is not None and parts.passwords.is_outdated(stored):
        parts.users.change(name, password_hash=parts.passwords.hash(password))
    return user if user.is_active else None


def _begin(api: Service, user: User, address: str) -> LoggedIn:
    now, text = api.now(), token_text(secrets.token_bytes(TOKEN_BYTES))
    expires = now + timedelta(hours=api.parts.settings.login_hours)
    token = Token(f"{LOGIN}{secrets.token_hex(8)}", user.name, user.role, "", now, expires)
    with api.audited(user.name, "login", user.name, {"address": address, "token": token.id}):
        api.parts.users.add_token(token, token_digest(text) or "")
    return LoggedIn(token=text, expires_at=expires, role=user.role)


def _set_password(api: Service, name: str, hashed: str, but: str) -> None:
    with api.audited(name, "user.password", name, {}):
        api.parts.users.change(name, password_hash=hashed)
        end_logins(api.parts.users, name, api, but)


def end_logins(users: Users, name: str, api: Service, but: str = "") -> None:
    """Of this user, but for one token."""
    now = api.now()
    for token in users.tokens(name):
        if token.id.startswith(LOGIN) and token.id != but and token.is_valid(now):
            users.revoke(token.id, now)
