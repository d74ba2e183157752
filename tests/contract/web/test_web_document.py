"""What the OpenAPI document allows, and what it forbids, asked of a server: every answer is one that it names."""

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import schemathesis
from anyio.from_thread import BlockingPortal
from hypothesis import HealthCheck, given, settings
from prometheus_client import CollectorRegistry
from schemathesis import checks
from schemathesis.core.result import Ok
from schemathesis.generation import GenerationMode
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from fleet.core.access import Role
from fleet.web.api import ApiParts, ApiSettings, make_app
from tests.contract.asgi_server import serving
from tests.contract.web.world import World, make_world, spec
from tests.unit.fleet_board import at

EXAMPLES = 7
CHECKS = [checks.not_a_server_error, status_code_conformance, content_type_conformance, response_schema_conformance]
WITHOUT_END = "/api/v1/live"


def described() -> dict[str, Any]:
    """The document needs no database."""
    nothing: Any = None
    given = dict.fromkeys(ApiParts.__dataclass_fields__, nothing)
    made = make_app(ApiParts(**{**given, "routes": (), "metrics": CollectorRegistry(), "settings": ApiSettings()}))
    return made.openapi()


SCHEMA = schemathesis.openapi.from_dict(described())
FOUND = [each.ok() for each in SCHEMA.get_all_operations() if isinstance(each, Ok)]
OPERATIONS = {each.label: each for each in FOUND if each.path != WITHOUT_END}


@pytest.fixture(scope="module")
def lively(
    template: Path, tmp_path_factory: pytest.TempPathFactory, portal: BlockingPortal
) -> Iterator[tuple[str, dict[str, str]]]:
    """The URL of a server that has something of everything, and the ids of these."""
    path = tmp_path_factory.mktemp("lively") / "fleet.db"
    shutil.copy(template, path)
    world = make_world(path, portal, ApiSettings(board_calls=20))
    ids = furnish(world)
    with serving(world.app) as web:
        yield web.url, ids
    world.database.close()


def furnish(world: World) -> dict[str, str]:
    world.board(1, "canary")
    world.board(2)
    world.results(1, 2, 3)
    admin = world.as_()
    rollout = admin.post("/api/v1/rollouts", spec()).json()["id"]
    job = admin.post("/api/v1/jobs", {"filter": "all", "type": "logs"}).json()["id"]
    world.token("viewer", Role.VIEWER, "t-known", expires_at=at(1000))
    return {
        "site": "plant1",
        "node": "board-001",
        "rollout_id": rollout,
        "job_id": job,
        "token_id": "t-known",
        "name": "viewer",
    }


def run(label: str, url: str, mode: GenerationMode, ids: dict[str, str] | None) -> None:
    operation = OPERATIONS[label]
    # The token stays what it is: who may ask is another test's subject.
    headers = {"Authorization": f"Bearer {TOKEN}"}

    @given(case=operation.as_strategy(generation_mode=mode, path_parameters=ids))
    @settings(
        derandomize=True, max_examples=EXAMPLES, deadline=None, database=None, suppress_health_check=list(HealthCheck)
    )
    def asked(case: schemathesis.Case[Any]) -> None:
        case.call_and_validate(base_url=url, headers=headers, checks=CHECKS)

    asked()


TOKEN = "rkf_bG9naW4tYWRtaW4uLi4uLi4uLi4uLi4uLi4uLi4uLi4"
"""Of the world's admin."""


@pytest.mark.parametrize("label", list(OPERATIONS))
def test_what_is_allowed_is_answered(label: str, lively: tuple[str, dict[str, str]]) -> None:
    url, ids = lively
    run(label, url, GenerationMode.POSITIVE, None)
    known = {name: value for name, value in ids.items() if f"{{{name}}}" in label}
    # The board is needed by those that follow.
    if known and not label.startswith("DELETE /api/v1/nodes"):
        run(label, url, GenerationMode.POSITIVE, known)


@pytest.mark.parametrize("label", [name for name, each in OPERATIONS.items() if each.body or [*each.iter_parameters()]])
def test_what_is_forbidden_is_refused_by_a_rule(label: str, lively: tuple[str, dict[str, str]]) -> None:
    run(label, lively[0], GenerationMode.NEGATIVE, None)
