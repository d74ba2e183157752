"""Results over HTTP: pages, counts, exports."""

import json
import time
import tracemalloc
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from fleet.core.access import Role
from fleet.errors import ErrorCode, Retryable
from fleet.ports import Arrival, Query, StoredResult
from fleet.web.api import ApiSettings
from schemas.result import Result
from tests.contract.asgi_server import serving
from tests.contract.web.world import Making, World
from tests.unit.fleet_board import T0, node_id, result

V1 = "/api/v1"


def numbers(answer: Any) -> list[int]:
    return [each["result"]["sequenceNumber"] for each in answer.json()["results"]]


def test_pages_of_results(world: World) -> None:
    world.results(*range(1, 8))
    viewer = world.as_(Role.VIEWER)
    seen: list[int] = []
    after: int | None = 0
    while after is not None:
        page = viewer.get(f"{V1}/results", params={"limit": 3, "afterRow": after})
        seen += numbers(page)
        after = page.json()["next"]
    assert sorted(seen) == list(range(1, 8))
    newest = viewer.get(f"{V1}/results", params={"limit": 2, "newestFirst": True})
    assert (len(numbers(newest)), newest.json()["next"]) == (2, None)
    assert newest.json()["results"][0]["row"] == 7


@pytest.mark.parametrize(("which", "count"), [
    ({}, 4),
    ({"site": "plant1", "node": "board-001"}, 3),
    ({"site": "plant2"}, 0),
    ({"since": "2026-03-06T12:00:02Z"}, 3),
    ({"since": "2026-03-06T13:00:02+01:00", "until": "2026-03-06T12:00:03Z"}, 2),
    ({"evaluation": "NOT_OK"}, 4),
    ({"evaluation": "UNDEFINED"}, 0),
    ({"class": "bridge"}, 0),
    ({"line": "line-3", "camera": "top"}, 4),
    ({"part": "x' OR '1'='1"}, 0),
    ({"lot": '"; DROP TABLE results; --'}, 0),
    ({"node": "board-%"}, 0),
    ({"since": "0001-01-01T00:00:00Z", "until": "9999-12-31T23:59:59Z"}, 4),
    ({"afterRow": 2**63 - 1}, 0),
])  # fmt: skip
def test_which_results(world: World, which: dict[str, Any], count: int) -> None:
    world.results(1, 2, 3)
    world.results(2, key=node_id(2))
    answer = world.as_().get(f"{V1}/results", params=which)
    assert answer.status_code == 200
    assert len(numbers(answer)) == count
    if "afterRow" not in which:
        exported = world.as_().get(f"{V1}/results/export", params=which)
        assert len(exported.text.splitlines()) == count


@pytest.mark.parametrize("which", [
    {"since": "yesterday"}, {"since": "2026-03-06T12:00:00"}, {"until": "0001-01-01T00:00:00+14:00"},
    {"evaluation": "BAD"}, {"limit": 0}, {"limit": 10**30}, {"limit": "1e3"}, {"afterRow": -1}, {"afterRow": 2**63},
    {"site": "x" * 300}, {"line": "a\tb"}, {"nod": "x"}, {"newestFirst": "perhaps"},
])  # fmt: skip
def test_questions_that_cannot_be(world: World, which: dict[str, Any]) -> None:
    answer = world.as_().get(f"{V1}/results", params=which)
    assert answer.status_code == 422
    assert answer.json()["problems"][0]["at"] == next(iter(which))


def test_a_newer_boards_result_keeps_its_fields_and_is_json(world: World) -> None:
    document = json.loads(result(1).to_json())
    document["clock"]["offsetMs"] = float("nan")
    document["novelty"] = {"a": [1, {"b": "c"}], "inf": float("inf")}
    payload = json.dumps(document).encode()
    world.parts.results.ingest([Arrival(Result.model_validate_json(payload), payload, T0)])
    found = world.as_().get(f"{V1}/results").content
    one = json.loads(found, parse_constant=pytest.fail)["results"][0]["result"]
    assert one["novelty"] == {"a": [1, {"b": "c"}], "inf": None}
    assert one["clock"]["offsetMs"] is None
    assert json.loads(world.as_().get(f"{V1}/results/export").text) == one


