"""The live view, over a real connection."""

import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import httpx
import pytest

from fleet.core.access import Role
from fleet.errors import ErrorCode, Permanent, Retryable
from fleet.web.api import ApiSettings
from schemas.alarm import AlarmSeverity, Event
from schemas.codes import FailureCode
from schemas.state import Phase
from tests.contract.asgi_server import serving
from tests.contract.web.world import Making, World, spec
from tests.unit.fleet_board import at, heard, report

V1 = "/api/v1"
SETTINGS = ApiSettings(live_interval_s=0.02, live_heartbeat_s=0.1, live_send_timeout_s=1.0)


@dataclass
class Heard:
    """One event; a comment has the kind `comment`."""

    kind: str
    data: Any
    id: str = ""


@dataclass
class Ear:
    """Reads a live view on a thread of its own."""

    events: list[Heard] = field(default_factory=list)
    is_over: bool = False
    _changed: threading.Condition = field(default_factory=threading.Condition)

    def read(self, lines: Iterator[str]) -> None:
        kind, data, place = "message", "", ""
        try:
            for line in lines:
                name, _, value = line.partition(": ")
                if line == "":
                    if data:
                        self._add(Heard(kind, json.loads(data), place))
                    kind, data = "message", ""
                elif line.startswith(":"):
                    self._add(Heard("comment", line))
                elif name == "event":
                    kind = value
                elif name == "data":
                    data += value
                elif name == "id":
                    place = value
        except (httpx.HTTPError, httpx.StreamError):
            pass
        with self._changed:
            self.is_over = True
            self._changed.notify_all()

    def _add(self, event: Heard) -> None:
        with self._changed:
            self.events.append(event)
            self._changed.notify_all()

    def wait(self, check: Callable[["Ear"], object]) -> None:
        with self._changed:
            assert self._changed.wait_for(lambda: check(self), 30), self.events[-5:]

    def of(self, kind: str) -> list[Any]:
        return [event.data for event in self.events if event.kind == kind]


@contextmanager
def listening(url: str, token: str, kinds: str = "", last_id: str = "") -> Iterator[Ear]:
    """From the first comment on."""
    headers = {"Authorization": f"Bearer {token}"} | ({"Last-Event-ID": last_id} if last_id else {})
    ear = Ear()
    with (
        httpx.Client(timeout=30) as client,
        client.stream("GET", f"{url}{V1}/live", params={"kinds": kinds} if kinds else {}, headers=headers) as answer,
    ):
        assert answer.status_code == 200, answer.read()
        assert answer.headers["content-type"].startswith("text/event-stream")
        assert answer.headers["cache-control"] == "no-store"
        thread = threading.Thread(target=ear.read, args=(answer.iter_lines(),))
        thread.start()
        ear.wait(lambda ear: ear.of("comment"))
        yield ear
        # To close a socket would not wake the thread that reads it.
        with suppress(OSError):  # closed by the server
            answer.extensions["network_stream"].get_extra_info("socket").shutdown(socket.SHUT_RDWR)
        thread.join(30)


@pytest.fixture
def served(making: Making) -> Iterator[tuple[World, str]]:
    world = making(SETTINGS)
    with serving(world.app) as web:
        yield world, web.url


