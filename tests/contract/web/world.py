"""A server's API over a real database, with boards and jobs that answer from memory."""

import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
from anyio.from_thread import BlockingPortal
from argon2 import PasswordHasher
from fastapi import FastAPI
from prometheus_client import CollectorRegistry
from starlette.responses import PlainTextResponse
from starlette.routing import Route

from fleet.adapters.db import Database, DbAudit, DbResults, DbRollouts, DbRoster, DbUsers
from fleet.adapters.passwords_argon2 import Argon2Passwords
from fleet.core.access import Role, Token, User, token_digest, token_text
from fleet.core.rollout import ModelRef
from fleet.core.roster import NodeId
from fleet.errors import Conflict, ErrorCode, NotFound, Retryable
from fleet.ports import Arrival, StoredJob
from fleet.web.api import ApiParts, ApiSettings, ModelEntry, make_app
from schemas.command import CommandName, Reply
from schemas.job import JobExecution, JobRequest
from tests.unit.fleet_board import NEW, OLD, T0, heard, info, node_id, report, result, status

PASSWORD = "correct horse battery"
AWAY = Retryable(ErrorCode.UNAVAILABLE, "the broker is away", delay_s=3.0)
QUICK = PasswordHasher(time_cost=1, memory_cost=64, parallelism=1)


class FakeBoards:
    """Answers every command but of boards in `silent`; `broken` raises for all."""

    def __init__(self) -> None:
        self.asked: list[tuple[NodeId, JobRequest]] = []
        self.commands: list[tuple[NodeId, CommandName, Mapping[str, Any]]] = []
        self.silent: set[NodeId] = set()
        self.away_for: set[NodeId] | None = set()
        self.hold: threading.Barrier | None = None
        """All boards that are asked wait for each other here: proof that they are asked at once."""
        self.output: dict[str, Any] = {}
        self._lock = threading.Lock()

    def command(self, node: NodeId, name: CommandName, fields: Mapping[str, Any], timeout_s: float) -> Reply | None:
        self._reach(node)
        with self._lock:
            self.commands.append((node, name, fields))
        if self.hold is not None:
            self.hold.wait(20)
        if node in self.silent:
            return None
        return Reply(command_id="c1", ok=True, time=T0, output=self.output)

    def ask(self, node: NodeId, request: JobRequest) -> None:
        self._reach(node)
        with self._lock:
            self.asked.append((node, request))

    def _reach(self, node: NodeId) -> None:
        if self.away_for is None or node in self.away_for:
            raise AWAY


class FakeJobs:
    def __init__(self) -> None:
        self._jobs: dict[str, StoredJob] = {}

    def add(self, request: JobRequest, nodes: Sequence[NodeId], at: datetime, by: str) -> None:
        if request.job_id in self._jobs:
            raise Conflict(f"{request.job_id} is taken")
        self._jobs[request.job_id] = StoredJob(request, at, by, dict.fromkeys(nodes))

    def heard(self, executions: Sequence[tuple[NodeId, JobExecution]]) -> None:
        for node, execution in executions:
            job = self._jobs[execution.job_id]
            self._jobs[execution.job_id] = replace(job, executions={**job.executions, node: execution})

    def job(self, job_id: str) -> StoredJob:
        if job_id not in self._jobs:
            raise NotFound(f"there is no job {job_id!r}")
        return self._jobs[job_id]

    def jobs(self, limit: int = 100) -> list[StoredJob]:
        return list(reversed(self._jobs.values()))[:limit]


@dataclass
class Clock:
    """Moves when told."""

    at: datetime = T0

    def __call__(self) -> datetime:
        return self.at

    def pass_by(self, seconds: float) -> None:
        self.at += timedelta(seconds=seconds)


@dataclass(frozen=True)
class Client:
    """Asks the application on its event loop, from any thread."""

    app: FastAPI
    portal: BlockingPortal
    headers: dict[str, str]

    def request(self, method: str, target: str, **how: Any) -> httpx.Response:
        how["headers"] = {**self.headers, **how.get("headers", {})}
        answer: httpx.Response = self.portal.call(self._ask, method, target, how)
        return answer

    async def _ask(self, method: str, target: str, how: dict[str, Any]) -> httpx.Response:
        transport = httpx.ASGITransport(self.app, raise_app_exceptions=False, client=("192.0.2.1", 4711))
        async with httpx.AsyncClient(transport=transport, base_url="http://fleet.test") as client:
            return await client.request(method, target, **how)

    def get(self, target: str, **how: Any) -> httpx.Response:
        return self.request("GET", target, **how)

    def post(self, target: str, json: Any = None, **how: Any) -> httpx.Response:
        return self.request("POST", target, **how, **({} if json is None else {"json": json}))

    def patch(self, target: str, json: Any) -> httpx.Response:
        return self.request("PATCH", target, json=json)

    def delete(self, target: str) -> httpx.Response:
        return self.request("DELETE", target)


