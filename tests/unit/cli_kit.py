"""The commands against the real application: a SQLite database, a web server, boards that say what they are told to."""

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from itertools import count
from pathlib import Path
from typing import Any

from argon2 import PasswordHasher
from prometheus_client import CollectorRegistry
from typer.testing import CliRunner, Result

from fleet.adapters.db import Database, DbAudit, DbJobs, DbResults, DbRollouts, DbRoster, DbUsers, upgrade
from fleet.adapters.passwords_argon2 import Argon2Passwords
from fleet.cli import app
from fleet.core.access import TOKEN_BYTES, Role, Token, User, token_digest, token_text
from fleet.core.rollout import MemberState, ModelRef, Reported, Ticked, steps
from fleet.core.roster import Heard, NodeId
from fleet.errors import ErrorCode, Retryable
from fleet.ports import Arrival
from fleet.web.api import ApiParts, ApiSettings, ModelEntry, make_app
from schemas.alarm import Alarm, Event
from schemas.command import CommandName, Reply
from schemas.job import JobExecution, JobRequest, JobStatus
from schemas.state import Phase
from tests.contract.asgi_server import serving
from tests.unit.fleet_board import NEW, OLD, at, heard, info, node_id, report, result, status

PASSWORD = "a long enough password"
BOARDS = [node_id(number) for number in (1, 2, 3)]
EVIL = "\x1b[31mred\x1b]0;title\x07 [bold]x[/bold] :smile: \u202e"
"""What a board in the wrong hands might say: an escape sequence, markup, a mark that turns the writing round."""


_NUMBERS = count(1)
_TOLD = frozenset({MemberState.IN_PROGRESS, MemberState.REVERTING})


@dataclass
class FakeBoards:
    """Replies and job statuses by board; one that has none does not answer."""

    jobs: DbJobs
    replies: dict[NodeId, Reply] = field(default_factory=dict)
    statuses: dict[NodeId, JobExecution] = field(default_factory=dict)
    asked: list[tuple[NodeId, Any, Any]] = field(default_factory=list)
    is_away: bool = False

    def command(self, node: NodeId, name: CommandName, fields: Mapping[str, Any], timeout_s: float) -> Reply | None:
        self._reach()
        self.asked.append((node, name, dict(fields)))
        return self.replies.get(node)

    def ask(self, node: NodeId, request: JobRequest) -> None:
        self._reach()
        self.asked.append((node, request.type, request.document))
        if node in self.statuses:
            self.jobs.heard([(node, self.statuses[node].model_copy(update={"job_id": request.job_id}))])

    def _reach(self) -> None:
        if self.is_away:
            raise Retryable(ErrorCode.UNAVAILABLE, "the broker is away")


@dataclass
class World:
    url: str
    folder: Path
    parts: ApiParts
    boards: FakeBoards
    tokens: dict[Role, str]

    def env(self, role: Role | None = Role.ADMIN, **more: Any) -> dict[str, str | None]:
        """A home of its own, and no leftovers of who runs the tests."""
        made: dict[str, str | None] = {name: None for name in os.environ if name.startswith("RKFLEET_")}
        made |= {"XDG_CONFIG_HOME": str(self.folder / "config"), "RKFLEET_SERVER": self.url, "COLUMNS": "200"}
        return made | ({"RKFLEET_TOKEN": self.tokens[role]} if role else {}) | more

    def run(self, *words: str, role: Role | None = Role.ADMIN, stdin: str | None = None, **env: Any) -> Result:
        ended = CliRunner().invoke(app, list(words), env=self.env(role, **env), input=stdin)
        assert ended.exception is None or isinstance(ended.exception, SystemExit), ended.output
        return ended

    def text(self, *words: str, **how: Any) -> str:
        ended = self.run(*words, **how)
        assert ended.exit_code == 0, ended.output
        return ended.stdout

    def read(self, *words: str, **how: Any) -> Any:
        """One document, and nothing beside it."""
        ended = self.run(*words, "--json", **how)
        assert ended.exit_code == 0, ended.output
        assert ended.stderr == ""
        return json.loads(ended.stdout)

    def step(self, rollout_id: str, phase: Phase | None = Phase.COMMITTED, model: ModelRef = NEW, **more: Any) -> None:
        """As the controller would: boards that were told report this phase, and the clock moves."""
        rollouts, now = self.parts.rollouts, datetime.now(UTC)
        before = rollouts.load(rollout_id)
        told = [member for member in before.members.values() if member.state in _TOLD]
        events: list[Any] = [Ticked()]
        if phase is not None:
            events += [Reported(each.id, report(phase, each.generation, model, **more)) for each in told]
        after, effects = steps(before, [*events, Ticked()], now)
        rollouts.commit(before, after, effects, None, now)


