"""Rollouts over HTTP, while a controller decides at the same time."""

import threading
from typing import Any

import pytest

from fleet.core.access import Role
from fleet.core.rollout import MemberState, Reported, Resumed, RolloutState, Ticked, steps
from fleet.errors import Conflict
from fleet.web.changes import change
from schemas.state import Phase
from tests.contract.web.world import Client, World, spec
from tests.unit.fleet_board import NEW, report

V1 = "/api/v1"


def create(client: Client, **changes: Any) -> Any:
    return client.post(f"{V1}/rollouts", spec(**changes))


def advance(world: World, rollout_id: str, *events: Any) -> None:
    """What the controller does."""
    before = world.parts.rollouts.load(rollout_id)
    after, effects = steps(before, [*events, Ticked()], world.clock())
    if after is not before:
        world.parts.rollouts.commit(before, after, effects, None, world.clock())


def test_a_rollout_begins_with_its_canary(world: World) -> None:
    canary, rest = world.board(1, "canary"), world.board(2)
    answer = create(world.as_(Role.OPERATOR))
    assert answer.status_code == 201
    made = answer.json()
    assert made["createdBy"] == "operator"
    assert [(wave["name"], wave["state"], wave["members"]) for wave in made["waves"]] == [
        ("canary", "RUNNING", 1), ("rest", "SCHEDULED", 1)
    ]  # fmt: skip
    assert {each["node"]: (each["wave"], each["state"]) for each in made["members"]} == {
        str(canary): ("canary", "IN_PROGRESS"), str(rest): ("rest", "QUEUED")
    }  # fmt: skip
    assert [each.order.node for each in world.parts.rollouts.unsent()] == [canary]
    record = world.parts.audit.records()[-1]
    assert (record.action, record.subject) == ("rollout.create", made["id"])
    listed = world.as_(Role.VIEWER).get(f"{V1}/rollouts").json()["rollouts"]
    assert [(each["id"], each["members"]) for each in listed] == [(made["id"], {"IN_PROGRESS": 1, "QUEUED": 1})]
    assert world.as_(Role.VIEWER).get(f"{V1}/rollouts/{made['id']}").json()["id"] == made["id"]


def test_yaml_is_taken_as_well(world: World) -> None:
    world.board(1)
    text = f"""
        name: better
        model: {{name: pcb, version: 2.0, manifestSha256: {NEW.manifest_sha256}}}
        target: site=plant1
        waves: [{{name: all}}]
    """
    headers = {"Content-Type": "application/yaml; charset=utf-8"}
    answer = world.as_().post(f"{V1}/rollouts", content=text, headers=headers)
    assert answer.status_code == 201
    assert world.as_().post(f"{V1}/rollouts", content=text).status_code == 415


def test_a_dry_run_changes_nothing(world: World) -> None:
    world.board(1, "canary")
    world.board(2, model=NEW)
    operator = world.as_(Role.OPERATOR)
    first = create(operator).json()["id"]
    before = world.actions()
    answer = operator.post(f"{V1}/rollouts", spec(name="other"), params={"dryRun": "true"})
    assert answer.status_code == 200
    assert answer.json() == {
        "placements": [
            {"node": "plant1/board-001", "wave": "canary", "hasModel": False},
            {"node": "plant1/board-002", "wave": "rest", "hasModel": True},
        ],
        "waves": {"canary": 1, "rest": 1},
        "taken": {first: 2},
    }
    assert len(world.parts.rollouts.summaries()) == 1
    assert world.actions() == before
    nobody = operator.post(f"{V1}/rollouts", spec(target="site=elsewhere"), params={"dryRun": "true"})
    assert nobody.json()["placements"] == []