def test_each_kind_of_news_is_told_once(served: tuple[World, str]) -> None:
    world, url = served
    key = world.board(1, "canary")
    world.results(1)
    with listening(url, world.tokens[Role.VIEWER]) as ear:
        world.results(2, 3)
        ear.wait(lambda ear: len(ear.of("result")) == 2)
        world.parts.roster.heard([heard(key, report(Phase.DOWNLOADING, 4), 1.0, name="model")])
        ear.wait(lambda ear: ear.of("node"))
        event = Event(event_id="e1", code=FailureCode.INTERNAL, severity=AlarmSeverity.INFO, source="agent",
                      kind="happened", text="x", time=at(1))  # fmt: skip
        world.parts.roster.heard([heard(key, event, 1.0, name="internal")])
        ear.wait(lambda ear: ear.of("event"))
        rollout = world.as_().post(f"{V1}/rollouts", spec()).json()["id"]
        ear.wait(lambda ear: ear.of("rollout"))
        world.as_().post(f"{V1}/rollouts/{rollout}/abort", {"onAbort": "keep"})
        ear.wait(lambda ear: ear.of("rollout")[-1]["state"] in {"STOPPING", "STOPPED"})
        comments = len(ear.of("comment"))
        ear.wait(lambda ear: len(ear.of("comment")) >= comments + 3)
    assert [each["result"]["sequenceNumber"] for each in ear.of("result")] == [2, 3]
    assert [event.id for event in ear.events if event.kind == "result"] == ["2", "3"]
    assert (ear.of("node")[0]["id"], ear.of("node")[0]["model"]["phase"]) == (str(key), "DOWNLOADING")
    assert [each["eventId"] for each in ear.of("event") if each["node"]] == ["e1"]
    assert ear.of("rollout")[0]["waves"][0]["name"] == "canary"


def test_the_end_of_a_rollout_is_told(served: tuple[World, str]) -> None:
    world, url = served
    waiting = {"scheduling": {"startTime": "2027-01-01T00:00:00Z"}}
    world.board(1)
    rollout = world.as_().post(f"{V1}/rollouts", spec(**waiting)).json()["id"]
    with listening(url, world.tokens[Role.VIEWER], "rollout") as ear:
        world.as_().post(f"{V1}/rollouts/{rollout}/abort")
        ear.wait(lambda ear: ear.of("rollout"))
    assert ear.of("rollout")[-1]["state"] == "STOPPED"


def test_only_the_kinds_that_were_asked_for(served: tuple[World, str]) -> None:
    world, url = served
    with listening(url, world.tokens[Role.VIEWER], "result,event") as ear:
        world.board(1)
        world.results(1)
        ear.wait(lambda ear: ear.of("result"))
    assert not ear.of("node")


def test_results_go_on_where_the_listener_was(served: tuple[World, str]) -> None:
    world, url = served
    world.results(*range(1, 1206))  # more than a page of the replay
    stop = threading.Event()

    def produce() -> None:
        number = 1206
        while not stop.is_set():
            world.results(number)
            number += 1

    thread = threading.Thread(target=produce)
    thread.start()
    try:
        with listening(url, world.tokens[Role.VIEWER], "result", last_id="5") as ear:
            ear.wait(lambda ear: len(ear.of("result")) >= 1300)
    finally:
        stop.set()
        thread.join(30)
    rows = [each["row"] for each in ear.of("result")]
    assert rows == list(range(6, 6 + len(rows)))


def test_who_joins_late_is_told_the_same_as_the_others(served: tuple[World, str]) -> None:
    world, url = served
    with listening(url, world.tokens[Role.VIEWER], "result") as first:
        world.results(1)
        first.wait(lambda ear: ear.of("result"))
        with listening(url, world.tokens[Role.VIEWER], "result") as second:
            world.results(2)
            first.wait(lambda ear: len(ear.of("result")) == 2)
            second.wait(lambda ear: ear.of("result"))
    assert [each["row"] for each in second.of("result")] == [2]


def test_one_look_at_the_database_serves_all_listeners_and_none_is_taken_for_nobody(
    making: Making, monkeypatch: pytest.MonkeyPatch
) -> None:
    world = making(SETTINGS)
    looks: list[float] = []
    changed_since = type(world.parts.roster).changed_since

    def counted(self: Any, when: datetime) -> Any:
        looks.append(1.0)
        return changed_since(self, when)

    monkeypatch.setattr(type(world.parts.roster), "changed_since", counted)
    with serving(world.app) as web:
        token = world.tokens[Role.VIEWER]
        with listening(web.url, token, "node") as one, listening(web.url, token, "node") as two:
            before = len(looks)
            one.wait(lambda ear: len(ear.of("comment")) >= 4)
            two.wait(lambda ear: len(ear.of("comment")) >= 4)
            alone = len(looks) - before
        hub = world.app.state.service.live
        deadline = time.monotonic() + 30
        while not hub._task.done():
            assert time.monotonic() < deadline
            time.sleep(0.01)
        after = len(looks)
        assert httpx.get(f"{web.url}/healthz").status_code == 200
    assert alone > 0
    assert len(looks) == after


