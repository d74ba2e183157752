"""Boards over HTTP: lists, labels, orders by hand, alarms, events."""

import json
from typing import Any

import pytest

from fleet.core.access import Role
from fleet.core.roster import Heard
from fleet.errors import ErrorCode, Retryable
from schemas.alarm import Alarm, AlarmSeverity, AlarmSource, Event
from schemas.codes import FailureCode
from schemas.state import Phase
from schemas.telemetry import InspectionTelemetry
from tests.contract.web.world import World, spec
from tests.unit.fleet_board import NEW, OLD, T0, at, heard, report, status, telemetry

V1 = "/api/v1"
B1 = f"{V1}/nodes/plant1/board-001"


def ids(answer: Any) -> list[str]:
    return [each["id"] for each in answer.json()["nodes"]]


def test_boards_come_page_by_page_in_order(world: World) -> None:
    for number in (3, 1, 5, 2, 4):
        world.board(number)
    viewer = world.as_(Role.VIEWER)
    seen, after = [], ""
    while True:
        page = viewer.get(f"{V1}/nodes", params={"limit": 2, "after": after})
        seen += ids(page)
        after = page.json()["next"]
        if after is None:
            break
    assert seen == [f"plant1/board-00{n}" for n in range(1, 6)]
    assert ids(viewer.get(f"{V1}/nodes", params={"filter": "node=board-00?", "limit": 5})) == seen


def test_a_filter_names_some(world: World) -> None:
    world.board(1, "canary")
    world.board(2, soc="rk3568")
    viewer = world.as_(Role.VIEWER)
    assert ids(viewer.get(f"{V1}/nodes", params={"filter": "group=canary"})) == ["plant1/board-001"]
    assert ids(viewer.get(f"{V1}/nodes", params={"filter": "not soc=rk3588"})) == ["plant1/board-002"]
    assert ids(viewer.get(f"{V1}/nodes", params={"filter": "seen>1m"})) == []
    world.clock.pass_by(61)
    assert len(ids(viewer.get(f"{V1}/nodes", params={"filter": "seen>1m"}))) == 2


def test_an_error_in_a_filter_points_at_the_spot(world: World) -> None:
    answer = world.as_().get(f"{V1}/nodes", params={"filter": "site=plant1 adn soc=rk3588"})
    assert answer.status_code == 422
    assert answer.headers["content-type"] == "application/problem+json"
    problem = answer.json()
    assert (problem["at"], problem["code"]) == (12, "invalid")
    assert problem["pointed"].splitlines()[1].startswith(" " * 12 + "^ expected and, or")


def test_a_misspelt_parameter_is_an_error(world: World) -> None:
    answer = world.as_().get(f"{V1}/nodes", params={"filtre": "site=plant1"})
    assert answer.status_code == 422
    assert answer.json()["problems"][0]["at"] == "filtre"


def test_all_that_is_known_of_a_board(world: World) -> None:
    key = world.board(1)
    alarm = Alarm(
        code=FailureCode.INTERNAL, severity=AlarmSeverity.CRITICAL, since=T0,
        sources=[AlarmSource(source="agent", text="it burns", since=T0)],
    )  # fmt: skip
    measured = telemetry(1, OLD, {"OK": 5})
    world.parts.roster.heard([
        Heard(key, "alarm", "internal", alarm, T0),
        heard(key, measured, name="inspection"),
        heard(key, report(Phase.DOWNLOADING, 3, progress=0.5), name="model"),
    ])  # fmt: skip
    found = world.as_(Role.VIEWER).get(B1).json()
    assert found["health"] == {"state": "critical", "reasons": ["internal: it burns"]}
    assert (found["model"]["phase"], found["model"]["observedGeneration"]) == ("DOWNLOADING", 3)
    assert found["telemetry"]["host"] is None
    assert InspectionTelemetry.model_validate(found["telemetry"]["inspection"]) == measured
    assert (found["soc"], found["agentVersion"], found["line"]) == ("rk3588", "0.4.0", "smt-1")
    assert found["births"] == ["2026-03-06T12:00:00.000Z"]
    assert found["desired"] is None
    listed = world.as_(Role.VIEWER).get(f"{V1}/alarms").json()["alarms"]
    assert [(each["node"], each["code"], each["severity"]) for each in listed] == [
        ("plant1/board-001", "internal", "critical")
    ]