@pytest.mark.parametrize(("changes", "says"), [
    ({"target": "site=elsewhere"}, "names no board"),
    ({"model": {**NEW.model_dump(by_alias=True), "version": "2.1"}}, "did you mean pcb 2.0?"),
    ({"model": {**NEW.model_dump(by_alias=True), "manifestSha256": "c" * 64}}, "is not that of the published"),
    ({"target": "site=plant1 adn x"}, "expected and, or"),
    ({"gates": [{"metric": "shadowAgrement", "atLeast": 1}]}, "did you mean shadowAgreement?"),
    ({"wawes": []}, "did you mean waves?"),
    ({"waves": []}, "waves"),
    ({"name": "../x"}, "name"),
])  # fmt: skip
def test_rollouts_that_are_refused(world: World, changes: dict[str, Any], says: str) -> None:
    world.board(1)
    answer = create(world.as_(), **changes)
    assert answer.status_code == 422
    assert says in answer.json()["detail"]
    assert world.parts.rollouts.summaries() == []
    assert world.actions() == []


def test_boards_that_are_to_come_can_be_waited_for(world: World) -> None:
    answer = world.as_().post(f"{V1}/rollouts", spec(), params={"allowEmpty": "true"})
    assert (answer.status_code, answer.json()["members"]) == (201, [])


def test_a_new_rollout_takes_the_boards_over(world: World) -> None:
    key, other = world.board(1), world.board(2)
    admin = world.as_()
    old = create(admin).json()["id"]
    new = create(admin, name="newer", target="node=board-001", waves=[{"name": "all"}]).json()["id"]
    held = world.parts.rollouts.load(old).members
    assert (held[key].is_released, held[other].is_released) == (True, False)
    assert "superseded by " + new in held[key].error
    generations = [each.members[key].generation for each in map(world.parts.rollouts.load, (old, new))]
    assert generations[1] > generations[0]


def test_words_of_operators(world: World) -> None:
    world.board(1, "canary")
    world.board(2)
    operator = world.as_(Role.OPERATOR)
    waves = [{"name": "canary", "filter": "group=canary"}, {"name": "rest", "confirmationRequired": True}]
    path = f"{V1}/rollouts/{create(operator, waves=waves).json()['id']}"
    paused = operator.post(f"{path}/pause", {"reason": "line 2 is cleaned"}).json()
    assert (paused["state"], paused["reason"]) == ("PAUSED", "line 2 is cleaned")
    assert operator.post(f"{path}/resume").json()["state"] == "RUNNING"
    confirmed = operator.post(f"{path}/confirm", {"wave": "rest"}).json()
    assert [wave["isConfirmed"] for wave in confirmed["waves"]] == [False, True]
    unknown = operator.post(f"{path}/confirm", {"wave": "rset"})
    assert unknown.status_code == 409
    assert "there is no wave 'rset'; there are canary, rest" in unknown.json()["detail"]
    aborted = operator.post(f"{path}/abort", {"reason": "no", "onAbort": "keep"}).json()
    assert (aborted["state"], aborted["onAbort"]) == ("STOPPING", "keep")
    late = operator.post(f"{path}/pause")
    assert (late.status_code, late.json()["code"]) == (409, "conflict")
    assert world.actions() == [
        "rollout.create", "rollout.pause", "rollout.resume", "rollout.confirm", "rollout.confirm",
        "rollout.confirm.failed", "rollout.abort", "rollout.pause", "rollout.pause.failed",
    ]  # fmt: skip
    assert {record.actor for record in world.parts.audit.records()} == {"operator"}


@pytest.mark.parametrize(("word", "body"), [
    ("abort", {"onAbrt": "keep"}), ("abort", {"onAbort": "explode"}), ("pause", {"reason": "x" * 2001}),
    ("confirm", {}), ("retry", {"filter": "x" * 4001}), ("retry", {"filtre": "all"}),
])  # fmt: skip
def test_words_that_are_understood_by_half_are_refused(world: World, word: str, body: Any) -> None:
    world.board(1)
    rollout_id = create(world.as_()).json()["id"]
    before = world.parts.rollouts.load(rollout_id)
    assert world.as_().post(f"{V1}/rollouts/{rollout_id}/{word}", body).status_code == 422
    assert world.parts.rollouts.load(rollout_id) == before


