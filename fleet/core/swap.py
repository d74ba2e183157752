"""What a change of the model meant for the stream of results, as a reader of results sees it."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import pairwise
from typing import Any

from schemas.recipe import Evaluation
from schemas.result import Result, ResultState
from schemas.state import ReportedModel


@dataclass(frozen=True, slots=True)
class Mark:
    """One result: when it was made, where it stands, by which model, and whether it is one at all."""

    at: datetime
    number: int
    version: str
    is_failed: bool
    is_not_ok: bool = False

    @classmethod
    def of(cls, result: Result) -> "Mark":
        failed = result.result_state is ResultState.FAILED
        not_ok = result.result_evaluation is Evaluation.NOT_OK
        return cls(result.creation_time, result.sequence_number, result.model.version, failed, not_ok)


@dataclass(frozen=True, slots=True)
class Gaps:
    """Between results that follow each other, in ms. `steady_p99` is of the time before the change."""

    longest: float
    steady_p99: float
    lost: int


def gaps(marks: Sequence[Mark], began: datetime, ended: datetime) -> Gaps | None:
    """Of the change from `began` to `ended`; None where there are not enough results on either side.

    A result is lost where a number is missing, or where a frame could not be inspected.
    """
    in_order = sorted(marks, key=lambda mark: mark.number)
    before = [mark for mark in in_order if mark.at < began]
    during = [mark for mark in in_order if began <= mark.at <= ended]
    after = [mark for mark in in_order if mark.at > ended]
    if len(before) < 3 or not after:
        return None
    steady = sorted(_between(before))
    changing = [before[-1], *during, after[0]]
    missing = changing[-1].number - changing[0].number + 1 - len(changing)
    return Gaps(
        longest=max(_between(changing)),
        steady_p99=steady[min(len(steady) - 1, round(0.99 * (len(steady) - 1)))],
        lost=missing + sum(mark.is_failed for mark in changing),
    )


def phases(report: ReportedModel) -> list[dict[str, Any]]:
    """Each phase with its start and its length in ms; the last one has none."""
    out: list[dict[str, Any]] = []
    for each, following in zip(report.phases, [*report.phases[1:], None], strict=True):
        length_ms = None if following is None else round((following.time - each.time).total_seconds() * 1e3, 1)
        out.append({"phase": each.phase.value, "time": each.time.isoformat(), "ms": length_ms})
    return out


def _between(marks: Sequence[Mark]) -> list[float]:
    return [(later.at - earlier.at).total_seconds() * 1e3 for earlier, later in pairwise(marks)]
