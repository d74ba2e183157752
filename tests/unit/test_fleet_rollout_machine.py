"""Long games with a rollout: boards that work, fail, lie, flap and say nothing; crashes between any two steps."""

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from fleet.core.rollout import (
    Aborted,
    Confirmed,
    Effect,
    Enrolled,
    Event,
    MemberState,
    OnAbort,
    Paused,
    Placement,
    Refused,
    Reported,
    Resumed,
    Rollout,
    RolloutSpec,
    RolloutState,
    SetDesired,
    Superseded,
    Ticked,
    WaveState,
    dump_head,
    dump_member,
    load_head,
    load_member,
    new,
    step,
)
from fleet.core.rollout.gates import needed
from fleet.core.roster import NodeId
from schemas.state import Phase
from tests.unit.fleet_board import NEW, OLD, T0, node_id, report

IN_FLIGHT, PER_MINUTE, RETRIES = 3, 4, 1
ENDS = [Phase.REJECTED, Phase.FAILED, Phase.ROLLED_BACK, Phase.CANCELED]
NODES = [node_id(number) for number in range(12)]


def spec(**changes: Any) -> RolloutSpec:
    return RolloutSpec.model_validate({
        "name": "game", "model": NEW.model_dump(), "target": "all",
        "waves": [
            {"name": "canary", "count": 2, "soakMinutes": 1},
            {"name": "more", "count": 4, "successThresholdPercentage": 75, "confirmationRequired": True},
            {"name": "rest", "successThresholdPercentage": 50},
        ],
        "rolloutRate": {"maximumPerMinute": PER_MINUTE, "maxInFlight": IN_FLIGHT},
        "retries": [{"failureType": "FAILED", "numberOfRetries": RETRIES}],
        "retryDelayMinutes": 0, "inProgressTimeoutInMinutes": 5, **changes,
    })  # fmt: skip