@pytest.mark.parametrize("word", ["pause", "resume", "abort", "confirm", "retry"])
def test_words_to_a_rollout_that_is_none(world: World, word: str) -> None:
    body = {"wave": "x"} if word == "confirm" else None
    assert world.as_().post(f"{V1}/rollouts/none/{word}", body).status_code == 404
    assert world.actions() == []


def test_boards_that_failed_are_tried_again(world: World) -> None:
    key, other = world.board(1), world.board(2)
    admin = world.as_()
    waves = [{"name": "all", "successThresholdPercentage": 1}]
    rollout_id = create(admin, waves=waves).json()["id"]
    path = f"{V1}/rollouts/{rollout_id}/retry"
    assert admin.post(path).status_code == 422, "nobody has failed"
    generation = world.parts.rollouts.load(rollout_id).members[key].generation
    advance(world, rollout_id, Reported(key, report(Phase.FAILED, generation)))
    assert world.parts.rollouts.load(rollout_id).members[key].state is MemberState.FAILED
    assert admin.post(path, {"filter": "node=board-002"}).status_code == 422
    assert admin.post(path, {"filter": "node=board-00*"}).status_code == 200
    members = world.parts.rollouts.load(rollout_id).members
    assert members[key].state in {MemberState.QUEUED, MemberState.IN_PROGRESS}
    assert members[other].state is MemberState.IN_PROGRESS


def test_a_word_is_said_again_where_the_controller_was_quicker(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    world.board(1)
    rollout_id = create(world.as_()).json()["id"]
    commit, times = type(world.parts.rollouts).commit, []

    def raced(self: Any, before: Any, after: Any, *rest: Any) -> None:
        times.append(after)
        if len(times) < 3:
            raise Conflict("another was quicker")
        commit(self, before, after, *rest)

    monkeypatch.setattr(type(world.parts.rollouts), "commit", raced)
    answer = world.as_().post(f"{V1}/rollouts/{rollout_id}/pause")
    assert (answer.status_code, len(times)) == (200, 3)


def test_one_who_is_never_quicker_is_told_so(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    world.board(1)
    rollout_id = create(world.as_()).json()["id"]

    def raced(*_: Any) -> None:
        raise Conflict("another was quicker")

    monkeypatch.setattr(type(world.parts.rollouts), "commit", raced)
    assert world.as_().post(f"{V1}/rollouts/{rollout_id}/pause").status_code == 409


def test_operators_and_controller_at_once_lose_nothing(world: World) -> None:
    """Two pause and resume for ever, the controller steps, and boards report: no board is told twice by one attempt."""
    boards = [world.board(number) for number in range(1, 6)]
    rollout_id = create(world.as_(), waves=[{"name": "all"}], rolloutRate={"maximumPerMinute": 1000}).json()["id"]
    failures: list[int] = []

    def operate() -> None:
        client = world.as_(Role.OPERATOR)
        for word in ("pause", "resume") * 8:
            status = client.post(f"{V1}/rollouts/{rollout_id}/{word}").status_code
            if status not in {200, 409}:
                failures.append(status)

    threads = [threading.Thread(target=operate) for _ in range(2)]
    for thread in threads:
        thread.start()
    for key in boards:
        for _ in range(50):
            member = world.parts.rollouts.load(rollout_id).members[key]
            if member.generation:
                try:
                    advance(world, rollout_id, Reported(key, report(Phase.COMMITTED, member.generation, NEW)))
                    break
                except Conflict:
                    continue
    for thread in threads:
        thread.join(60)
    world.as_().post(f"{V1}/rollouts/{rollout_id}/resume")
    advance(world, rollout_id)
    rollout = world.parts.rollouts.load(rollout_id)
    assert failures == []
    assert {member.state for member in rollout.members.values()} == {MemberState.SUCCEEDED}
    assert {member.attempts for member in rollout.members.values()} == {1}
    assert rollout.state is RolloutState.FINISHED


def test_a_change_that_is_none_writes_nothing(world: World) -> None:
    world.board(1)
    rollout_id = create(world.as_()).json()["id"]
    before = world.parts.rollouts.load(rollout_id)
    after = change(world.parts.rollouts, rollout_id, Resumed("anna"), world.clock())
    assert after.version == before.version
