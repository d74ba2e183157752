"""A whole server: it hears boards, rolls a model out, stops a bad one, and comes back from whatever happens to it."""

import shutil
import threading
import time
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from random import Random
from typing import Any

import pytest

from fleet.adapters.db import DbRollouts, DbRoster
from fleet.core.rollout import MemberState, RolloutSpec, RolloutState, new
from tests.contract.brokers import Mosquitto, mosquitto_path
from tests.contract.fleet_databases import postgres, why_no_postgres
from tests.scenario.fleet.boards import PHASES, Board, Habits, wait
from tests.scenario.fleet.hall import OLD, Api, Hall, Nursery, hall
from tests.scenario.station import Station

GOOD, BAD = "2.0.0", "3.0.0"
ON_MOSQUITTO = pytest.mark.skipif(mosquitto_path() is None, reason="needs mosquitto: apt-get install mosquitto")


@pytest.fixture(scope="module")
def nursery() -> Iterator[Nursery]:
    made = Nursery()
    yield made
    made.close()


@pytest.fixture
def world(tmp_path: Path, nursery: Nursery) -> Iterator[Hall]:
    with hall(tmp_path, nursery, GOOD, BAD) as made:
        yield made


@pytest.fixture
def lasting(tmp_path: Path, nursery: Nursery) -> Iterator[Hall]:
    """On mosquitto: iotcore now and then answers nobody any more after a client was killed."""
    with hall(tmp_path, nursery, GOOD, kind=Mosquitto) as made:
        yield made


def spec(hall: Hall, version: str, **more: Any) -> dict[str, Any]:
    model = hall.models[version]
    return {
        "schema": "rkfleet.rollout/1",
        "name": f"to-{version}",
        "model": {"name": model.name, "version": version, "manifestSha256": model.manifest_sha256},
        "target": "site=plant1",
        "waves": [{"name": "canary", "count": 1, "successThresholdPercentage": 100}, {"name": "rest"}],
        **more,
    }


def online(count: int) -> Any:
    return lambda said: sum(each["isOnline"] and each["model"] is not None for each in said["nodes"]) == count


def test_a_model_is_rolled_out_and_a_bad_one_is_taken_back(world: Hall) -> None:
    boards = world.add_boards(3, Habits(measured={BAD: {"selfTestAgreement": 0.2}}, keys=world.keys()))
    server = world.server()
    api = Api(server)
    api.until("/api/v1/nodes", online(3), "all boards are known")
    assert {each["version"] for each in api("GET", "/api/v1/models")["models"]} == {GOOD, BAD}

    made = api("POST", "/api/v1/rollouts", spec(world, GOOD))
    done = api.until(f"/api/v1/rollouts/{made['id']}", lambda said: said["state"] == "FINISHED", "rolled out")
    assert {each["state"] for each in done["members"]} == {"SUCCEEDED"}
    assert [[each.generation for each in board.taken] for board in boards] == [[1]] * 3
    assert all(board.taken[0].urls[0].startswith(f"{server.said['url']}/registry/bundles/") for board in boards)

    gates = {"gates": [{"metric": "selfTestAgreement", "atLeast": 0.9}], "onAbort": "revert"}
    bad = api("POST", "/api/v1/rollouts", spec(world, BAD, **gates))
    over = api.until(f"/api/v1/rollouts/{bad['id']}", lambda said: said["state"] == "STOPPED", "stopped by the gate")
    assert sorted(each["state"] for each in over["members"]) == ["CANCELED", "CANCELED", "REVERTED"]
    assert sorted(board.generation for board in boards) == [1, 1, 3], "the canary alone was told, and went back"
    assert {board.model.version for board in boards} == {GOOD}
    assert not any(board.refused for board in boards)
    kinds = {each["code"] for each in api("GET", "/api/v1/events?limit=100")["events"]}
    assert {"rollout-finished", "rollout-aborted", "rollout-stopped"} <= kinds


def test_commands_jobs_results_and_figures_go_through(world: Hall) -> None:
    [board] = world.add_boards(1)
    server = world.server()
    api = Api(server)
    api.until("/api/v1/nodes", online(1), "the board is known")
    base = f"/api/v1/nodes/{board.id.site}/{board.id.node}"
    answered = api("POST", f"{base}/commands", {"name": "ping", "fields": {}, "timeoutS": 10})
    assert answered["reply"]["ok"] is True

    deadline = (datetime.now(UTC) + timedelta(hours=1)).isoformat()
    job = api("POST", "/api/v1/jobs", {"filter": "all", "type": "logs", "document": {}, "deadline": deadline})
    api.until(f"/api/v1/jobs/{job['id']}", lambda said: "SUCCEEDED" in str(said), "the job's status has come")

    board.results.append(board_result(board, 2))  # made, and lost on its way
    board.inspect(1, 3)
    found = api.until("/api/v1/results?limit=10", lambda said: len(said["results"]) == 3, "the gap is filled")
    assert {each["result"]["sequenceNumber"] for each in found["results"]} == {1, 2, 3}
    assert "replay" in board.commands

    figures = api("GET", "/metrics")
    assert 'rkfleet_results_total{kind="new"} 3.0' in figures
    assert "rkfleet_nodes_online 1.0" in figures
    assert api("GET", "/readyz")["ready"] is True
    assert server.stop() == 0, server.log


