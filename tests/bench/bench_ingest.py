"""Results ingested a second, against a bare batched insert of the same rows into the same table, in one run.

Both begin with parsed results. The bare insert makes its rows and hands them to the driver; it knows neither
duplicates, nor classes, nor gaps. Indexes and durability are the same. PostgreSQL is a cluster of its own with its
default durability, and is left out where its programs are missing.
"""

import json
import sqlite3
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import psycopg

from fleet.adapters.db import Database, DbResults, upgrade
from fleet.adapters.db.result_rows import COLUMNS, row
from fleet.ports import Arrival
from schemas.result import Result
from tests.contract.fleet_databases import Postgres, postgres, why_no_postgres

BATCH = 1000
NODES = 50
T0 = datetime(2026, 3, 6, 12, tzinfo=UTC)
EXAMPLE = Path(__file__).parents[2] / "schemas/examples/result.json"


def payloads(count: int, run: str) -> list[bytes]:
    """Of boards that take turns; every fourth shows defects, as the example does."""
    example = json.loads(EXAMPLE.read_bytes())
    defects = example["defects"]
    made = []
    for number in range(count):
        node, sequence = number % NODES, number // NODES + 1
        station = {**example["station"], "node": f"board-{node}"}
        creation = (T0 + timedelta(seconds=sequence)).isoformat()
        one = {"resultId": f"{run}.{node}.{sequence}", "bootId": f"{run}{node}", "sequenceNumber": sequence}
        shown = defects if number % 4 == 0 else []
        made.append(
            json.dumps(example | one | {"station": station, "creationTime": creation, "defects": shown}).encode()
        )
    return made


def arrivals(messages: list[bytes]) -> list[Arrival]:
    return [Arrival(Result.model_validate_json(message), message, T0) for message in messages]


def timed(batches: list[list[Arrival]], keep: Callable[[list[Arrival]], object]) -> float:
    began_s = time.perf_counter()
    for batch in batches:
        keep(batch)
    return sum(map(len, batches)) / (time.perf_counter() - began_s)


def bare(url: str, batches: list[list[Arrival]]) -> float:
    """Straight through the driver."""
    names = ", ".join(COLUMNS)
    if url.startswith("sqlite"):
        sign, connection = "?", sqlite3.connect(url.removeprefix("sqlite:///"))
        connection.execute("PRAGMA synchronous = FULL").fetchall()
    else:
        sign, connection = "%s", psycopg.connect(url)  # type: ignore[assignment]
    statement = f"INSERT INTO results ({names}) VALUES ({', '.join([sign] * len(COLUMNS))})"
    began_s = time.perf_counter()
    for batch in batches:
        connection.cursor().executemany(statement, [row(arrival) for arrival in batch])
        connection.commit()
    took_s = time.perf_counter() - began_s
    connection.close()
    return sum(map(len, batches)) / took_s


def one(url: str, count: int, repeats: int) -> dict[str, float]:
    """Medians of pairs in turn: a disk is not the same from one second to the next."""
    database = Database(url)
    upgrade(database)
    results = DbResults(database)
    ingested, plain, whole = [], [], []
    for repeat in range(repeats):
        kinds = []
        for kind in ("bare", "ours", "whole"):
            messages = payloads(count, f"{kind}{repeat}")
            kinds.append([messages[at : at + BATCH] for at in range(0, count, BATCH)])
        plain.append(bare(url, [arrivals(batch) for batch in kinds[0]]))
        ingested.append(timed([arrivals(batch) for batch in kinds[1]], results.ingest))
        began_s = time.perf_counter()
        for batch in kinds[2]:
            results.ingest(arrivals(batch))
        whole.append(count / (time.perf_counter() - began_s))
    database.close()
    return {
        "ingestedPerS": statistics.median(ingested),
        "bareInsertPerS": statistics.median(plain),
        "ingestRatio": statistics.median(mine / other for mine, other in zip(ingested, plain, strict=True)),
        "withParsingPerS": statistics.median(whole),
    }


@contextmanager
def cluster() -> Iterator[Postgres | None]:
    if why_no_postgres() is not None:
        yield None
        return
    with postgres(is_durable=True) as running:
        yield running


def run(count: int = 10_000, repeats: int = 5) -> dict[str, dict[str, float]]:
    figures = {}
    with tempfile.TemporaryDirectory() as folder:
        figures["sqlite"] = one(f"sqlite:///{folder}/fleet.db", count, repeats)
    with cluster() as running:
        if running is not None:
            figures["postgresql"] = one(running.create(), count, repeats)
    return figures


def main() -> None:
    print(json.dumps(run(), indent=2))


if __name__ == "__main__":
    main()
