"""Results into files: CSV, Parquet, JSON lines. A file has its name when it is whole, and never before."""

import contextlib
import csv
import json
import os
import secrets
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path
from typing import IO, Any

from fleet.cli.output import clean
from fleet.cli.results_columns import COLUMNS, Kind
from fleet.errors import ErrorCode, Permanent

_FORMULA = ("=", "+", "-", "@", "\t", "\r", "\N{FULLWIDTH EQUALS SIGN}", "\N{FULLWIDTH PLUS SIGN}",
            "\N{FULLWIDTH HYPHEN-MINUS}", "\N{FULLWIDTH COMMERCIAL AT}")  # fmt: skip
Documents = Iterable[dict[str, Any]]


class Format(StrEnum):
    CSV = "csv"
    PARQUET = "parquet"
    JSONL = "jsonl"


_ENDINGS = {".csv": Format.CSV, ".parquet": Format.PARQUET, ".pq": Format.PARQUET,
            ".jsonl": Format.JSONL, ".ndjson": Format.JSONL}  # fmt: skip


def format_of(name: str) -> Format | None:
    """By the end of the file's name."""
    return _ENDINGS.get(Path(name).suffix.lower())


def write_stdout(form: Format, documents: Documents) -> int:
    return _TEXT[form](sys.stdout, documents)


def write_file(file: Path, form: Format, documents: Documents) -> int:
    """How many; raises OSError. Where it ends early, for whatever reason, a file of that name is as it was."""
    if file.exists() and not file.is_file():
        raise Permanent(ErrorCode.INVALID, f"{file} is there already and is no file")
    with _whole(file) as beside:
        if form is Format.PARQUET:
            from fleet.cli.results_parquet import write_parquet  # noqa: PLC0415  pyarrow is slow to import

            return write_parquet(beside, documents)
        with beside.open("x", encoding="utf-8", newline="") as out:
            return _TEXT[form](out, documents)


@contextmanager
def _whole(file: Path) -> Iterator[Path]:
    beside = file.with_name(f".{file.name}.{secrets.token_hex(4)}.part")
    try:
        yield beside
        with beside.open("rb") as written:
            os.fsync(written.fileno())
        beside.replace(file)
    finally:
        with contextlib.suppress(FileNotFoundError):
            beside.unlink()


def _jsonl(out: IO[str], documents: Documents) -> int:
    count = 0
    for count, document in enumerate(documents, 1):  # noqa: B007  the last one is the number of all
        out.write(json.dumps(document, separators=(",", ":")) + "\n")
    return count


def _csv(out: IO[str], documents: Documents) -> int:
    writer = csv.writer(out)
    writer.writerow([column.name for column in COLUMNS])
    count = 0
    for count, document in enumerate(documents, 1):  # noqa: B007  the last one is the number of all
        writer.writerow([_cell(column.get(document), column.kind) for column in COLUMNS])
    return count


def _cell(value: Any, kind: Kind) -> str:
    """A text that a spreadsheet would take for a formula gets an apostrophe before it, which spreadsheets hide."""
    if value is None:
        return ""
    text = clean(value) if not isinstance(value, bool) else str(value).lower()
    is_number = kind in {Kind.WHOLE, Kind.REAL, Kind.BOOL} and isinstance(value, int | float)
    return f"'{text}" if not is_number and str(value).lstrip(" ").startswith(_FORMULA) else text


_TEXT: dict[Format, Callable[[IO[str], Documents], int]] = {Format.CSV: _csv, Format.JSONL: _jsonl}