def board_result(board: Any, number: int) -> Any:
    from tests.unit.fleet_board import result

    return result(number, key=board.id, boot=board.boot, result_id=f"{board.boot}.{number}")


def test_a_broker_that_lost_what_it_retained_is_told_everything_again(world: Hall) -> None:
    boards = world.add_boards(2)
    api = Api(world.server())
    api.until("/api/v1/nodes", online(2), "both are known")
    made = api("POST", "/api/v1/rollouts", spec(world, GOOD))
    api.until(f"/api/v1/rollouts/{made['id']}", lambda said: said["state"] == "FINISHED", "rolled out")
    for board in boards:
        board.stop()
    world.broker.kill()
    wait(lambda: api("GET", "/healthz")["status"] == "alive", "the server lives without its broker")
    world.broker.start()
    # A board that was reset to the factory comes to the fresh broker, and finds what it shall run.
    reset = Board(1, (world.broker.host, world.broker.port), boards[0].habits, OLD)
    world.boards.append(reset)
    reset.start()
    wait(lambda: reset.model == world.models[GOOD], "the desired state is there again")
    assert [each.generation for each in reset.taken] == [1]


@ON_MOSQUITTO
def test_another_process_takes_over_when_the_one_that_leads_is_killed(lasting: Hall) -> None:
    boards = lasting.add_boards(2)
    first = lasting.server()
    api = Api(first)
    api.until("/api/v1/nodes", online(2), "both are known")
    second = lasting.server("--role", "controller", "--role", "ingest", "--data", str(lasting.folder / "other"))
    rest = {"waves": [{"name": "one", "count": 1}, {"name": "rest", "confirmationRequired": True}]}
    made = api("POST", "/api/v1/rollouts", spec(lasting, GOOD, **rest))
    api.until(
        f"/api/v1/rollouts/{made['id']}",
        lambda said: said["waves"][1]["state"] == "WAITING_FOR_CONFIRMATION",
        "the first wave is done",
    )
    api("POST", f"/api/v1/rollouts/{made['id']}/confirm", {"wave": "rest"})
    first.kill()
    wait(lambda: lasting.rollout(made["id"]).state == "FINISHED", "the other goes on", within_s=40.0)
    assert [[each.generation for each in board.taken] for board in boards] == [[1], [1]]
    assert second.stop() == 0, second.log


def test_a_board_that_never_ends_and_one_that_never_answers_do_not_hold_the_others(world: Hall) -> None:
    world.add_boards(2)
    [silent] = world.add_boards(1, Habits(never_ends=frozenset({GOOD}), keys=world.keys()))
    [mute] = world.add_boards(1)
    mute.is_mute = True
    api = Api(world.server())
    api.until("/api/v1/nodes", online(4), "all are known")
    quick = {"waves": [{"name": "all", "successThresholdPercentage": 50}], "inProgressTimeoutInMinutes": 0.05}
    made = api("POST", "/api/v1/rollouts", spec(world, GOOD, **quick))
    done = api.until(f"/api/v1/rollouts/{made['id']}", lambda said: said["state"] == "FINISHED", "it ends")
    states = {each["node"]: each["state"] for each in done["members"]}
    assert sorted(states.values()) == ["SUCCEEDED", "SUCCEEDED", "TIMED_OUT", "TIMED_OUT"]
    assert states[str(silent.id)] == states[str(mute.id)] == "TIMED_OUT"
    assert silent.model == OLD


def test_a_real_board_takes_its_model_from_the_server(world: Hall) -> None:
    server = world.server()
    api = Api(server)
    station = Station(world.folder / "station", world.broker.port, rate_hz=20.0)
    for name in ("metadata/1.root.json", "controller-keys.json"):
        shutil.copy(world.registry.folder / name, station.folder / Path(name).name)
    trust = (
        f'\n[trust]\nroot = "1.root.json"\ncontroller_keys = "controller-keys.json"\n'
        f'metadata_url = "{server.said["url"]}/registry/metadata"\n'
    )
    station.config.write_text(station.config.read_text() + trust)
    with station:
        api.until("/api/v1/nodes", online(1), "the board is known")
        board = {"probation": {"frames": 20, "maxP95Ratio": 50.0, "maxNgDrift": 1.0}}
        more = {"target": "site=berlin", "waves": [{"name": "all"}], "board": board}
        more["gates"] = [{"metric": "selfTestAgreement", "atLeast": 0.9}]
        made = api("POST", "/api/v1/rollouts", spec(world, GOOD, **more))
        path = f"/api/v1/rollouts/{made['id']}"
        done = api.until(path, lambda said: said["state"] in {"FINISHED", "STOPPED"}, "it ends", 90.0)
        assert done["state"] == "FINISHED", (done, station.log[-3000:])
        [member] = done["members"]
        assert member["figures"]["selfTestAgreement"] >= 0.9
        stats = "/api/v1/results/stats?by=model"
        api.until(stats, lambda said: any(GOOD in each["key"] for each in said["shares"]), "results of the new model")
        ping = {"name": "ping", "fields": {}, "timeoutS": 10}
        assert api("POST", "/api/v1/nodes/berlin/board-1/commands", ping)["reply"]["ok"] is True
        assert api("GET", "/api/v1/nodes/berlin/board-1")["model"]["version"] == GOOD