@pytest.mark.parametrize(("message", "after_s", "state", "reason"), [
    (status("offline", reason="shutdown", seconds=1), 0, "offline", "was shut down"),
    (status("offline", reason="will"), 0, "offline", "the connection was lost"),
    (None, 600, "silent", "nothing was heard for 600 s"),
    (None, 0, "ok", None),
])  # fmt: skip
def test_health_says_why(world: World, message: Any, after_s: float, state: str, reason: str | None) -> None:
    key = world.board(1)
    if message is not None:
        world.parts.roster.heard([heard(key, message, 1.0)])
    world.clock.pass_by(after_s)
    found = world.as_().get(B1).json()["health"]
    assert found == {"state": state, "reasons": [] if reason is None else [reason]}


def test_a_board_that_says_absurd_things_is_still_shown(world: World) -> None:
    key = world.board(1)
    strange = report(measured={"shadowAgreement": float("nan")})
    world.parts.roster.heard([heard(key, strange, 1.0, name="model")])
    for target in (f"{V1}/nodes", B1):
        answer = world.as_().get(target)
        assert answer.status_code == 200
        json.loads(answer.content, parse_constant=pytest.fail)


def test_labels_and_group(world: World) -> None:
    key = world.board(1)
    operator = world.as_(Role.OPERATOR)
    answer = operator.patch(B1, {"labels": {"rack": "7", "shift": "día"}, "group": "canary"})
    assert answer.status_code == 200
    assert (answer.json()["labels"], answer.json()["group"]) == ({"rack": "7", "shift": "día"}, "canary")
    operator.patch(B1, {"labels": {"rack": None}})
    assert world.parts.roster.node(key).labels == {"shift": "día"}
    assert world.parts.roster.node(key).group == "canary"
    operator.patch(B1, {"group": ""})
    assert world.parts.roster.node(key).group == ""
    record = world.parts.audit.records()[0]
    assert (record.actor, record.action, record.subject) == ("operator", "node.label", "plant1/board-001")
    assert json.loads(record.detail) == {"group": "canary", "labels": {"rack": "7", "shift": "día"}}
    assert operator.patch(f"{V1}/nodes/plant1/nobody", {"group": "x"}).status_code == 404
    assert len(world.actions()) == 3


@pytest.mark.parametrize("body", [
    {"labels": {"a b": "x"}}, {"labels": {"": "x"}}, {"labels": {"a": "x\ny"}}, {"labels": {"a": "x" * 257}},
    {"labels": {str(n): "x" for n in range(65)}}, {"labels": {"a": 7}}, {"labels": ["a"]}, {"group": "x\x1b[2J"},
    {"group": "x" * 129}, {"gruop": "x"}, {"labels": {"a'; DROP TABLE nodes; --": "x"}},
])  # fmt: skip
def test_labels_that_cannot_be(world: World, body: Any) -> None:
    world.board(1)
    assert world.as_().patch(B1, body).status_code == 422
    assert world.actions() == []


def test_a_removed_board_leaves_its_rollouts(world: World) -> None:
    key = world.board(1)
    world.board(2)
    admin = world.as_()
    rollout = admin.post(f"{V1}/rollouts", spec()).json()["id"]
    assert admin.delete(B1).status_code == 204
    assert admin.get(B1).status_code == 404
    assert admin.delete(B1).status_code == 404
    assert world.parts.rollouts.load(rollout).members[key].is_released
    assert world.actions() == ["rollout.create", "node.remove"]


