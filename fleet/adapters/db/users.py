"""People and programs that may use the fleet."""

from datetime import datetime
from typing import Any

from sqlalchemy import Row, insert, select, update

from fleet.adapters.db.database import Database, ms, utc, utc_or_none
from fleet.adapters.db.tables import TokenRow, UserRow
from fleet.core.access import Role, Token, User
from fleet.errors import NotFound

_USER = (UserRow.name, UserRow.role, UserRow.is_active, UserRow.created_ms)
_TOKEN = (
    TokenRow.token_id,
    TokenRow.user_name,
    TokenRow.role,
    TokenRow.description,
    TokenRow.created_ms,
    TokenRow.expires_ms,
    TokenRow.revoked_ms,
    TokenRow.used_ms,
)


class DbUsers:
    def __init__(self, database: Database) -> None:
        self._database = database

    def add(self, user: User, password_hash: str | None) -> None:
        row = {
            "name": user.name,
            "role": user.role.value,
            "is_active": int(user.is_active),
            "password_hash": password_hash,
            "created_ms": ms(user.created_at),
        }
        with self._database.write() as connection:
            connection.execute(insert(UserRow), row)

    def change(
        self, name: str, *, role: Role | None = None, is_active: bool | None = None, password_hash: str | None = None
    ) -> User:
        changes: dict[str, Any] = {}
        if role is not None:
            changes["role"] = role.value
        if is_active is not None:
            changes["is_active"] = int(is_active)
        if password_hash is not None:
            changes["password_hash"] = password_hash
        with self._database.write() as connection:
            if changes:
                connection.execute(update(UserRow).where(UserRow.name == name).values(**changes))
            row = connection.execute(select(*_USER).where(UserRow.name == name)).one_or_none()
        return _user(row, name)

    def user(self, name: str) -> User:
        with self._database.read() as connection:
            row = connection.execute(select(*_USER).where(UserRow.name == name)).one_or_none()
        return _user(row, name)

    def users(self) -> list[User]:
        with self._database.read() as connection:
            return [_user(row, row.name) for row in connection.execute(select(*_USER).order_by(UserRow.name))]

    def password_hash(self, name: str) -> str | None:
        with self._database.read() as connection:
            return connection.execute(select(UserRow.password_hash).where(UserRow.name == name)).scalar_one_or_none()

    def add_token(self, token: Token, digest: str) -> None:
        row = {
            "token_id": token.id,
            "digest": digest,
            "user_name": token.user,
            "role": token.role.value,
            "description": token.description,
            "created_ms": ms(token.created_at),
            "expires_ms": None if token.expires_at is None else ms(token.expires_at),
        }
        with self._database.write() as connection:
            connection.execute(insert(TokenRow), row)

    def token(self, digest: str) -> Token | None:
        with self._database.read() as connection:
            row = connection.execute(select(*_TOKEN).where(TokenRow.digest == digest)).one_or_none()
        return None if row is None else _token(row)

    def tokens(self, user: str | None = None) -> list[Token]:
        wanted = select(*_TOKEN).order_by(TokenRow.created_ms, TokenRow.token_id)
        if user is not None:
            wanted = wanted.where(TokenRow.user_name == user)
        with self._database.read() as connection:
            return [_token(row) for row in connection.execute(wanted)]

    def revoke(self, token_id: str, at: datetime) -> None:
        """A second time changes nothing; raises NotFound."""
        with self._database.write() as connection:
            found = connection.execute(select(TokenRow.token_id).where(TokenRow.token_id == token_id)).one_or_none()
            if found is None:
                raise NotFound(f"there is no token {token_id!r}")
            connection.execute(
                update(TokenRow)
                .where(TokenRow.token_id == token_id, TokenRow.revoked_ms.is_(None))
                .values(revoked_ms=ms(at))
            )

    def used(self, token_id: str, at: datetime) -> None:
        with self._database.write() as connection:
            connection.execute(update(TokenRow).where(TokenRow.token_id == token_id).values(used_ms=ms(at)))


def _user(row: Row[*tuple[Any, ...]] | None, name: str) -> User:
    if row is None:
        raise NotFound(f"there is no user {name!r}")
    return User(row.name, Role(row.role), bool(row.is_active), utc(row.created_ms))


def _token(row: Row[*tuple[Any, ...]]) -> Token:
    return Token(
        row.token_id,
        row.user_name,
        Role(row.role),
        row.description,
        utc(row.created_ms),
        utc_or_none(row.expires_ms),
        utc_or_none(row.revoked_ms),
        utc_or_none(row.used_ms),
    )