def test_metadata_that_have_expired_are_signed_anew(world: Hall) -> None:
    world.registry.refresh(datetime.now(UTC) - timedelta(days=3), force=True)
    api = Api(world.server())

    def is_fresh(said: Any) -> bool:
        return datetime.fromisoformat(said["signed"]["expires"]) > datetime.now(UTC)

    api.until("/registry/metadata/timestamp.json", is_fresh, "the timestamp is fresh")
    api.until("/readyz", lambda said: bool(said["ready"]), "all is well")


def test_two_processes_share_the_results_in_postgresql(world: Hall) -> None:
    if reason := why_no_postgres():
        pytest.skip(reason)
    with postgres() as cluster:
        world.postgres_url = cluster.create()
        world.database().close()
        ingesting = [world.server("--role", "ingest") for _ in range(2)]
        api = Api(world.server("--role", "web", "--role", "controller"))
        boards = world.add_boards(4)
        api.until("/api/v1/nodes", online(4), "all are known")
        for board in boards:
            board.inspect(*range(1, 51))
        stats = "/api/v1/results/stats?by=node"
        each_50 = lambda said: [each["results"] for each in said["shares"]] == [50] * 4  # noqa: E731
        api.until(stats, each_50, "all results are kept once")
        for server in ingesting:
            assert server.stop() == 0, server.log


KILLS = 20


class Deaths:
    """Lets boards go on no faster than the server is killed, so that deaths are spread over the whole rollout."""

    def __init__(self, phases: int) -> None:
        self.count = 0
        self._begun = 0
        self._phases = phases
        self._changed = threading.Condition()

    def one_more(self) -> None:
        with self._changed:
            self.count += 1
            self._changed.notify_all()

    def may_begin(self) -> None:
        with self._changed:
            self._begun += 1
            due = self._begun * KILLS // self._phases
            assert self._changed.wait_for(lambda: self.count >= due, 120)


@ON_MOSQUITTO
def test_a_rollout_outlives_twenty_kills(lasting: Hall) -> None:
    """At moments drawn by lot; what it must not do is lose a board, leave one out, or tell one twice."""
    random = Random(20)
    deaths = Deaths(phases=8 * len(PHASES))
    boards = lasting.add_boards(8, Habits(may_begin=deaths.may_begin, keys=lasting.keys()))
    server = lasting.server("--role", "controller", "--role", "ingest")
    with closing(lasting.database()) as database:
        rollouts = DbRollouts(database)
        wait(lambda: len(DbRoster(database).nodes()) == 8, "all are known")
        one_by_one = {"waves": [{"name": "canary", "count": 2}, {"name": "rest"}], "rolloutRate": {"maxInFlight": 1}}
        rollouts.create(
            new("r1", RolloutSpec.model_validate(spec(lasting, GOOD, **one_by_one)), datetime.now(UTC), "me")
        )
        version = rollouts.load("r1").version
        while deaths.count < KILLS:
            if deaths.count % 4 != 3:  # each fourth dies as it starts, the others when they have decided something
                decided = version
                goes_on = lambda: rollouts.load("r1").version > decided  # noqa: B023, E731
                wait(goes_on, "the rollout goes on", every_s=0.02, log=lambda: server.log)
            time.sleep(random.uniform(0.0, 0.5))
            server.kill()
            deaths.one_more()
            version = rollouts.load("r1").version
            server.start(wait_until_started=False)
        at_last_kill = rollouts.load("r1")
        assert at_last_kill.notified >= 4, "the deaths are spread over the rollout"
        wait(lambda: rollouts.load("r1").state is RolloutState.FINISHED, "the rollout goes on", 60.0)
        members = rollouts.load("r1").members
    assert {each.state for each in members.values()} == {MemberState.SUCCEEDED}
    assert {each.id for each in members.values()} == {board.id for board in boards}
    assert [[each.generation for each in board.taken] for board in boards] == [[1]] * 8
    assert {board.model for board in boards} == {lasting.models[GOOD]}
    wait(server.has_started, "it has started")
    assert server.stop() == 0, server.log
