"""Alive, ready, counted."""

import pytest
from prometheus_client.parser import text_string_to_metric_families

from fleet.core.access import Role
from fleet.errors import ErrorCode, Retryable
from fleet.web.api import ApiSettings
from tests.contract.web.world import Making, World


def test_alive(world: World) -> None:
    assert world.as_(None).get("/healthz").json() == {"status": "alive"}


def test_ready_or_not_and_why_for_those_who_may_read(world: World) -> None:
    assert world.as_(None).get("/readyz").json() == {"ready": True, "problems": {}}
    world.problems["broker"] = "10.0.0.5 refuses"
    stranger, viewer = world.as_(None).get("/readyz"), world.as_(Role.VIEWER).get("/readyz")
    assert (stranger.status_code, stranger.json()) == (503, {"ready": False, "problems": {"broker": ""}})
    assert viewer.json()["problems"] == {"broker": "10.0.0.5 refuses"}
    assert world.as_("rkf_nonsense").get("/readyz").json()["problems"] == {"broker": ""}


def test_a_database_that_is_away_is_told_all_the_same(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    def away(*_: object) -> None:
        raise Retryable(ErrorCode.DATABASE_UNAVAILABLE, "no answer")

    world.problems["database"] = "no answer"
    monkeypatch.setattr(type(world.parts.users), "token", away)
    assert world.as_(Role.VIEWER).get("/readyz").json()["problems"] == {"database": ""}


def test_requests_are_counted_by_route_and_not_by_what_callers_write(world: World) -> None:
    viewer = world.as_(Role.VIEWER)
    for number in range(30):
        viewer.get(f"/api/v1/nodes/plant1/board-{number}")
        viewer.get(f"/nothing/{number}")
        viewer.request(f"METHOD{number}", "/api/v1/nodes")
    families = {each.name: each for each in text_string_to_metric_families(viewer.get("/metrics").text)}
    seen = {
        (sample.labels["method"], sample.labels["route"], sample.labels["status"]): sample.value
        for sample in families["rkfleet_http_requests"].samples
        if sample.name.endswith("_total")
    }
    assert seen["GET", "/api/v1/nodes/{site}/{node}", "404"] == 30
    assert seen["GET", "other", "404"] == 30
    assert sum(value for (method, _, _), value in seen.items() if method == "other") == 30
    assert len(seen) < 8


def test_metrics_may_be_opened(making: Making) -> None:
    world = making(ApiSettings(metrics_need_token=False))
    assert world.as_(None).get("/metrics").status_code == 200
