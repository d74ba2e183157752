"""A result in its rows, and a query in SQL."""

from collections.abc import Sequence
from typing import Any

from sqlalchemy import ColumnElement, Select, exists, select

from fleet.adapters.db.database import ms
from fleet.adapters.db.tables import ResultClassRow, ResultRow
from fleet.ports import Arrival, Query

MOST_LINE = 200
"""Characters of a line's name in its column: an index takes no more. The document has it whole."""
COLUMNS = (
    "result_id", "created_ms", "site", "node", "line", "camera", "part_id", "lot_id", "state", "evaluation", "model",
    "defect_count", "max_score", "document",
)  # fmt: skip


def row(arrival: Arrival) -> tuple[Any, ...]:
    """In the order of COLUMNS."""
    result = arrival.result
    station, summary, model, line = result.station, result.summary, result.model, result.station.line
    return (
        result.result_id,
        ms(result.creation_time),
        station.site,
        station.node,
        line if line is None else line[:MOST_LINE].replace("\0", "?"),
        station.camera,
        result.part_id,
        result.lot_id,
        result.result_state.value,
        result.result_evaluation.value,
        f"{model.name} {model.version}",
        # PostgreSQL's integers end here, a board's need not.
        min(summary.defect_count, 2**31 - 1),
        summary.max_score,
        arrival.document.decode(),
    )


def class_rows(arrivals: Sequence[Arrival]) -> list[dict[str, Any]]:
    """Sorted, each once."""
    seen = {
        (arrival.result.result_id, defect.class_name): arrival.result.creation_time
        for arrival in arrivals
        if arrival.result.defects
        for defect in arrival.result.defects
    }
    return [
        {"result_id": result_id, "class_name": name, "created_ms": ms(at)}
        for (result_id, name), at in sorted(seen.items())
    ]


def narrowed(wanted: Select[*tuple[Any, ...]], query: Query) -> Select[*tuple[Any, ...]]:
    conditions: list[ColumnElement[bool]] = []
    if query.since is not None:
        conditions.append(ResultRow.created_ms >= ms(query.since))
    if query.until is not None:
        conditions.append(ResultRow.created_ms < ms(query.until))
    equal = {
        ResultRow.site: query.site,
        ResultRow.node: query.node,
        ResultRow.line: query.line,
        ResultRow.camera: query.camera,
        ResultRow.part_id: query.part,
        ResultRow.lot_id: query.lot,
        ResultRow.evaluation: None if query.evaluation is None else int(query.evaluation),
    }
    conditions += [column == value for column, value in equal.items() if value is not None]
    if query.class_name is not None:
        conditions.append(
            exists(
                select(ResultClassRow.result_id).where(
                    ResultClassRow.result_id == ResultRow.result_id, ResultClassRow.class_name == query.class_name
                )
            )
        )
    return wanted.where(*conditions)