@contextmanager
def world(folder: Path) -> Iterator[World]:
    database = Database(f"sqlite:///{folder / 'fleet.db'}")
    upgrade(database)
    jobs = DbJobs(database)
    boards = FakeBoards(jobs)
    parts = ApiParts(
        roster=DbRoster(database),
        rollouts=DbRollouts(database),
        results=DbResults(database),
        audit=DbAudit(database),
        users=DbUsers(database),
        passwords=Argon2Passwords(PasswordHasher(time_cost=1, memory_cost=8, parallelism=1)),
        boards=boards,
        jobs=jobs,
        models=lambda: [ModelEntry(each.name, each.version, each.manifest_sha256, ("cpu",)) for each in (OLD, NEW)],
        routes=[],
        problems=dict,
        metrics=CollectorRegistry(),
        now=lambda: datetime.now(UTC),
        settings=ApiSettings(live_interval_s=0.05, live_heartbeat_s=0.2),
    )  # fmt: skip
    with serving(make_app(parts)) as web:
        yield World(web.url, folder, parts, boards, {role: _user(parts, role) for role in Role})
    database.close()


def _user(parts: ApiParts, role: Role) -> str:
    text, now = token_text(os.urandom(TOKEN_BYTES)), datetime.now(UTC)
    parts.users.add(User(role.value, role, is_active=True, created_at=now), parts.passwords.hash(PASSWORD))
    parts.users.add_token(Token(f"t-{role}", role.value, role, "tests", now), token_digest(text) or "")
    return text


def enrol(world: World, nodes: Sequence[NodeId] = BOARDS) -> None:
    """Boards that are online and run the old model."""
    now = datetime.now(UTC)
    said = [message for key in nodes for message in (status(), info(key), report(model=OLD))]
    owners = [key for key in nodes for _ in range(3)]
    found = [heard(key, message, name="model") for key, message in zip(owners, said, strict=True)]
    world.parts.roster.heard([replace(each, at=now) for each in found])


def alarm(world: World, key: NodeId, text: str, severity: str = "warning") -> None:
    """One that is active, and the event that goes with it."""
    since = at(0).isoformat()
    raised = Alarm.model_validate(
        {"code": "camera-lost", "severity": severity, "since": since,
         "sources": [{"source": "top", "text": text, "since": since}]}
    )  # fmt: skip
    event = Event.model_validate(
        {"eventId": f"e-{next(_NUMBERS)}", "code": "camera-lost", "severity": severity, "source": "top",
         "kind": "raised", "text": text, "time": since}
    )  # fmt: skip
    now = datetime.now(UTC)
    world.parts.roster.heard(
        [
            Heard(key, "alarm", raised.code.value, raised, now, is_retained=True),
            Heard(key, "event", event.code.value, event, now, is_retained=False),
        ]
    )


def ingest(world: World, *numbers: int, key: NodeId = BOARDS[0], **changes: Any) -> None:
    now = datetime.now(UTC)
    made = [result(number, key=key, **changes) for number in numbers]
    world.parts.results.ingest([Arrival(each, each.to_json(), now) for each in made])


def execution(status: JobStatus, **more: Any) -> JobExecution:
    return JobExecution(job_id="x", status=status, queued_at=at(0), last_updated_at=at(1), version_number=2, **more)
