"""Every route of the application, asked by everybody. A route that is not in the table fails the test."""

from typing import Any

import pytest
from fastapi import APIRouter
from fastapi.routing import APIRoute
from starlette.routing import Mount

from fleet.core.access import RIGHTS, Right, Role
from fleet.web.guard import GuardedRoute
from tests.contract.web.world import Client, World, spec
from tests.unit.fleet_board import at

V1 = "/api/v1"
NODE = f"{V1}/nodes/{{site}}/{{node}}"
ROLLOUT = f"{V1}/rollouts/{{rollout_id}}"
WANTED: dict[tuple[str, str], Right | None] = {
    ("GET", "/healthz"): None,
    ("GET", "/readyz"): None,
    ("GET", "/metrics"): Right.READ,
    ("GET", f"{V1}/openapi.json"): Right.READ,
    ("POST", f"{V1}/login"): None,
    ("GET", f"{V1}/me"): Right.READ,
    ("POST", f"{V1}/me/password"): Right.READ,
    ("GET", f"{V1}/users"): Right.USERS,
    ("POST", f"{V1}/users"): Right.USERS,
    ("PATCH", f"{V1}/users/{{name}}"): Right.USERS,
    ("GET", f"{V1}/tokens"): Right.READ,
    ("POST", f"{V1}/tokens"): Right.READ,
    ("DELETE", f"{V1}/tokens/{{token_id}}"): Right.READ,
    ("GET", f"{V1}/nodes"): Right.READ,
    ("GET", NODE): Right.READ,
    ("PATCH", NODE): Right.LABEL,
    ("DELETE", NODE): Right.REMOVE_NODE,
    ("POST", f"{NODE}/model"): Right.ROLLOUT,
    ("POST", f"{NODE}/commands"): Right.COMMAND,
    ("POST", f"{V1}/commands"): Right.COMMAND,
    ("GET", f"{V1}/alarms"): Right.READ,
    ("GET", f"{V1}/events"): Right.READ,
    ("GET", f"{V1}/models"): Right.READ,
    ("GET", f"{V1}/jobs"): Right.READ,
    ("POST", f"{V1}/jobs"): Right.JOB,
    ("GET", f"{V1}/jobs/{{job_id}}"): Right.READ,
    ("POST", f"{V1}/jobs/{{job_id}}/ask"): Right.JOB,
    ("POST", f"{V1}/jobs/{{job_id}}/cancel"): Right.JOB,
    ("GET", f"{V1}/rollouts"): Right.READ,
    ("POST", f"{V1}/rollouts"): Right.ROLLOUT,
    ("GET", ROLLOUT): Right.READ,
    **{("POST", f"{ROLLOUT}/{word}"): Right.ROLLOUT for word in ("pause", "resume", "abort", "confirm", "retry")},
    ("GET", f"{V1}/results"): Right.READ,
    ("GET", f"{V1}/results/stats"): Right.READ,
    ("GET", f"{V1}/results/export"): Right.READ,
    ("GET", f"{V1}/audit"): Right.AUDIT,
    ("GET", f"{V1}/audit/verify"): Right.AUDIT,
    ("GET", f"{V1}/live"): Right.READ,
}
BODIES: dict[str, Any] = {
    f"{V1}/users": {"name": "new", "role": "viewer"},
    f"{V1}/tokens": {"role": "viewer"},
    f"{V1}/rollouts": spec(),
    f"{V1}/commands": {"filter": "all", "name": "ping"},
    f"{NODE}/commands": {"name": "ping"},
    f"{V1}/jobs": {"filter": "all", "type": "logs"},
    f"{NODE}/model": {"name": "pcb", "version": "2.0"},
}


def routes(world: World) -> list[tuple[str, str]]:
    found = [
        (method, route.path)
        for route in world.app.routes
        if isinstance(route, APIRoute)
        for method in route.methods or ()
    ]
    others = [route for route in world.app.routes if not isinstance(route, APIRoute)]
    assert [route.path for route in others if isinstance(route, Mount)] == ["/registry"], others
    assert len(others) == 1
    return found


