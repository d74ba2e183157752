"""What the operator's side needs of the world. Times are aware datetimes in UTC.

Errors, of every port: Retryable (the database does not answer, or is busy), NotFound, Conflict, Permanent.
Each object may be used by any thread.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Protocol

from fleet.core.access import Role, Token, User
from fleet.core.audit import Broken, Entry, Record
from fleet.core.rollout import Effect, ModelRef, Rollout, RolloutState, SetDesired
from fleet.core.roster import Gap, Heard, Node, NodeId
from fleet.core.roster.results import Arrival, Ingested, MissingResults, Query, Share, StoredResult
from schemas.alarm import AlarmSeverity, Event
from schemas.command import CommandName, Reply
from schemas.job import JobExecution, JobRequest

__all__ = [
    "Arrival",
    "Audit",
    "Boards",
    "Desired",
    "Ingested",
    "Jobs",
    "Lease",
    "Lock",
    "MissingResults",
    "Passwords",
    "Query",
    "Results",
    "RolloutSummary",
    "Rollouts",
    "Roster",
    "Share",
    "StoredEvent",
    "StoredJob",
    "StoredResult",
    "Users",
]


class Roster(Protocol):
    """Nodes. Several processes may hear messages of one node at once: each change is read, made and written in one
    transaction.
    """

    def heard(self, messages: Sequence[Heard]) -> list[Node]:
        """Apply a batch, in its order. Returns the nodes that have changed, each as it is after the batch; events are
        kept too, once each. Results do not belong here.
        """
        ...

    def nodes(self) -> list[Node]:
        """All, in the order of their ids."""
        ...

    def changed_since(self, at: datetime) -> list[Node]:
        """Nodes that have changed at `at` or later, by the fleet's clock. Overlap calls by a few seconds."""
        ...

    def node(self, node: NodeId) -> Node: ...

    def label(self, node: NodeId, labels: Mapping[str, str | None], group: str | None, at: datetime) -> Node:
        """None takes a label away, and leaves the group as it is."""
        ...

    def remove(self, node: NodeId) -> None:
        """With its labels, telemetry and alarms; results, events and generations stay."""
        ...

    def events(self, limit: int, before: datetime | None = None) -> list["StoredEvent"]:
        """Newest first; those of boards and the fleet's own."""
        ...


@dataclass(frozen=True, slots=True)
class StoredEvent:
    """`node` is None for the fleet's own."""

    event_id: str
    node: NodeId | None
    code: str
    severity: AlarmSeverity
    kind: str
    source: str
    text: str
    at: datetime

    @classmethod
    def of(cls, node: NodeId, event: Event) -> "StoredEvent":
        return cls(
            event.event_id, node, event.code.value, event.severity, event.kind, event.source, event.text, event.time
        )


@dataclass(frozen=True, slots=True)
class Desired:
    """What a node shall run. `is_sent` when the broker has taken this generation."""

    order: SetDesired
    rollout_id: str
    set_at: datetime
    is_sent: bool


@dataclass(frozen=True, slots=True)
class RolloutSummary:
    id: str
    name: str
    state: RolloutState
    model: ModelRef
    created_at: datetime
    created_by: str
    members: Mapping[str, int]
    """Boards by state."""


@dataclass(frozen=True, slots=True)
class Lease:
    """The right to decide, until `until`. `epoch` grows with each change of hands."""

    name: str
    owner: str
    epoch: int
    until: datetime


class Rollouts(Protocol):
    """State and effects are committed in one transaction. The desired states are the outbox: the newest generation of
    a node is all that ever needs to be published, so a node has one row, which knows what was sent.
    """

    def create(self, rollout: Rollout) -> None:
        """Conflict where the id is taken."""
        ...

    def commit(
        self, before: Rollout, after: Rollout, effects: Sequence[Effect], lease: Lease | None, at: datetime
    ) -> None:
        """`before` is what `after` was made from: Conflict where the stored rollout is another by now, or where an
        order's generation is not above the node's. LeaseLost where another controller has taken over.
        """
        ...

    def load(self, rollout_id: str) -> Rollout: ...

    def unfinished(self) -> list[Rollout]:
        """With members, oldest first."""
        ...

    def summaries(self, limit: int = 100) -> list[RolloutSummary]:
        """Newest first."""
        ...

    def order(self, order: SetDesired, rollout_id: str, at: datetime) -> None:
        """By hand, outside of any rollout; Conflict as in `commit`. Tell the rollouts that have the node."""
        ...

    def floors(self, nodes: Sequence[NodeId] | None = None) -> dict[NodeId, int]:
        """The highest generation ever given to each."""
        ...

    def desired(self, node: NodeId) -> Desired | None: ...

    def unsent(self, limit: int = 500) -> list[Desired]:
        """Oldest first."""
        ...

    def sent(self, generations: Mapping[NodeId, int]) -> None:
        """The broker has acknowledged these. A newer generation stays unsent."""
        ...

    def resend_all(self) -> int:
        """After the broker has lost what it retained: everything is unsent again. Returns how many."""
        ...