@dataclass
class World:
    """`tokens` has one token a role, of a user of that name; `as_(role)` asks with it."""

    database: Database
    app: FastAPI
    parts: ApiParts
    boards: FakeBoards
    jobs: FakeJobs
    clock: Clock
    tokens: dict[Role, str]
    portal: BlockingPortal
    problems: dict[str, str] = field(default_factory=dict)

    def as_(self, role: Role | str | None = Role.ADMIN) -> Client:
        """A role, a token's text, or None for nobody."""
        text = self.tokens[role] if isinstance(role, Role) else role
        headers = {} if text is None else {"Authorization": f"Bearer {text}"}
        return Client(self.app, self.portal, headers)

    def actions(self) -> list[str]:
        return [record.action for record in self.parts.audit.records()]

    def board(self, number: int, group: str = "", **more: Any) -> NodeId:
        """Online, with OLD committed."""
        key = node_id(number)
        model = more.pop("model", OLD)
        self.parts.roster.heard(
            [heard(key, status()), heard(key, info(key, **more)), heard(key, report(model=model), name="model")]
        )
        if group:
            self.parts.roster.label(key, {}, group, T0)
        return key

    def results(self, *numbers: int, **changes: Any) -> None:
        made = [result(number, **changes) for number in numbers]
        self.parts.results.ingest([Arrival(each, each.to_json(), T0) for each in made])

    def token(self, user: str, role: Role, token_id: str, **more: Any) -> str:
        text = token_text(token_id.encode().ljust(32, b".")[:32])
        token = Token(token_id, user, role, "", T0, **more)
        self.parts.users.add_token(token, token_digest(text) or "")
        return text


def model_entries() -> list[ModelEntry]:
    return [entry(OLD), entry(NEW)]


def entry(model: ModelRef) -> ModelEntry:
    return ModelEntry(model.name, model.version, model.manifest_sha256, ("rk3588", "cpu"), T0)


def spec(**changes: Any) -> dict[str, Any]:
    """A rollout's file."""
    return {
        "schema": "rkfleet.rollout/1",
        "name": "better",
        "model": NEW.model_dump(by_alias=True),
        "target": "site=plant1",
        "waves": [{"name": "canary", "filter": "group=canary"}, {"name": "rest"}],
        **changes,
    }


def make_world(path: Path, portal: BlockingPortal, settings: ApiSettings | None = None, **parts: Any) -> World:
    """`path` is a database with our tables. `parts` take the place of those of the world."""
    database = Database(f"sqlite:///{path}")
    boards, jobs, clock = FakeBoards(), FakeJobs(), Clock()
    problems: dict[str, str] = {}
    given: dict[str, Any] = {
        "roster": DbRoster(database),
        "rollouts": DbRollouts(database),
        "results": DbResults(database),
        "audit": DbAudit(database),
        "users": DbUsers(database),
        "passwords": Argon2Passwords(QUICK),
        "boards": boards,
        "jobs": jobs,
        "models": model_entries,
        "routes": [Route("/metadata/{name}", _file)],
        "problems": lambda: problems,
        "metrics": CollectorRegistry(),
        "now": clock,
        "settings": settings or ApiSettings(),
        **parts,
    }
    made = ApiParts(**given)
    world = World(database, make_app(made), made, boards, jobs, clock, {}, portal, problems)
    hashed = made.passwords.hash(PASSWORD)
    for role in Role:
        made.users.add(User(role.value, role, is_active=True, created_at=T0), hashed)
        world.tokens[role] = world.token(role.value, role, f"login-{role.value}")
    return world


def _file(request: Any) -> PlainTextResponse:
    return PlainTextResponse("a file", headers={"Cache-Control": "public, max-age=15"})


Making = Callable[..., World]
