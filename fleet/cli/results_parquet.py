"""Results as Parquet: the columns of the other formats, typed, and the defects of each result as a list."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from fleet.cli.results_columns import COLUMNS, Column, Kind, as_time, defects
from fleet.errors import ErrorCode, Permanent

ROW_GROUP = 10_000
MOST_DEFECTS = 50_000
"""What is in memory at once, some 60 MB; readers of Parquet like groups of this size or more."""
_BAD = (pa.ArrowException, ValueError, TypeError, OverflowError)
_TYPES = {
    Kind.TEXT: pa.string(),
    Kind.WHOLE: pa.int64(),
    Kind.REAL: pa.float64(),
    Kind.BOOL: pa.bool_(),
    Kind.TIME: pa.timestamp("ms", tz="UTC"),
}
_DEFECT = pa.struct(
    [
        ("className", pa.string()), ("severity", pa.string()), ("score", pa.float64()), ("areaPx", pa.int64()),
        ("areaMm2", pa.float64()), ("x", pa.int64()), ("y", pa.int64()), ("width", pa.int64()), ("height", pa.int64()),
    ]
)  # fmt: skip
SCHEMA = pa.schema([*((column.name, _TYPES[column.kind]) for column in COLUMNS), ("defects", pa.list_(_DEFECT))])


def write_parquet(file: Path, documents: Iterable[dict[str, Any]]) -> int:
    """How many. Raises Permanent for results that are not what the schema says."""
    count = 0
    with pq.ParquetWriter(file, SCHEMA, compression="zstd") as writer:
        group = _Group()
        for count, document in enumerate(documents, 1):
            try:
                group.add(document)
                if group.is_full:
                    writer.write_table(group.table())
                    group = _Group()
            except _BAD as error:
                raise Permanent(ErrorCode.INVALID, f"result {count} is not as its schema says: {error}") from None
        try:
            writer.write_table(group.table())
        except _BAD as error:
            raise Permanent(ErrorCode.INVALID, f"one of the last results is not as its schema says: {error}") from None
    return count


class _Group:
    """One row group in the making. Results are taken apart at once: their outlines are most of them, and not kept."""

    def __init__(self) -> None:
        self._columns: list[list[Any]] = [[] for _ in COLUMNS]
        self._defects: list[list[dict[str, Any]]] = []
        self._count = 0

    def add(self, result: dict[str, Any]) -> None:
        for values, column in zip(self._columns, COLUMNS, strict=True):
            values.append(_value(column, result))
        self._defects.append([_defect(one) for one in defects(result)])
        self._count += len(self._defects[-1])

    @property
    def is_full(self) -> bool:
        return len(self._defects) >= ROW_GROUP or self._count >= MOST_DEFECTS

    def table(self) -> pa.Table:
        pairs = zip(self._columns, COLUMNS, strict=True)
        arrays = [pa.array(values, _TYPES[column.kind]) for values, column in pairs]
        return pa.Table.from_arrays([*arrays, pa.array(self._defects, pa.list_(_DEFECT))], schema=SCHEMA)


def _value(column: Column, result: dict[str, Any]) -> Any:
    value = column.get(result)
    if value is None:
        return None
    if column.kind is Kind.TIME:
        return as_time(value)
    return _text(value) if column.kind is Kind.TEXT else value


def _defect(one: dict[str, Any]) -> dict[str, Any]:
    box = one.get("bbox")
    box = box if isinstance(box, dict) else {}
    return {
        "className": _text(one.get("className")),
        "severity": _text(one.get("severity")),
        **{name: one.get(name) for name in ("score", "areaPx", "areaMm2")},
        **{name: box.get(name) for name in ("x", "y", "width", "height")},
    }


def _text(value: Any) -> str:
    """Halves of surrogate pairs, which JSON can hold, cannot be written as UTF-8."""
    return str(value).encode("utf-8", "replace").decode()