class Game(RuleBasedStateMachine):
    """Holds the stored state and what was ever ordered; the controller dies and comes back at any point."""

    @initialize(on_abort=st.sampled_from(list(OnAbort)), gated=st.booleans())
    def begin(self, on_abort: OnAbort, gated: bool) -> None:
        gates = [{"metric": "selfTestAgreement", "atLeast": 0.9, "thresholdPercentage": 50}] if gated else []
        rollout = new("game", spec(onAbort=on_abort, gates=gates), T0, "anna")
        self.now = T0
        self.orders: dict[NodeId, list[SetDesired]] = {node: [] for node in NODES}
        self.told_at: list[float] = []
        self.taken: set[NodeId] = set()
        self.stored = rollout
        self.aborted = False
        waves = [0, 0, 1, 1, 1, 1, *[2] * 6]
        placements = tuple(Placement(node, wave, 2, OLD) for node, wave in zip(NODES, waves, strict=True))
        self.happens(Enrolled(placements))
        self.happens(Enrolled(placements[:3]))

    def happens(self, event: Event) -> None:
        before = self.stored
        try:
            after, effects = step(before, event, self.now)
        except Refused:
            return
        assert step(before, event, self.now) == (after, effects), "not deterministic"
        self.looks_at(before, after, effects)
        # What is stored is what the next controller reads.
        head = load_head(dump_head(after))
        members = [load_member(dump_member(member)) for member in after.members.values()]
        self.stored = replace(head, members={member.id: member for member in members})
        assert self.stored == after
        if not isinstance(event, Ticked):
            self.is_said_again(event)

    def is_said_again(self, event: Event) -> None:
        """As after a crash between the commit and whatever told the sender of it."""
        try:
            again, effects = step(self.stored, event, self.now)
        except Refused:
            return  # an operator is told that it is done
        assert not [effect for effect in effects if isinstance(effect, SetDesired)], "an event twice orders twice"
        states = [{node: one.state for node, one in rollout.members.items()} for rollout in (self.stored, again)]
        assert states[0] == states[1]

    def looks_at(self, before: Rollout, after: Rollout, effects: tuple[Effect, ...]) -> None:
        orders = [effect for effect in effects if isinstance(effect, SetDesired)]
        for order in orders:
            past = self.orders[order.node]
            assert order.generation > max([2, *(each.generation for each in past)])
            assert order.node not in self.taken, "a board of another rollout"
            if not order.is_revert:
                assert after.state is RolloutState.RUNNING
                assert before.state.is_live, "something new after an abort"
                self.told_at.append(after.elapsed_s)
                forward = [each for each in past if not each.is_revert]
                assert len(forward) <= RETRIES, "more attempts than allowed"
                self.earlier_waves_are_done(after, after.members[order.node].wave)
            past.append(order)
        if after.state in {RolloutState.STOPPING, RolloutState.STOPPED} and before.state.is_live:
            self.goes_back(before, after, {order.node for order in orders if order.is_revert})

    def earlier_waves_are_done(self, rollout: Rollout, wave: int) -> None:
        assert rollout.waves[wave].state in {WaveState.RUNNING, WaveState.SOAKING, WaveState.SUCCEEDED}
        assert all(earlier.state is WaveState.SUCCEEDED for earlier in rollout.waves[:wave])
        if wave >= 1:
            assert rollout.waves[1].is_confirmed

    def goes_back(self, before: Rollout, after: Rollout, turned: set[NodeId]) -> None:
        changed = {node for node, past in self.orders.items() if [one for one in past if not one.is_revert]}
        committed = {node for node, one in after.members.items() if one.state is MemberState.SUCCEEDED}
        rejected = {node for node, one in after.members.items() if one.state is MemberState.REJECTED}
        if after.on_abort is OnAbort.REVERT:
            assert turned == changed - self.taken, "not all that were changed go back"
        else:
            assert turned == changed - self.taken - committed - rejected

    @rule(seconds=st.sampled_from([1, 20, 61, 61, 400]))
    def time_passes(self, seconds: int) -> None:
        self.now += timedelta(seconds=seconds)
        self.happens(Ticked())

    @rule(seconds=st.sampled_from([-86_400, 86_400]))
    def the_clock_jumps(self, seconds: int) -> None:
        before = self.stored
        self.now += timedelta(seconds=seconds)
        self.happens(Ticked())
        assert self.stored.elapsed_s - before.elapsed_s <= 60

    @rule(node=st.sampled_from(NODES), agreement=st.sampled_from([0.95, 0.95, 0.5, None]))
    def commits(self, node: NodeId, agreement: float | None) -> None:
        self.answers(node, Phase.COMMITTED, agreement)

    @rule(agreement=st.sampled_from([0.95, 0.95, 0.95, 0.5]))
    def all_at_work_commit(self, agreement: float) -> None:
        for member in self.stored.in_state(MemberState.IN_PROGRESS):
            self.answers(member.id, Phase.COMMITTED, agreement)

    @rule(node=st.sampled_from(NODES), phase=st.sampled_from([*ENDS, Phase.DOWNLOADING, Phase.PROBATION]))
    def reports(self, node: NodeId, phase: Phase) -> None:
        self.answers(node, phase, None)

    def answers(self, node: NodeId, phase: Phase, agreement: float | None) -> None:
        if not self.orders[node]:
            return
        order = self.orders[node][-1]
        runs = order.model if phase in {Phase.COMMITTED, Phase.PROBATION} else OLD
        measured = {} if agreement is None else {"selfTestAgreement": agreement}
        self.happens(Reported(node, report(phase, order.generation, runs, measured=measured)))

    @rule(
        node=st.sampled_from(NODES),
        phase=st.sampled_from(list(Phase)),
        generation=st.sampled_from([0, 1, 2, 3, 4, 9, 2**53 - 1]),
        model=st.sampled_from([OLD, NEW, None]),
    )
    def lies(self, node: NodeId, phase: Phase, generation: int, model: Any) -> None:
        if node not in NODES[2:4]:  # two boards lie, one of each later wave would be as good
            return
        self.happens(Reported(node, report(phase, generation, model, measured={"selfTestAgreement": 1.0})))

    @rule(wave=st.sampled_from(["canary", "more", "rest", "none"]))
    def an_operator_confirms(self, wave: str) -> None:
        self.happens(Confirmed(wave, "anna"))

    @rule()
    def an_operator_pauses(self) -> None:
        self.happens(Paused("anna"))

    @rule()
    def an_operator_resumes(self) -> None:
        self.happens(Resumed("anna"))

    @precondition(lambda self: self.stored.elapsed_s > 600)
    @rule(on_abort=st.sampled_from([None, *OnAbort]))
    def an_operator_aborts(self, on_abort: OnAbort | None) -> None:
        self.happens(Aborted("anna", "a bad feeling", on_abort))

    @rule(node=st.sampled_from(NODES[8:]))
    def another_rollout_takes(self, node: NodeId) -> None:
        self.happens(Superseded((node,), "r2"))
        self.taken.add(node)

    @invariant()
    def never_more_at_work_than_allowed(self) -> None:
        if hasattr(self, "stored"):
            assert len(self.stored.in_state(MemberState.IN_PROGRESS)) <= IN_FLIGHT

    @invariant()
    def never_faster_than_allowed(self) -> None:
        for at_s in getattr(self, "told_at", []):
            assert sum(at_s <= other < at_s + 60 for other in self.told_at) <= PER_MINUTE

    @invariant()
    def a_wave_that_passed_had_what_it_needs(self) -> None:
        if not hasattr(self, "stored"):
            return
        for at, (wave, progress) in enumerate(zip(self.stored.spec.waves, self.stored.waves, strict=True)):
            if progress.state is not WaveState.SUCCEEDED or self.stored.waived or progress.is_confirmed:
                continue
            members = [one for one in self.stored.members.values() if one.wave == at and one.is_counted]
            proved = sum(one.state is MemberState.SUCCEEDED or one.has_regressed for one in members)
            went_back = self.stored.state in {RolloutState.STOPPING, RolloutState.STOPPED}
            assert went_back or proved >= needed(wave.success_threshold_percentage, len(members)) - len(self.taken)

    def teardown(self) -> None:
        """Left alone with silent boards, every rollout comes to rest: paused, waiting, or over."""
        if not hasattr(self, "stored"):
            return
        for _ in range(40):
            self.time_passes(61)
        rollout = self.stored
        assert not rollout.in_state(MemberState.IN_PROGRESS, MemberState.REVERTING)
        waits = any(wave.state is WaveState.WAITING_FOR_CONFIRMATION for wave in rollout.waves)
        assert rollout.state.is_over or rollout.state is RolloutState.PAUSED or waits, rollout.state


