"""Names, passwords, tokens: who comes in, and how often one may try."""

import logging
import threading
from typing import Any

import pytest

from fleet.core.access import Role
from fleet.core.throttle import Rate
from fleet.errors import ErrorCode, Retryable
from fleet.web.api import ApiSettings
from tests.contract.web.world import PASSWORD, QUICK, Client, Making, World
from tests.unit.fleet_board import at

V1 = "/api/v1"
WRONG = "wrong horse battery"


class Counting:
    """Passwords that note what was looked at, and how many at once."""

    def __init__(self) -> None:
        self.hashes: list[str | None] = []
        self.most = 0
        self.at_once = 0
        self.gate = threading.Event()
        self.gate.set()
        self.entered = threading.Semaphore(0)
        self._lock = threading.Lock()

    def hash(self, password: str) -> str:
        return f"hash of {password}"

    def verify(self, password_hash: str | None, password: str) -> bool:
        with self._lock:
            self.hashes.append(password_hash)
            self.at_once += 1
            self.most = max(self.most, self.at_once)
        self.entered.release()
        assert self.gate.wait(30)
        with self._lock:
            self.at_once -= 1
        return password_hash == f"hash of {password}"

    def is_outdated(self, password_hash: str) -> bool:
        return False


def login(client: Client, name: str, password: str) -> Any:
    return client.post(f"{V1}/login", {"name": name, "password": password})


def test_a_login_gives_a_token_for_some_hours(world: World) -> None:
    answer = login(world.as_(None), "operator", PASSWORD).json()
    assert answer["role"] == "operator"
    assert answer["expiresAt"] == "2026-03-07T00:00:00.000Z"
    mine = world.as_(answer["token"])
    assert mine.get(f"{V1}/me").json()["name"] == "operator"
    assert world.actions() == ["login"]
    world.clock.pass_by(12 * 3600)
    assert mine.get(f"{V1}/me").status_code == 401


@pytest.mark.parametrize(("name", "password"), [
    ("operator", WRONG),
    ("nobody", PASSWORD),
    ("No Such Name", PASSWORD),
    ("locked", PASSWORD),
    ("tokens-alone", PASSWORD),
    ("", ""),
])  # fmt: skip
def test_whatever_is_wrong_looks_the_same(world: World, name: str, password: str) -> None:
    admin = world.as_()
    admin.post(f"{V1}/users", {"name": "locked", "role": "viewer", "password": PASSWORD})
    admin.patch(f"{V1}/users/locked", {"isActive": False})
    admin.post(f"{V1}/users", {"name": "tokens-alone", "role": "viewer"})
    answer = login(world.as_(None), name, password)
    assert answer.status_code == 401
    assert answer.json()["detail"] == "the name or the password is wrong"
    assert "login" not in world.actions()


def test_an_unknown_user_costs_as_much_as_a_known_one(making: Making) -> None:
    passwords = Counting()
    world = making(passwords=passwords)
    for name in ("operator", "nobody", "No Such Name"):
        login(world.as_(None), name, WRONG)
    assert passwords.hashes == [f"hash of {PASSWORD}", None, None]


def test_a_password_is_tried_so_often_and_then_one_waits(world: World, caplog: pytest.LogCaptureFixture) -> None:
    client = world.as_(None)
    with caplog.at_level(logging.WARNING, "fleet.web.routes.login"):
        statuses = [login(client, "operator", WRONG).status_code for _ in range(12)]
    assert statuses == [401] * 10 + [429] * 2
    assert len(caplog.records) == 10
    assert WRONG not in caplog.text
    refused = login(client, "operator", PASSWORD)
    assert refused.status_code == 429, "the right one too: nobody learns by being let in"
    assert refused.json()["code"] == "too-many"
    assert login(client, "viewer", PASSWORD).status_code == 200, "others are not locked out"
    world.clock.pass_by(float(refused.headers["retry-after"]))
    assert login(client, "operator", PASSWORD).status_code == 200


def test_an_address_is_limited_whatever_names_it_tries(making: Making) -> None:
    world = making(ApiSettings(address_rate=Rate(burst=5, each_s=60.0)))
    client = world.as_(None)
    assert [login(client, f"user{n}", WRONG).status_code for n in range(7)] == [401] * 5 + [429] * 2


