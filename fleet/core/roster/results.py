"""What is asked of kept results, and what is told of them."""

from dataclasses import dataclass
from datetime import datetime

from fleet.core.roster.node import NodeId
from fleet.core.roster.stream import Gap
from schemas.recipe import Evaluation
from schemas.result import Result


@dataclass(frozen=True, slots=True)
class Arrival:
    """A result as it came; `document` is its payload, kept byte for byte."""

    result: Result
    document: bytes
    at: datetime


@dataclass(frozen=True, slots=True)
class Ingested:
    new: int
    duplicates: int


@dataclass(frozen=True, slots=True)
class Query:
    """All that are given must hold. `until` is outside. `class_name`: a defect of this class is in it."""

    since: datetime | None = None
    until: datetime | None = None
    site: str | None = None
    node: str | None = None
    line: str | None = None
    camera: str | None = None
    part: str | None = None
    lot: str | None = None
    class_name: str | None = None
    evaluation: Evaluation | None = None


@dataclass(frozen=True, slots=True)
class StoredResult:
    """`row` grows with arrival and is the place to go on from."""

    row: int
    document: bytes

    def result(self) -> Result:
        return Result.model_validate_json(self.document)


@dataclass(frozen=True, slots=True)
class Share:
    """Counts of one group of results. For `class` a result counts once under each class that it shows."""

    key: str
    results: int
    ok: int
    not_ok: int
    undecidable: int
    faults: int
    defects: int


@dataclass(frozen=True, slots=True)
class MissingResults:
    """Sequence numbers of one boot that have not come."""

    node: NodeId
    boot_id: str
    gap: Gap
    found_at: datetime
    asked_at: datetime | None
    times_asked: int