def ask(client: Client, method: str, path: str) -> int:
    target = path.format(site="plant1", node="board-001", rollout_id="r1", job_id="j1", token_id="t1", name="anna")
    # The live view never ends: a kind that is none is refused after the right was looked at.
    how = {"params": {"kinds": "none"}} if path == f"{V1}/live" else {}
    if method in {"POST", "PATCH"}:
        how["json"] = BODIES.get(path, {})
    return client.request(method, target, **how).status_code


def test_every_route_is_in_the_table(world: World) -> None:
    assert sorted(routes(world)) == sorted(WANTED)


def test_the_document_names_the_right_of_every_route(world: World) -> None:
    paths = world.as_().get(f"{V1}/openapi.json").json()["paths"]
    said = {(method.upper(), path): each for path, methods in paths.items() for method, each in methods.items()}
    assert sorted(said) == sorted(WANTED)
    for route, each in said.items():
        is_public = WANTED[route] is None or route == ("GET", "/metrics")
        assert each["x-rkfleet-right"] == ("none" if is_public else WANTED[route])
        assert is_public or each["security"] == [{"token": []}], route


@pytest.mark.parametrize("caller", ["nobody", "nonsense", "unknown", "expired", "revoked", "of a locked user", "basic"])
def test_without_a_valid_token_nothing_is_done(world: World, caller: str) -> None:
    token = {
        "nobody": None,
        "nonsense": "rkf_x",
        "unknown": "rkf_" + "A" * 43,
        "expired": world.token("admin", Role.ADMIN, "t-old", expires_at=at(-1)),
        "revoked": world.token("admin", Role.ADMIN, "t-gone"),
        "of a locked user": world.tokens[Role.OPERATOR],
        "basic": world.tokens[Role.ADMIN],
    }[caller]
    world.parts.users.revoke("t-gone", at(-1))
    world.parts.users.change("operator", is_active=False)
    client = world.as_(token)
    if caller == "basic":
        client.headers["Authorization"] = client.headers["Authorization"].replace("Bearer", "Basic")
    world.board(1)
    for (method, path), right in WANTED.items():
        status = ask(client, method, path)
        assert (status == 401) == (right is not None), (method, path, status)
    assert world.actions() == []


@pytest.mark.parametrize("role", list(Role))
def test_each_role_may_do_what_its_rights_say(world: World, role: Role) -> None:
    world.board(1)
    for (method, path), right in WANTED.items():
        if right is None:
            continue
        before = world.actions()
        status = ask(world.as_(role), method, path)
        assert status < 500
        if path == f"{V1}/me/password":
            assert status == 422
        else:
            assert (status == 403) == (right not in RIGHTS[role]), (method, path, status)
        if status == 403:
            assert world.actions() == before


def test_a_token_of_less_gives_less(world: World) -> None:
    token = world.token("admin", Role.VIEWER, "t-less")
    assert world.as_(token).get(f"{V1}/users").status_code == 403
    assert world.as_(token).get(f"{V1}/me").json()["rights"] == ["read"]


def test_the_right_is_looked_at_before_the_body(world: World) -> None:
    for client, status in ((world.as_(None), 401), (world.as_(Role.VIEWER), 403)):
        answer = client.post(f"{V1}/rollouts", content=b"{" * 5000, headers={"Content-Type": "application/json"})
        assert answer.status_code == status
        assert answer.headers["content-type"] == "application/problem+json"


def test_a_route_that_does_not_say_who_may_do_it_cannot_be_made() -> None:
    router = APIRouter(route_class=GuardedRoute)
    with pytest.raises(TypeError, match="say who may"):
        router.get("/open")(lambda: "all")


def test_the_registry_is_open_to_boards(world: World) -> None:
    answer = world.as_(None).get("/registry/metadata/1.root.json")
    assert (answer.status_code, answer.headers["cache-control"]) == (200, "public, max-age=15")