def test_a_model_by_hand(world: World) -> None:
    key = world.board(1)
    operator = world.as_(Role.OPERATOR)
    rollout = operator.post(f"{V1}/rollouts", spec()).json()["id"]
    told = world.parts.rollouts.load(rollout).members[key].generation
    answer = operator.post(f"{B1}/model", {"name": OLD.name, "version": OLD.version})
    assert answer.status_code == 200
    assert answer.json()["generation"] == told + 1
    assert (answer.json()["rolloutId"], answer.json()["isSent"]) == ("by-hand", False)
    assert world.parts.rollouts.load(rollout).members[key].is_released
    assert operator.get(B1).json()["desired"] == answer.json()
    ordered = world.parts.rollouts.desired(key)
    assert ordered is not None
    assert ordered.order.plan.probation.max_ng_drift == 1.0, "the model that is to go is no measure"
    again = operator.post(f"{B1}/model", {"name": NEW.name, "version": NEW.version}).json()
    assert again["generation"] == told + 2
    wrong = operator.post(f"{B1}/model", {"name": "pcb", "version": "2.1"})
    assert wrong.status_code == 422
    assert "did you mean pcb 2.0?" in wrong.json()["detail"]


def test_events_page_by_page(world: World) -> None:
    key = world.board(1)
    events = [
        Event(event_id=f"e{n}", code=FailureCode.INTERNAL, severity=AlarmSeverity.INFO, source="agent",
              kind="happened", text=f"number {n}", time=at(n // 2))
        for n in range(7)
    ]  # fmt: skip
    world.parts.roster.heard([heard(key, each, name="internal") for each in events])
    viewer = world.as_(Role.VIEWER)
    seen: list[str] = []
    before = None
    for _ in range(20):
        page = viewer.get(f"{V1}/events", params={"limit": 3, **({"before": before} if before else {})}).json()
        seen += [each["eventId"] for each in page["events"] if each["eventId"] not in seen]
        before = page["next"]
        if before is None:
            break
    assert sorted(seen) == [f"e{n}" for n in range(7)]
    assert viewer.get(f"{V1}/events").json()["events"][0]["node"] == "plant1/board-001"


def test_a_database_that_is_away_is_told_as_such(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    def away(*_: object) -> None:
        raise Retryable(ErrorCode.DATABASE_UNAVAILABLE, "no answer", delay_s=2.5)

    monkeypatch.setattr(type(world.parts.roster), "nodes", away)
    answer = world.as_().get(f"{V1}/nodes")
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "3")
    assert answer.json()["code"] == "database-unavailable"


def test_a_fault_of_our_own_tells_nothing_and_is_counted(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> None:
        raise RuntimeError("secret details")

    monkeypatch.setattr(type(world.parts.roster), "nodes", broken)
    answer = world.as_().get(f"{V1}/nodes")
    assert answer.status_code == 500
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.headers["cache-control"] == "no-store"
    assert "secret" not in answer.text
    assert 'status="500"' in world.as_().get("/metrics").text


def test_what_fails_after_it_was_written_down_is_written_down_too(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.board(1)

    def away(*_: object) -> None:
        raise Retryable(ErrorCode.DATABASE_UNAVAILABLE, "no answer")

    monkeypatch.setattr(type(world.parts.roster), "label", away)
    assert world.as_().patch(B1, {"group": "x"}).status_code == 503
    assert world.actions() == ["node.label", "node.label.failed"]


def test_nothing_is_done_that_cannot_be_written_down(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    key = world.board(1)

    def away(*_: object) -> None:
        raise Retryable(ErrorCode.DATABASE_UNAVAILABLE, "no answer")

    monkeypatch.setattr(type(world.parts.audit), "append", away)
    assert world.as_().patch(B1, {"group": "x"}).status_code == 503
    assert world.parts.roster.node(key).group == ""