class Results(Protocol):
    """Deduplicated by `resultId`. Several processes may ingest at once."""

    def ingest(self, arrivals: Sequence[Arrival]) -> Ingested:
        """In one transaction; when it returns, the messages may be acknowledged."""
        ...

    def boot_ended(self, node: NodeId, boot_id: str, last_sequence_number: int, at: datetime) -> None:
        """What is missing at the end of the boot is a gap too."""
        ...

    def find(self, query: Query, *, limit: int, after_row: int = 0, newest_first: bool = False) -> list[StoredResult]:
        """In order of arrival, rows above `after_row`; or the newest ones."""
        ...

    def export(self, query: Query, batch: int = 1000) -> Iterator[StoredResult]:
        """All, in order of arrival, with no transaction held between batches."""
        ...

    def stats(self, query: Query, by: str, limit: int = 1000) -> list[Share]:
        """`by` is site, node, line, camera, part, lot, class, model, hour or day; ValueError for anything else."""
        ...

    def missing(self, limit: int, not_asked_since: datetime | None = None) -> list[MissingResults]:
        """Oldest first."""
        ...

    def asked(self, missing: Sequence[MissingResults], at: datetime) -> None: ...

    def given_up(self, node: NodeId, boot_id: str, gap: Gap, at: datetime) -> None:
        """The board has them no longer."""
        ...

    def prune(self, before: datetime | None, keep_most: int | None, batch: int = 5000) -> int:
        """Delete at most `batch` of the oldest; returns how many. Call until it returns 0."""
        ...


@dataclass(frozen=True, slots=True)
class StoredJob:
    """`executions` has every board that was asked; None for one that has not said anything yet."""

    request: JobRequest
    created_at: datetime
    created_by: str
    executions: Mapping[NodeId, JobExecution | None]


class Jobs(Protocol):
    def add(self, request: JobRequest, nodes: Sequence[NodeId], at: datetime, by: str) -> None:
        """Conflict where the id is taken."""
        ...

    def heard(self, executions: Sequence[tuple[NodeId, JobExecution]]) -> None:
        """One with a `versionNumber` not above the stored one changes nothing; one of a job or board that was never
        asked is ignored.
        """
        ...

    def job(self, job_id: str) -> StoredJob: ...

    def jobs(self, limit: int = 100) -> list[StoredJob]:
        """Newest first."""
        ...


class Boards(Protocol):
    """What is asked of boards over the broker, signed. Retryable(UNAVAILABLE) while the broker is away."""

    def command(self, node: NodeId, name: CommandName, fields: Mapping[str, Any], timeout_s: float) -> Reply | None:
        """Ask and wait for the final reply; None where none came in time. Permanent(INVALID) for fields that the
        command does not have.
        """
        ...

    def ask(self, node: NodeId, request: JobRequest) -> None:
        """The broker has the request, retained until its deadline, when this returns. A request with `cancel` takes
        its place.
        """
        ...


class Audit(Protocol):
    def append(self, entry: Entry) -> Record: ...

    def records(self, after: int = 0, limit: int = 1000) -> list[Record]:
        """In order."""
        ...

    def verify(self) -> Broken | None:
        """Reads the whole chain."""
        ...


class Users(Protocol):
    def add(self, user: User, password_hash: str | None) -> None:
        """Conflict where the name is taken."""
        ...

    def change(
        self, name: str, *, role: Role | None = None, is_active: bool | None = None, password_hash: str | None = None
    ) -> User: ...

    def user(self, name: str) -> User: ...

    def users(self) -> list[User]: ...

    def password_hash(self, name: str) -> str | None:
        """None where there is no such user, or it has none: hash something all the same, so that time tells nothing."""
        ...

    def add_token(self, token: Token, digest: str) -> None: ...

    def token(self, digest: str) -> Token | None: ...

    def tokens(self, user: str | None = None) -> list[Token]: ...

    def revoke(self, token_id: str, at: datetime) -> None: ...

    def used(self, token_id: str, at: datetime) -> None: ...


class Passwords(Protocol):
    """Hashes on purpose slow and hungry for memory."""

    def hash(self, password: str) -> str: ...

    def verify(self, password_hash: str | None, password: str) -> bool:
        """As slow for None as for a hash."""
        ...

    def is_outdated(self, password_hash: str) -> bool:
        """Hash again at the next login."""
        ...


class Lock(Protocol):
    """Which process decides. The clocks of all candidates must agree to well within the lease; should they not, the
    epoch still keeps two from writing.
    """

    def acquire(self, name: str, owner: str, lease_s: float, now: datetime) -> Lease | None:
        """Also renews. None while another holds it."""
        ...

    def release(self, lease: Lease) -> None: ...
