"""The controller's turns over a real database: who leads, what is decided, and what others decide meanwhile."""

from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from fleet.adapters.db import Database, DbLock, DbRollouts, DbRoster, upgrade
from fleet.core.rollout import (
    BoardPlan,
    MemberState,
    ModelRef,
    Paused,
    Rollout,
    RolloutSpec,
    RolloutState,
    SetDesired,
    new,
    step,
)
from fleet.core.roster import NodeId
from fleet.errors import LeaseLost
from fleet.loops.controller import Controller, Pace
from fleet.loops.lead import Lead
from fleet.loops.meters import Meters
from schemas.state import Phase
from tests.unit.fleet_board import NEW, T0, heard, info, node_id, report, status

OTHER = ModelRef(name="pcb", version="3.0", manifest_sha256="c" * 64)
BRISK = Pace(tick_s=0.0, list_s=0.0, whole_s=0.0)


class World:
    def __init__(self, folder: Path) -> None:
        self.database = Database(f"sqlite:///{folder}/fleet.db")
        upgrade(self.database)
        self.roster = DbRoster(self.database)
        self.rollouts = DbRollouts(self.database)
        self.now = T0
        self.is_hearing = True
        self.decided = 0
        self.lead, self.controller = self.made("one")

    def made(self, owner: str, pace: Pace = BRISK) -> tuple[Lead, Controller]:
        lead = Lead(DbLock(self.database), owner, lambda: self.now, 30.0)
        stores = (self.roster, self.rollouts)
        controller = Controller(
            stores, lead, now=lambda: self.now, meters=Meters(), is_hearing=lambda: self.is_hearing, pace=pace
        )
        controller.decided = self._count
        return lead, controller

    def _count(self) -> None:
        self.decided += 1

    def boards(self, *numbers: int) -> None:
        for number in numbers:
            node = node_id(number)
            self.hear(number, status(), info(node), report())

    def hear(self, number: int, *messages: Any) -> None:
        self.roster.heard([replace(heard(node_id(number), each), at=self.now) for each in messages])

    def create(self, rollout_id: str = "r1", model: ModelRef = NEW, **more: Any) -> None:
        spec = {"schema": "rkfleet.rollout/1", "name": rollout_id, "model": model.model_dump(by_alias=True),
                "target": "site=plant1", "waves": [{"name": "all"}], **more}  # fmt: skip
        self.rollouts.create(new(rollout_id, RolloutSpec.model_validate(spec), self.now, "olga"))

    def turn(self, seconds: float = 1.0, who: tuple[Lead, Controller] | None = None) -> None:
        self.now += timedelta(seconds=seconds)
        lead, controller = who or (self.lead, self.controller)
        lead.renew()
        assert lead.lease is not None
        controller.turn(lead.lease)

    def commit(self, number: int, generation: int = 1, model: ModelRef = NEW) -> None:
        done = report(Phase.COMMITTED, generation, model, seconds=(self.now - T0).total_seconds() + 1)
        self.hear(number, done)

    def states(self, rollout_id: str = "r1") -> dict[int, MemberState]:
        members = self.rollouts.load(rollout_id).members
        return {int(node.node[-3:]): member.state for node, member in sorted(members.items())}

    def load(self, rollout_id: str = "r1") -> Rollout:
        return self.rollouts.load(rollout_id)

    def orders(self) -> dict[NodeId, int]:
        return self.rollouts.floors()


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


def test_a_rollout_that_somebody_created_is_found_dealt_told_and_ended(world: World) -> None:
    world.boards(1, 2)
    world.turn()
    assert world.decided == 0
    world.create()
    world.turn()
    assert world.states() == {1: MemberState.IN_PROGRESS, 2: MemberState.IN_PROGRESS}
    assert world.orders() == {node_id(1): 1, node_id(2): 1}
    assert world.decided > 0
    world.commit(1)
    world.commit(2)
    world.turn()
    world.turn()
    assert world.load().state is RolloutState.FINISHED


def test_reports_of_the_time_when_nobody_decided_count_before_silence_does(world: World) -> None:
    world.boards(1)
    world.create(inProgressTimeoutInMinutes=0.5)
    world.turn()
    world.commit(1)
    world.now += timedelta(days=1)
    after_restart = world.made("two")
    world.turn(who=after_restart)
    world.turn(who=after_restart)
    assert world.states() == {1: MemberState.SUCCEEDED}