def test_right_logins_are_not_counted(making: Making) -> None:
    world = making(ApiSettings(login_rate=Rate(2, 60.0), address_rate=Rate(2, 60.0)))
    assert {login(world.as_(None), "viewer", PASSWORD).status_code for _ in range(6)} == {200}


def test_few_passwords_are_looked_at_at_once_and_few_more_wait(making: Making) -> None:
    passwords = Counting()
    world = making(ApiSettings(password_checks=2, waiting_logins=3), passwords=passwords)
    passwords.gate.clear()
    statuses: list[int] = []
    threads = [
        threading.Thread(target=lambda n=n: statuses.append(login(world.as_(None), f"user{n}", WRONG).status_code))
        for n in range(9)
    ]
    for thread in threads:
        thread.start()
    assert passwords.entered.acquire(timeout=30)
    assert passwords.entered.acquire(timeout=30)
    while len(statuses) < 4:  # those for whom there is no room are told at once
        threads[0].join(0.01)
    assert world.as_().get(f"{V1}/me").status_code == 200, "others go on meanwhile"
    passwords.gate.set()
    for thread in threads:
        thread.join(30)
    assert sorted(statuses) == [401] * 5 + [503] * 4
    assert passwords.most == 2


def test_an_old_hash_is_made_anew(world: World) -> None:
    weak = QUICK.__class__(time_cost=2, memory_cost=64, parallelism=1).hash(PASSWORD)
    world.parts.users.change("viewer", password_hash=weak)
    assert login(world.as_(None), "viewer", PASSWORD).status_code == 200
    assert world.parts.users.password_hash("viewer") != weak
    assert login(world.as_(None), "viewer", PASSWORD).status_code == 200


def test_ones_own_password(world: World) -> None:
    first, second = (login(world.as_(None), "viewer", PASSWORD).json()["token"] for _ in range(2))
    kept = world.as_(first)
    new = "another horse battery"
    assert kept.post(f"{V1}/me/password", {"old": WRONG, "new": new}).status_code == 403
    assert kept.post(f"{V1}/me/password", {"old": PASSWORD, "new": "short"}).status_code == 422
    assert kept.post(f"{V1}/me/password", {"old": PASSWORD, "new": new}).status_code == 204
    assert kept.get(f"{V1}/me").status_code == 200
    assert world.as_(second).get(f"{V1}/me").status_code == 401, "other logins end"
    assert login(world.as_(None), "viewer", PASSWORD).status_code == 401
    assert login(world.as_(None), "viewer", new).status_code == 200
    assert "user.password" in world.actions()


def test_users_are_added_changed_and_locked_at_once(world: World) -> None:
    admin = world.as_()
    made = admin.post(f"{V1}/users", {"name": "anna", "role": "operator", "password": PASSWORD})
    assert (made.status_code, made.json()["role"]) == (201, "operator")
    assert admin.post(f"{V1}/users", {"name": "anna", "role": "viewer"}).status_code == 409
    token = login(world.as_(None), "anna", PASSWORD).json()["token"]
    assert admin.patch(f"{V1}/users/anna", {"role": "viewer"}).status_code == 200
    assert world.as_(token).get(f"{V1}/me").json()["rights"] == ["read"]
    assert admin.patch(f"{V1}/users/anna", {"isActive": False}).json()["isActive"] is False
    assert world.as_(token).get(f"{V1}/me").status_code == 401
    admin.patch(f"{V1}/users/anna", {"isActive": True, "password": "another horse battery"})
    assert world.as_(token).get(f"{V1}/me").status_code == 401, "a new password ends logins"
    assert admin.patch(f"{V1}/users/nobody", {"role": "viewer"}).status_code == 404
    assert {each["name"] for each in admin.get(f"{V1}/users").json()["users"]} >= {"anna", "admin"}
    assert PASSWORD not in str([record.detail for record in world.parts.audit.records()])