def test_counts(world: World) -> None:
    world.results(1, 2)
    world.results(1, key=node_id(2))
    viewer = world.as_(Role.VIEWER)
    shares = viewer.get(f"{V1}/results/stats", params={"by": "node"}).json()["shares"]
    assert [(each["key"], each["results"], each["notOk"]) for each in shares] == [
        ("plant1/board-001", 2, 2), ("plant1/board-002", 1, 1)
    ]  # fmt: skip
    hours = viewer.get(f"{V1}/results/stats", params={"by": "hour", "site": "plant1"}).json()["shares"]
    assert [each["key"] for each in hours] == ["2026-03-06T12:00:00Z"]
    for bad in ({}, {"by": "moon"}, {"by": "node", "limit": 0}):
        assert viewer.get(f"{V1}/results/stats", params=bad).status_code == 422


class Endless:
    """Results of 16 KB without end, or up to `count`."""

    def __init__(self, count: int | None = None, fails_after: int | None = None) -> None:
        self.count = count
        self.fails_after = fails_after
        self.made = 0
        self.document = b'{"pad":"%b"}' % (b"x" * 16_000)

    def export(self, query: Query, batch: int = 1000) -> Iterator[StoredResult]:
        while self.count is None or self.made < self.count:
            if self.made == self.fails_after:
                raise Retryable(ErrorCode.DATABASE_UNAVAILABLE, "gone")
            self.made += 1
            yield StoredResult(self.made, self.document)


def test_an_export_takes_no_more_memory_than_a_few_results(making: Making) -> None:
    results = Endless(4000)
    world = making(results=results)
    seen = 0
    with serving(world.app) as web:
        tracemalloc.start()
        url, headers = f"{web.url}{V1}/results/export", {"Authorization": f"Bearer {world.tokens[Role.VIEWER]}"}
        with httpx.stream("GET", url, headers=headers, timeout=60) as answer:
            assert answer.headers["content-type"] == "application/jsonl"
            for chunk in answer.iter_bytes():
                seen += chunk.count(b"\n")
        _, most = tracemalloc.get_traced_memory()
        tracemalloc.stop()
    assert seen == 4000
    assert most < 8_000_000, "64 MB went through"


def test_who_stops_reading_stops_the_export_and_frees_its_place(making: Making) -> None:
    results = Endless()
    world = making(ApiSettings(exports=1), results=results)
    with serving(world.app) as web:
        url, headers = f"{web.url}{V1}/results/export", {"Authorization": f"Bearer {world.tokens[Role.VIEWER]}"}
        with httpx.stream("GET", url, headers=headers, timeout=30) as answer:
            chunks = answer.iter_bytes()
            assert next(chunks)
            busy = httpx.get(url, headers=headers)
            assert (busy.status_code, busy.headers["retry-after"]) == (503, "5")
        results.count = 0
        deadline = time.monotonic() + 60
        while (again := httpx.get(url, headers=headers)).status_code == 503:
            assert time.monotonic() < deadline
        assert again.status_code == 200


def test_an_export_that_fails_at_once_is_an_answer_and_later_breaks_off(making: Making) -> None:
    results = Endless(fails_after=0)
    world = making(ApiSettings(exports=1), results=results)
    assert world.as_().get(f"{V1}/results/export").status_code == 503
    results.fails_after = 50
    with serving(world.app) as web:
        url, headers = f"{web.url}{V1}/results/export", {"Authorization": f"Bearer {world.tokens[Role.VIEWER]}"}
        with httpx.stream("GET", url, headers=headers) as answer:
            assert answer.status_code == 200
            with pytest.raises(httpx.RemoteProtocolError):
                answer.read()
