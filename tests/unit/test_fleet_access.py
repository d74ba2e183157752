"""Rights, tokens, passwords, and the chain of the audit."""

from dataclasses import replace
from datetime import timedelta

import pytest
from argon2 import PasswordHasher
from hypothesis import given, settings
from hypothesis import strategies as st

from fleet.adapters.passwords_argon2 import Argon2Passwords
from fleet.core.access import (
    RIGHTS,
    Right,
    Role,
    Token,
    User,
    password_problem,
    principal,
    token_digest,
    token_text,
    user_name,
)
from fleet.core.audit import FIRST, Entry, Record, seal, verify
from tests.unit.fleet_board import T0, at

ANNA = User("anna", Role.OPERATOR, is_active=True, created_at=T0)
TOKEN = Token("t1", "anna", Role.VIEWER, "", T0, expires_at=at(100))


@pytest.mark.parametrize(("role", "may", "may_not"), [
    (Role.VIEWER, {Right.READ}, {Right.COMMAND, Right.ROLLOUT, Right.PUBLISH, Right.USERS, Right.AUDIT}),
    (Role.OPERATOR, {Right.READ, Right.ROLLOUT, Right.COMMAND}, {Right.PUBLISH, Right.USERS, Right.REMOVE_NODE}),
    (Role.PUBLISHER, {Right.READ, Right.PUBLISH}, {Right.ROLLOUT, Right.COMMAND, Right.USERS}),
    (Role.ADMIN, set(Right), set()),
])  # fmt: skip
def test_roles(role: Role, may: set[Right], may_not: set[Right]) -> None:
    assert RIGHTS[role] >= may
    assert not RIGHTS[role] & may_not


@pytest.mark.parametrize(("user", "token", "now", "rights"), [
    pytest.param(ANNA, None, T0, RIGHTS[Role.OPERATOR], id="herself"),
    pytest.param(ANNA, TOKEN, T0, RIGHTS[Role.VIEWER], id="a token of less"),
    pytest.param(ANNA, replace(TOKEN, role=Role.ADMIN), T0, RIGHTS[Role.OPERATOR], id="a token gives no more"),
    pytest.param(ANNA, TOKEN, at(100), None, id="expired"),
    pytest.param(ANNA, replace(TOKEN, revoked_at=T0), T0, None, id="revoked"),
    pytest.param(ANNA, replace(TOKEN, user="bob"), T0, None, id="another's"),
    pytest.param(replace(ANNA, is_active=False), TOKEN, T0, None, id="locked"),
])  # fmt: skip
def test_who_may_what(user: User, token: Token | None, now: object, rights: object) -> None:
    found = principal(user, token, now)  # type: ignore[arg-type]
    assert (found.rights if found else None) == rights


def test_tokens_are_known_by_their_digest_alone() -> None:
    one, two = token_text(b"\0" * 32), token_text(b"\xff" * 32)
    assert token_digest(one) != token_digest(two)
    assert len(token_digest(one) or "") == 64
    for bad in ("", one[:-1], one + "a", "xyz_" + one[4:], one + "\n"):
        assert token_digest(bad) is None
    with pytest.raises(ValueError, match="32 random bytes"):
        token_text(b"short")


def test_names_and_passwords() -> None:
    assert user_name("anna.b@plant") == "anna.b@plant"
    for bad in ("", "Anna", "-a", "a b", "a" * 65, "../x", "a\n"):
        with pytest.raises(ValueError, match="a user's name"):
            user_name(bad)
    assert password_problem("correct horse") is None
    assert password_problem("short") is not None
    assert password_problem("x" * 257) is not None


def test_passwords_are_hashed_with_salt() -> None:
    passwords = Argon2Passwords(PasswordHasher(time_cost=1, memory_cost=64, parallelism=1))
    one, two = passwords.hash("correct horse"), passwords.hash("correct horse")
    assert one != two
    assert one.startswith("$argon2id$")
    assert passwords.verify(one, "correct horse")
    for stored, tried in (
        (one, "wrong horse"),
        (None, "correct horse"),
        ("garbage", "x"),
        (None, "no such user, and no password is this"),
    ):
        assert not passwords.verify(stored, tried)
    assert not passwords.is_outdated(one)
    assert Argon2Passwords().is_outdated(one)


def chain(length: int) -> list[Record]:
    records: list[Record] = []
    for number in range(1, length + 1):
        entry = Entry(T0 + timedelta(seconds=number), "anna", "rollout.pause", f"r{number}", {"n": number})
        records.append(seal(entry, number, records[-1].digest if records else FIRST))
    return records


def test_a_whole_chain_holds_and_a_part_of_it_too() -> None:
    records = chain(5)
    assert verify(records) is None
    assert verify(records[2:], records[1].digest, 3) is None
    assert verify([]) is None


@given(
    at=st.integers(0, 4),
    change=st.sampled_from(
        ["actor", "action", "subject", "detail", "at_ms", "digest", "before", "remove", "swap", "repeat"]
    ),
)
@settings(max_examples=60, deadline=None)
def test_every_change_is_found_where_it_was_made(at: int, change: str) -> None:
    records = chain(5)
    if change == "remove":
        del records[at]
        if at == 4:
            return  # the end of a chain can only be seen by who knows how long it was
    elif change == "swap":
        other = (at + 1) % 5
        records[at], records[other] = records[other], records[at]
    elif change == "repeat":
        records.insert(at, records[at])
    else:
        records[at] = replace(records[at], **{change: 1 if change == "at_ms" else "x"})  # type: ignore[arg-type]
    broken = verify(records)
    assert broken is not None
    first = {"swap": min(at, (at + 1) % 5), "repeat": at + 1}.get(change, at)
    assert broken.number == first + 1


def test_fields_do_not_run_into_each_other() -> None:
    one = seal(Entry(T0, "ab", "c", "d", {}), 1, FIRST)
    two = seal(Entry(T0, "a", "bc", "d", {}), 1, FIRST)
    assert one.digest != two.digest
    hostile = seal(Entry(T0, "\0\ud800", "x", "y", {"k": "\ud800"}), 1, FIRST)
    assert verify([hostile]) is None
    assert "\0" not in hostile.actor