@pytest.mark.parametrize("change", [{"role": "viewer"}, {"isActive": False}])
def test_the_last_admin_stays(world: World, change: dict[str, Any]) -> None:
    admin = world.as_()
    assert admin.patch(f"{V1}/users/admin", change).status_code == 409
    admin.post(f"{V1}/users", {"name": "second", "role": "admin"})
    assert admin.patch(f"{V1}/users/admin", change).status_code == 200


@pytest.mark.parametrize("body", [
    {"name": "Anna", "role": "viewer"}, {"name": "../x", "role": "viewer"}, {"name": "a\n", "role": "viewer"},
    {"name": "anna", "role": "root"}, {"name": "anna", "role": "viewer", "password": "short"},
    {"name": "anna", "role": "viewer", "password": "x" * 257}, {"name": "anna", "role": "viewer", "isAdmin": True},
    {"role": "viewer"}, [], "x", 7,
])  # fmt: skip
def test_users_that_cannot_be(world: World, body: Any) -> None:
    answer = world.as_().post(f"{V1}/users", body)
    assert answer.status_code == 422
    assert answer.json()["problems"]
    assert "x" * 20 not in answer.text


def test_tokens_for_programs(world: World) -> None:
    operator = world.as_(Role.OPERATOR)
    made = operator.post(f"{V1}/tokens", {"role": "viewer", "description": "CI", "expiresInDays": 1})
    assert made.status_code == 201
    program = world.as_(made.json()["token"])
    assert program.get(f"{V1}/nodes").status_code == 200
    listed = operator.get(f"{V1}/tokens").json()["tokens"]
    assert {each["user"] for each in listed} == {"operator"}
    mine = next(each for each in listed if each["id"] == made.json()["id"])
    assert (mine["description"], mine["isValid"]) == ("CI", True)
    assert made.json()["token"] not in str(listed)
    assert operator.delete(f"{V1}/tokens/{mine['id']}").status_code == 204
    assert program.get(f"{V1}/nodes").status_code == 401
    assert world.actions() == ["token.add", "token.revoke"]
    assert made.json()["token"] not in str([record.detail for record in world.parts.audit.records()])


def test_what_a_token_can_not_give(world: World) -> None:
    operator, admin = world.as_(Role.OPERATOR), world.as_()
    assert operator.post(f"{V1}/tokens", {"role": "admin"}).status_code == 422, "more than the user"
    assert operator.post(f"{V1}/tokens", {"role": "viewer", "user": "viewer"}).status_code == 403, "another's"
    assert operator.get(f"{V1}/tokens?user=admin").status_code == 403
    assert operator.delete(f"{V1}/tokens/login-admin").status_code == 404
    of_less = world.as_(world.token("admin", Role.VIEWER, "login-less"))
    assert of_less.post(f"{V1}/tokens", {"role": "admin"}).status_code == 403, "more than the token"
    program = world.as_(world.token("operator", Role.OPERATOR, "t-program"))
    assert program.post(f"{V1}/tokens", {"role": "viewer"}).status_code == 403, "a program makes no tokens"
    for_viewer = admin.post(f"{V1}/tokens", {"role": "viewer", "user": "viewer"})
    assert for_viewer.status_code == 201
    assert admin.post(f"{V1}/tokens", {"role": "viewer", "user": "nobody"}).status_code == 404
    assert len(admin.get(f"{V1}/tokens").json()["tokens"]) == 7


def test_when_a_token_was_used_is_noted_now_and_then(world: World) -> None:
    def used() -> Any:
        return next(token.last_used_at for token in world.parts.users.tokens("viewer"))

    viewer = world.as_(Role.VIEWER)
    viewer.get(f"{V1}/me")
    assert used() == at(0)
    world.clock.pass_by(30)
    viewer.get(f"{V1}/me")
    assert used() == at(0)
    world.clock.pass_by(40)
    viewer.get(f"{V1}/me")
    assert used() == at(70)


def test_a_busy_database_lets_those_in_who_only_read(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    def busy(*_: object) -> None:
        raise Retryable(ErrorCode.DATABASE_UNAVAILABLE, "busy")

    monkeypatch.setattr(type(world.parts.users), "used", busy)
    assert world.as_(Role.VIEWER).get(f"{V1}/me").status_code == 200