TestGame = Game.TestCase
TestGame.settings = settings(max_examples=30, stateful_step_count=40, deadline=None)


def test_the_game_can_be_won() -> None:
    """Or the invariants above would hold for want of anything that happens."""
    game = Game()
    game.begin(OnAbort.REVERT, gated=True)
    for wave in ("canary", "more", "rest"):
        game.an_operator_confirms(wave)
    for _ in range(20):
        game.time_passes(61)
        game.all_at_work_commit(0.95)
    assert game.stored.state is RolloutState.FINISHED
    assert all(len(past) == 1 for past in game.orders.values())


@pytest.mark.parametrize("prefix", range(0, 15, 2))
def test_a_controller_that_dies_anywhere_goes_on_from_what_is_stored(prefix: int) -> None:
    """The world is run to `prefix`, the last step's effects are lost in the crash after the commit, and it goes on:
    what is stored alone leads to the same end."""
    game = Game()
    game.begin(OnAbort.REVERT, gated=False)
    for wave in ("canary", "more", "rest"):
        game.an_operator_confirms(wave)
    for turn in range(20):
        if turn == prefix:
            head = load_head(dump_head(game.stored))
            members = [load_member(dump_member(member)) for member in game.stored.members.values()]
            game.stored = replace(head, members={member.id: member for member in members})
        game.time_passes(61)
        game.all_at_work_commit(0.95)
    assert game.stored.state is RolloutState.FINISHED
    assert all(len(past) == 1 for past in game.orders.values())