def test_a_listener_that_does_not_read_is_cut_off(making: Making) -> None:
    world = making(ApiSettings(live_interval_s=0.02, live_heartbeat_s=0.1, live_send_timeout_s=0.5, live_backlog=50))
    hub = world.app.state.service.live
    headers = {"Authorization": f"Bearer {world.tokens[Role.VIEWER]}"}
    with serving(world.app) as web, httpx.Client(timeout=30) as client:
        with client.stream("GET", f"{web.url}{V1}/live?kinds=result", headers=headers) as answer:
            chunks = answer.iter_bytes()
            next(chunks)
            deadline, number = time.monotonic() + 60, 1
            while hub._listeners:
                assert time.monotonic() < deadline
                world.results(*range(number, number + 100))
                number += 100
            with listening(web.url, world.tokens[Role.VIEWER], "result") as other:
                world.results(number)
                other.wait(lambda ear: ear.of("result"))
            # What was on its way comes still, and then the end.
            with suppress(httpx.HTTPError):
                for _ in chunks:
                    pass
        assert "rkfleet_live_cut_total 1.0" in client.get(f"{web.url}/metrics", headers=headers).text


@pytest.mark.parametrize("how", ["revoked", "locked", "expired"])
def test_a_token_that_ends_ends_the_view(served: tuple[World, str], how: str) -> None:
    world, url = served
    token = world.token("viewer", Role.VIEWER, "t-short", expires_at=at(100))
    with listening(url, token, "event") as ear:
        if how == "revoked":
            world.parts.users.revoke("t-short", at(0))
        elif how == "locked":
            world.parts.users.change("viewer", is_active=False)
        else:
            world.clock.pass_by(200)
        ear.wait(lambda ear: ear.is_over)


def test_a_database_that_is_away_for_a_while_loses_nothing(
    served: tuple[World, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    world, url = served
    kind = type(world.parts.results)
    find, fails = kind.find, 3

    def failing(self: Any, *args: Any, **more: Any) -> Any:
        nonlocal fails
        if fails and world.parts.results is self and ready.is_set():
            fails -= 1
            raise Retryable(ErrorCode.DATABASE_UNAVAILABLE, "away")
        return find(self, *args, **more)

    ready = threading.Event()
    monkeypatch.setattr(kind, "find", failing)
    with listening(url, world.tokens[Role.VIEWER]) as ear:
        ready.set()
        world.board(1)
        world.results(1)
        ear.wait(lambda ear: ear.of("result") and ear.of("node"))
    assert fails == 0
    assert [each["row"] for each in ear.of("result")] == [1]


def test_a_fault_of_the_database_ends_the_views(served: tuple[World, str], monkeypatch: pytest.MonkeyPatch) -> None:
    world, url = served
    with listening(url, world.tokens[Role.VIEWER], "node") as ear:

        def broken(*_: Any) -> Any:
            raise Permanent(ErrorCode.DATABASE_FAULT, "no such column")

        monkeypatch.setattr(type(world.parts.roster), "changed_since", broken)
        ear.wait(lambda ear: ear.is_over)
    answer = httpx.get(f"{url}{V1}/live?kinds=node", headers={"Authorization": f"Bearer {world.tokens[Role.VIEWER]}"})
    assert answer.status_code == 500


def test_only_so_many_listen(making: Making) -> None:
    world = making(ApiSettings(live_interval_s=0.02, live_heartbeat_s=0.1, live_listeners=1))
    token = world.tokens[Role.VIEWER]
    with serving(world.app) as web:
        headers = {"Authorization": f"Bearer {token}"}
        with listening(web.url, token, "event"):
            refused = httpx.get(f"{web.url}{V1}/live", headers=headers)
            assert (refused.status_code, refused.headers["retry-after"]) == (503, "5")
        deadline = time.monotonic() + 30
        while world.app.state.service.live.is_full:
            assert time.monotonic() < deadline
            time.sleep(0.01)
        with listening(web.url, token, "event") as ear:
            assert ear.of("comment")