def test_no_clock_moves_while_boards_cannot_be_heard(world: World) -> None:
    world.boards(1)
    world.create(inProgressTimeoutInMinutes=1)
    world.turn()
    world.is_hearing = False
    for _ in range(5):
        world.turn(60)
    assert world.states() == {1: MemberState.IN_PROGRESS}
    assert world.load().elapsed_s < 60
    world.is_hearing = True
    for _ in range(3):
        world.turn(60)
    assert world.load().state is not RolloutState.RUNNING, "now it is the board's silence"


def test_what_an_operator_does_in_another_process_is_seen_at_the_next_turn(world: World) -> None:
    world.boards(1)
    world.create(scheduling={"startTime": (T0 + timedelta(hours=1)).isoformat()})
    world.turn()
    before = world.load()
    after, effects = step(before, Paused("olga"), world.now)
    world.rollouts.commit(before, after, effects, None, world.now)
    world.turn()
    assert world.load().state is RolloutState.PAUSED
    world.turn(3600)
    assert world.orders() == {}


def test_the_newer_of_two_rollouts_has_the_boards_that_both_want(world: World) -> None:
    world.boards(1, 2)
    world.create("r1", rolloutRate={"maxInFlight": 1})
    world.turn()
    world.now += timedelta(seconds=1)
    world.create("r2", OTHER, target="node=board-002")
    world.turn()
    world.turn()
    assert world.states("r2") == {2: MemberState.IN_PROGRESS}
    assert world.states("r1")[2] is MemberState.REMOVED
    world.boards(3)
    world.turn()
    assert world.states("r1")[3] is MemberState.QUEUED, "one that comes later is still the older one's"
    assert 3 not in world.states("r2")


def test_a_board_that_was_given_an_order_by_hand_is_left_alone(world: World) -> None:
    """As after a crash between the order and the word to the rollout."""
    world.boards(1, 2)
    world.create(rolloutRate={"maxInFlight": 1})
    world.turn()
    [waiting] = [number for number, state in world.states().items() if state is MemberState.QUEUED]
    by_hand = SetDesired(node_id(waiting), 1, OTHER, BoardPlan())
    world.rollouts.order(by_hand, "by-hand", world.now)
    world.commit(3 - waiting)
    for _ in range(3):
        world.turn()
    assert world.states() == {waiting: MemberState.REMOVED, 3 - waiting: MemberState.SUCCEEDED}
    held = world.rollouts.desired(node_id(waiting))
    assert held is not None
    assert held.order == by_hand
    assert world.load().state is RolloutState.FINISHED


def test_a_board_that_left_the_fleet_is_waited_for_no_more(world: World) -> None:
    world.boards(1, 2)
    world.create()
    world.turn()
    world.commit(1)
    world.roster.remove(node_id(2))
    for _ in range(2):
        world.turn()
    assert world.states() == {1: MemberState.SUCCEEDED, 2: MemberState.REMOVED}


def test_a_board_that_comes_later_joins(world: World) -> None:
    world.boards(1)
    world.create(scheduling={"startTime": (T0 + timedelta(seconds=5)).isoformat()})
    world.turn()
    world.boards(2)
    world.turn()
    assert set(world.states()) == {1, 2}
    world.turn(10)
    assert set(world.states().values()) == {MemberState.IN_PROGRESS}


def test_only_one_of_two_leads_and_the_other_takes_over_when_the_lease_ends(world: World) -> None:
    world.boards(1)
    world.create()
    world.turn()
    second_lead, second = world.made("two")
    second_lead.renew()
    assert second_lead.lease is None
    stale = world.lead.lease
    assert stale is not None
    world.now += timedelta(seconds=31)
    assert world.lead.lease is None, "nobody has renewed it"
    world.turn(who=(second_lead, second))
    world.commit(1)
    with pytest.raises(LeaseLost):
        world.controller.turn(stale)
    world.turn(who=(second_lead, second))
    assert world.load().state is RolloutState.FINISHED


def test_a_lease_that_is_given_back_can_be_had_at_once(world: World) -> None:
    world.lead.renew()
    second_lead, _ = world.made("two")
    world.lead.release()
    second_lead.renew()
    assert second_lead.lease is not None


@pytest.mark.parametrize("turns", [1, 3])
def test_looking_again_changes_no_generation(world: World, turns: int) -> None:
    world.boards(1, 2, 3)
    world.create()
    for _ in range(turns):
        world.turn(who=world.made("one"))  # a restart each
    assert set(world.orders().values()) == {1}
