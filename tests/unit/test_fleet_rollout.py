"""A rollout, case by case: what a board's word, its silence, a gate or an operator leads to."""

from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import yaml
from pydantic import ValidationError

from fleet.core.rollout import (
    Aborted,
    Alert,
    AlertKind,
    Confirmed,
    Enrolled,
    Event,
    Left,
    MemberState,
    Observed,
    OnAbort,
    Paused,
    Placement,
    Refused,
    Reported,
    Resumed,
    Retried,
    Rollout,
    RolloutSpec,
    RolloutState,
    SetDesired,
    Superseded,
    Ticked,
    WaveState,
    new,
    place,
    step,
    steps,
)
from fleet.core.rollout.limits import per_minute
from schemas.state import Phase
from tests.unit.fleet_board import NEW, OLD, T0, at, node, node_id, report, telemetry

A, B, C, D = (node_id(number) for number in range(1, 5))


def spec(**changes: Any) -> RolloutSpec:
    base = {"name": "r", "model": NEW.model_dump(), "target": "all", "waves": [{"name": "one"}]}
    return RolloutSpec.model_validate(base | changes)


class Play:
    """Applies events in turn, one second apart."""

    def __init__(self, *boards: Placement, **changes: Any) -> None:
        self.now = T0
        self.rollout: Rollout = new("r1", spec(**changes), T0, "anna")
        self.orders: list[SetDesired] = []
        self.alerts: list[Alert] = []
        if boards:
            self.do(Enrolled(boards))

    def do(self, *events: Event) -> "Play":
        for event in events:
            self.now += timedelta(seconds=1)
            self.rollout, effects = step(self.rollout, event, self.now)
            self.orders += [effect for effect in effects if isinstance(effect, SetDesired)]
            self.alerts += [effect for effect in effects if isinstance(effect, Alert)]
        return self

    def wait(self, minutes: float) -> "Play":
        for _ in range(round(minutes * 2)):
            self.now += timedelta(seconds=29)
            self.do(Ticked())
        return self

    def says(self, board: Any, phase: Phase = Phase.COMMITTED, **more: Any) -> "Play":
        model = more.pop("model", NEW if phase is Phase.COMMITTED else OLD)
        generation = more.pop("generation", self.rollout.members[board].generation)
        return self.do(Reported(board, report(phase, generation, model, **more)))

    def at(self) -> RolloutState:
        return self.rollout.state

    def state(self, board: Any) -> str:
        return self.rollout.members[board].state.value

    @property
    def told(self) -> list[Any]:
        return [order.node for order in self.orders if not order.is_revert]

    @property
    def reverts(self) -> list[Any]:
        return [(order.node, order.generation, order.model) for order in self.orders if order.is_revert]

    @property
    def kinds(self) -> list[AlertKind]:
        return [alert.kind for alert in self.alerts]


def boards(*keys: Any, wave: int = 0) -> list[Placement]:
    return [Placement(key, wave, 3, OLD) for key in keys]


@pytest.mark.parametrize(("phases", "state", "orders"), [
    pytest.param([Phase.COMMITTED], "SUCCEEDED", 1, id="committed"),
    pytest.param([Phase.DOWNLOADING, Phase.SELF_TEST, Phase.PROBATION], "IN_PROGRESS", 1, id="sent is no success"),
    pytest.param([Phase.REJECTED], "REJECTED", 1, id="rejected"),
    pytest.param([Phase.ROLLED_BACK], "FAILED", 1, id="rolled back"),
    pytest.param([Phase.FAILED, Phase.COMMITTED], "SUCCEEDED", 1, id="the board tried again by itself"),
    pytest.param([Phase.COMMITTED, Phase.ROLLED_BACK], "FAILED", 1, id="success did not last"),
    pytest.param([Phase.COMMITTED, Phase.ROLLED_BACK, Phase.COMMITTED], "FAILED", 1, id="a board that flaps"),
    pytest.param([Phase.REJECTED, Phase.COMMITTED], "REJECTED", 1, id="rejected is rejected"),
])  # fmt: skip
def test_a_board_ends_as_it_says(phases: Sequence[Phase], state: str, orders: int) -> None:
    play = Play(*boards(A, B), errorAction="PAUSE")
    for phase in phases:
        play.says(A, phase)
    assert play.state(A) == state
    assert play.told.count(A) == orders


@pytest.mark.parametrize(("generation", "model", "state"), [
    pytest.param(4, NEW, "SUCCEEDED", id="ours"),
    pytest.param(3, NEW, "IN_PROGRESS", id="not seen ours yet"),
    pytest.param(4, OLD, "FAILED", id="committed, and runs another model"),
    pytest.param(9, OLD, "FAILED", id="somebody else has set it"),
    pytest.param(9, NEW, "SUCCEEDED", id="set by another to the same model"),
])  # fmt: skip
def test_what_a_commit_is_worth(generation: int, model: Any, state: str) -> None:
    play = Play(*boards(A, B), errorAction="PAUSE").says(A, generation=generation, model=model)
    assert play.state(A) == state


def test_generations_go_on_from_the_highest_that_is_known() -> None:
    play = Play(Placement(A, 0, 41, OLD))
    assert [order.generation for order in play.orders] == [42]


def test_a_board_whose_generations_are_used_up_fails() -> None:
    play = Play(Placement(A, 0, 2**53 - 1, OLD), *boards(B))
    assert play.state(A) == "FAILED"
    assert play.told == [B]
    assert play.do(Ticked()).rollout.state is RolloutState.STOPPING  # half of the wave can succeed at most


def test_a_board_that_has_the_model_is_not_told_and_proves_nothing() -> None:
    play = Play(Placement(A, 0, 3, NEW), *boards(B, wave=1), waves=[{"name": "one", "count": 1}, {"name": "two"}])
    assert (play.state(A), play.told) == ("SUCCEEDED", [])
    assert play.rollout.waves[0].state is WaveState.WAITING_FOR_CONFIRMATION
    play.do(Confirmed("one", "anna"))
    assert play.told == [B]


def test_silence_is_failure_and_a_late_word_still_counts() -> None:
    play = Play(*boards(A, B), inProgressTimeoutInMinutes=2, errorAction="PAUSE").wait(1.5)
    assert play.state(A) == "IN_PROGRESS"
    play.wait(1)
    assert play.state(A) == "TIMED_OUT"
    assert play.at() is RolloutState.PAUSED
    assert play.says(A).state(A) == "SUCCEEDED"


@pytest.mark.parametrize("jump", [timedelta(days=365), timedelta(days=-365)])
def test_a_jump_of_the_clock_makes_no_board_silent(jump: timedelta) -> None:
    play = Play(*boards(A, B), inProgressTimeoutInMinutes=5)
    play.now += jump
    play.do(Ticked())
    play.now -= jump
    play.do(Ticked())
    assert (play.state(A), play.rollout.state) == ("IN_PROGRESS", RolloutState.RUNNING)


@pytest.mark.parametrize(("retries", "failures", "orders", "state"), [
    pytest.param([], 1, 1, "FAILED", id="none"),
    pytest.param([{"failureType": "FAILED", "numberOfRetries": 2}], 2, 3, "IN_PROGRESS", id="left"),
    pytest.param([{"failureType": "FAILED", "numberOfRetries": 2}], 3, 3, "FAILED", id="used up"),
    pytest.param([{"failureType": "REJECTED", "numberOfRetries": 2}], 1, 1, "FAILED", id="of another kind"),
    pytest.param([{"failureType": "ALL", "numberOfRetries": 1}], 1, 2, "IN_PROGRESS", id="of all kinds"),
])  # fmt: skip
def test_retries(retries: list[Any], failures: int, orders: int, state: str) -> None:
    play = Play(*boards(A, B), retries=retries, errorAction="PAUSE")
    for _ in range(failures):
        play.says(A, Phase.FAILED).wait(1.5)
    assert (play.told.count(A), play.state(A)) == (orders, state)
    generations = [order.generation for order in play.orders if order.node == A]
    assert generations == list(range(4, 4 + orders))


def test_an_operator_has_a_board_tried_once_more() -> None:
    play = Play(*boards(A, B), errorAction="PAUSE").says(A, Phase.REJECTED).do(Resumed("anna"), Retried((A,), "anna"))
    assert play.state(A) == "IN_PROGRESS"
    assert play.says(A, Phase.REJECTED).state(A) == "REJECTED"
    with pytest.raises(Refused):
        play.do(Retried((D,), "anna"))


WAVES = [{"name": "canary", "count": 1, "soakMinutes": 10}, {"name": "rest"}]


def test_the_next_wave_starts_after_soaking_alone() -> None:
    play = Play(*boards(A), *boards(B, C, wave=1), waves=WAVES).says(A).wait(9)
    assert play.told == [A]
    play.wait(2)
    assert play.told == [A, B, C]
    play.says(B).says(C)
    assert play.at() is RolloutState.FINISHED
    assert play.kinds[-2:] == [AlertKind.WAVE_SUCCEEDED, AlertKind.FINISHED]


def test_a_canary_that_falls_back_while_soaking_ends_the_rollout() -> None:
    play = Play(*boards(A), *boards(B, wave=1), waves=WAVES).says(A).wait(5).says(A, Phase.ROLLED_BACK)
    assert play.at() is RolloutState.STOPPING
    assert play.told == [A]


def test_a_wave_waits_for_an_operators_word() -> None:
    waves = [{"name": "canary", "count": 1}, {"name": "rest", "confirmationRequired": True}]
    play = Play(*boards(A), *boards(B, wave=1), waves=waves).says(A).wait(60)
    assert (play.told, play.kinds[-1]) == ([A], AlertKind.WAVE_WAITING)
    play.do(Confirmed("rest", "anna"), Confirmed("rest", "anna"))
    assert play.told == [A, B]
    with pytest.raises(Refused, match="there are canary, rest"):
        play.do(Confirmed("rset", "anna"))


def test_a_tolerant_wave_goes_on_without_its_last_board() -> None:
    waves = [{"name": "canary", "count": 2, "successThresholdPercentage": 50}, {"name": "rest"}]
    play = Play(*boards(A, B), *boards(C, wave=1), waves=waves).says(A, Phase.REJECTED)
    assert C not in play.told
    play.says(B)
    assert C in play.told


def test_a_wave_is_not_judged_before_enough_boards_have_ended() -> None:
    waves = [
        {"name": "canary", "count": 3, "successThresholdPercentage": 30, "minNumberOfExecutedThings": 3},
        {"name": "rest"},
    ]
    play = Play(*boards(A, B, C), *boards(D, wave=1), waves=waves).says(A).says(B)
    assert D not in play.told
    assert D in play.says(C, Phase.FAILED).told


ABORT = [{"failureType": "FAILED", "thresholdPercentage": 40, "minNumberOfExecutedThings": 3}]


@pytest.mark.parametrize(("words", "is_over"), [
    pytest.param([Phase.FAILED, Phase.FAILED], False, id="too few have ended"),
    pytest.param([Phase.FAILED, Phase.COMMITTED, Phase.COMMITTED], False, id="a third"),
    pytest.param([Phase.FAILED, Phase.FAILED, Phase.COMMITTED], True, id="two thirds"),
    pytest.param([Phase.REJECTED, Phase.REJECTED, Phase.COMMITTED], False, id="of another kind"),
])  # fmt: skip
def test_abort_criteria(words: Sequence[Phase], is_over: bool) -> None:
    waves = [{"name": "all", "successThresholdPercentage": 1}]
    play = Play(*boards(A, B, C, D), abortCriteria=ABORT, waves=waves)
    for board, word in zip((A, B, C), words, strict=False):
        play.says(board, word)
    assert (play.at() is RolloutState.STOPPING) == is_over


GATE = {"metric": "probationNgDrift", "atMost": 0.1}


@pytest.mark.parametrize(("gate", "figures", "state"), [
    pytest.param({}, [0.0, 0.05], RolloutState.FINISHED, id="holds"),
    pytest.param({}, [0.0, 0.9], RolloutState.STOPPING, id="one breaks it"),
    pytest.param({}, [0.0, None], RolloutState.STOPPING, id="one has not measured it"),
    pytest.param({"action": "PAUSE"}, [0.0, 0.9], RolloutState.PAUSED, id="pauses"),
    pytest.param({"thresholdPercentage": 50}, [0.0, 0.9], RolloutState.FINISHED, id="half is enough"),
    pytest.param({"thresholdPercentage": 50}, [0.9, 0.9], RolloutState.STOPPING, id="none is not"),
    pytest.param({"atMost": None, "atLeast": 0.5}, [0.6, 0.4], RolloutState.STOPPING, id="a lower bound"),
])  # fmt: skip
def test_gates_on_what_boards_have_measured(gate: dict[str, Any], figures: list[Any], state: RolloutState) -> None:
    play = Play(*boards(A, B), gates=[GATE | gate])
    for board, figure in zip((A, B), figures, strict=True):
        play.says(board, measured={} if figure is None else {"probationNgDrift": figure, "madeUp": 1.0})
    assert play.at() is state


def test_a_gate_on_telemetry_compares_before_and_after() -> None:
    waves = [{"name": "canary", "count": 1, "soakMinutes": 10}, {"name": "rest"}]
    play = Play(waves=waves, gates=[{"metric": "ngRateDrift", "atMost": 0.2}], scheduling={"startTime": at(100)})
    play.do(Enrolled((*boards(A), *boards(B, wave=1))))
    play.do(Observed(A, telemetry(5, OLD, {"OK": 95, "NOT_OK": 5})))
    play.now = at(101)
    play.do(Ticked()).says(A)
    play.do(Observed(A, telemetry(200, OLD, {"OK": 100})))  # late, of the model before
    assert play.at() is RolloutState.RUNNING
    play.do(Observed(A, telemetry(201, NEW, {"NOT_OK": 100})))
    assert play.at() is RolloutState.STOPPING
    assert "ngRateDrift" in play.rollout.reason
    assert play.told == [A]


def test_figures_of_a_lying_board_are_kept_in_bounds() -> None:
    play = Play(*boards(A, B), gates=[{"metric": "selfTestAgreement", "atLeast": 0.9}])
    play.says(A, measured={"selfTestAgreement": float("inf")})
    assert play.rollout.members[A].measured == {}


# going back


@pytest.mark.parametrize(("on_abort", "back"), [
    (OnAbort.REVERT, [A, B, C, D]),
    (OnAbort.KEEP, [C, D]),
])  # fmt: skip
def test_who_goes_back(on_abort: OnAbort, back: list[Any]) -> None:
    waves = [{"name": "all", "successThresholdPercentage": 1}]
    play = Play(*boards(A, B, C, D), Placement(node_id(9), 0, 0, NEW), waves=waves)
    play.says(A).says(B, Phase.REJECTED).says(C, Phase.FAILED).do(Aborted("anna", "bad", on_abort))
    assert play.reverts == [(board, 5, OLD) for board in back]
    for plan in [order.plan for order in play.orders if order.is_revert]:
        assert (plan.shadow, plan.probation.max_ng_drift) == (None, 1.0), "the bad model is no measure of the good one"
        assert plan.probation.max_p95_ratio > 1000
    assert play.at() is RolloutState.STOPPING
    for board in back:
        play.says(board, model=OLD)
    assert play.at() is RolloutState.STOPPED
    assert {play.state(board) for board in back} == {"REVERTED"}
    play.do(Aborted("anna", "again"))
    assert len(play.reverts) == len(back)


def test_boards_that_were_never_told_are_left_alone() -> None:
    play = Play(*boards(A), *boards(B, wave=1), waves=WAVES).do(Aborted("anna"))
    assert (play.state(B), [board for board, *_ in play.reverts]) == ("CANCELED", [A])


def test_a_board_that_does_not_go_back_is_named_and_does_not_hold_up_the_end() -> None:
    play = Play(Placement(A, 0, 3, None), *boards(B, C), inProgressTimeoutInMinutes=2).do(Aborted("anna"))
    assert play.state(A) == "REVERT_FAILED"  # nobody knows what it ran
    play.says(B, Phase.FAILED, model=NEW).wait(3)
    assert (play.state(B), play.state(C)) == ("REVERT_FAILED", "REVERT_FAILED")
    assert play.at() is RolloutState.STOPPED
    assert play.kinds.count(AlertKind.REVERT_FAILED) == 3
    assert play.says(C, model=OLD).state(C) == "REVERTED"  # it comes back late, and goes back


def test_nothing_goes_back_to_a_model_on_probation() -> None:
    play = Play(*boards(A), scheduling={"startTime": at(60)})
    play.says(A, Phase.PROBATION, generation=3, model=NEW)
    play.now = at(61)
    play.do(Ticked(), Aborted("anna"))
    assert play.reverts == [(A, 5, OLD)]


# operators, times, rates


def test_a_paused_rollout_starts_nothing_and_listens() -> None:
    play = Play(*boards(A), *boards(B, wave=1), waves=[{"name": "c", "count": 1}, {"name": "rest"}])
    play.do(Paused("anna"), Paused("anna")).says(A).wait(5)
    assert (play.told, play.state(A)) == ([A], "SUCCEEDED")
    assert B in play.do(Resumed("anna")).told


def test_resuming_overrules_the_rule_that_paused() -> None:
    waves = [{"name": "canary", "count": 2}, {"name": "rest"}]
    play = Play(*boards(A, B), *boards(C, wave=1), waves=waves, errorAction="PAUSE").says(A, Phase.REJECTED)
    assert play.rollout.breach == "wave:canary"
    play.do(Resumed("anna"))
    assert play.told == [A, B]
    assert play.says(B).told == [A, B, C]


def test_an_aborting_rule_works_in_a_paused_rollout() -> None:
    play = Play(*boards(A, B), gates=[GATE]).do(Paused("anna")).says(A, measured={"probationNgDrift": 1.0})
    assert play.at() is RolloutState.STOPPING


@pytest.mark.parametrize(("event", "state"), [
    (Paused("a"), RolloutState.STOPPED), (Resumed("a"), RolloutState.STOPPED), (Resumed("a"), RolloutState.READY),
    (Confirmed("one", "a"), RolloutState.STOPPED), (Retried((A,), "a"), RolloutState.READY),
])  # fmt: skip
def test_words_that_make_no_sense_are_refused(event: Event, state: RolloutState) -> None:
    play = Play(scheduling={"startTime": at(1000)})
    if state is RolloutState.STOPPED:
        play.do(Aborted("anna"))
    assert play.at() is state
    with pytest.raises(Refused, match=state.value):
        play.do(event)


def test_times_and_windows() -> None:
    window = {"startTime": "23:30", "durationInMinutes": 60, "days": [4]}  # Friday into Saturday
    play = Play(*boards(A), scheduling={"maintenanceWindows": [window]})
    for when, is_told in ((at(3600), False), (at(12 * 3600 - 100), True)):
        play.now = when
        assert bool(play.do(Ticked()).told) == is_told
    late = Play(*boards(A), scheduling={"maintenanceWindows": [window]})
    late.now = at(12 * 3600 + 1700)  # Saturday, 00:28
    assert late.do(Ticked()).told == [A]


@pytest.mark.parametrize(("behavior", "state"), [
    ("STOP_ROLLOUT", RolloutState.PAUSED), ("CANCEL", RolloutState.STOPPING),
])  # fmt: skip
def test_the_end_time(behavior: str, state: RolloutState) -> None:
    play = Play(*boards(A, B), scheduling={"endTime": at(100), "endBehavior": behavior})
    play.now = at(101)
    assert play.do(Ticked()).rollout.state is state
    if state is RolloutState.PAUSED:
        assert play.do(Resumed("anna"), Ticked()).rollout.state is RolloutState.RUNNING


def test_the_rate_holds_over_any_minute() -> None:
    play = Play(rolloutRate={"maximumPerMinute": 2})
    play.do(Enrolled(tuple(boards(*(node_id(number) for number in range(9))))))
    counts = []
    for _ in range(12):
        play.now += timedelta(seconds=19)
        counts.append(len(play.do(Ticked()).told))
    assert counts == [2, 2, 4, 4, 4, 6, 6, 6, 8, 8, 8, 9]


def test_boards_that_come_one_by_one_keep_to_the_rate_too() -> None:
    play = Play(rolloutRate={"maximumPerMinute": 2})
    for number, minute in enumerate((0, 30, 61, 62)):
        play.now = at(minute)
        play.do(Enrolled(tuple(boards(node_id(number)))))
    assert len(play.told) == 3
    play.now = at(93)
    assert len(play.do(Ticked()).told) == 4


def test_no_more_boards_are_at_work_than_allowed() -> None:
    play = Play(*boards(A, B, C), rolloutRate={"maxInFlight": 2})
    assert play.told == [A, B]
    assert play.do(Ticked()).told == [A, B]
    assert play.says(B).told == [A, B, C]


@pytest.mark.parametrize(("notified", "rate"), [(0, 3), (9, 3), (10, 6), (20, 12), (1000, 50)])
def test_an_exponential_rate_grows_to_its_ceiling(notified: int, rate: int) -> None:
    criteria = {"numberOfNotifiedThings": 10}
    growing = {"baseRatePerMinute": 3, "incrementFactor": 2, "rateIncreaseCriteria": criteria}
    play = Play(rolloutRate={"maximumPerMinute": 50, "exponentialRate": growing})
    object.__setattr__(play.rollout, "notified", notified)
    assert per_minute(play.rollout.spec.rollout_rate, play.rollout) == rate


def test_another_rollout_takes_boards_over() -> None:
    waves = [{"name": "all", "successThresholdPercentage": 1}]
    play = Play(*boards(A, B, C), waves=waves).says(A)
    play.do(Superseded((A, B), "r2"), Aborted("anna"))
    assert [board for board, *_ in play.reverts] == [C]
    assert [play.state(board) for board in (A, B, C)] == ["SUCCEEDED", "REMOVED", "REVERTING"]


def test_a_board_that_left_holds_up_nothing() -> None:
    play = Play(*boards(A, B)).says(A).do(Left((B,)))
    assert play.at() is RolloutState.FINISHED


def test_a_flood_of_reports_in_one_step_ends_as_one_by_one() -> None:
    events = [Reported(board, report(Phase.COMMITTED, 4, NEW)) for board in (A, B, C)]
    start = Play(*boards(A, B, C))
    at_once, _ = steps(start.rollout, events, start.now)
    assert at_once.state is RolloutState.FINISHED
    assert step(at_once, events[0], start.now)[0] is at_once


# which board is in which wave


def fleet(count: int) -> list[Any]:
    return [node(number, group="canary" if number % 10 == 0 else "") for number in range(count)]


def test_boards_are_dealt_by_filter_count_percent_and_rest() -> None:
    waves = [
        {"name": "canary", "filter": "group=canary"}, {"name": "few", "count": 5},
        {"name": "some", "percent": 20}, {"name": "rest"},
    ]  # fmt: skip
    rollout = new("r1", spec(target="site=plant1", waves=waves), T0, "anna")
    placed = place(rollout, [*fleet(100), node(1, site="plant2")], {node_id(3): 8}, T0)
    assert [sum(one.wave == at for one in placed) for at in range(4)] == [10, 5, 20, 65]
    assert {one.floor for one in placed if one.id == node_id(3)} == {8}
    assert placed == place(rollout, list(reversed(fleet(100))), {node_id(3): 8}, T0)
    assert placed != place(new("r2", rollout.spec, T0, "anna"), fleet(100), {}, T0)


@pytest.mark.parametrize(("selection", "waves"), [("CONTINUOUS", {100: 0, 101: 1}), ("SNAPSHOT", {})])
def test_late_boards_obey_the_waves(selection: str, waves: dict[int, int]) -> None:
    play = Play(
        target="site=plant1", targetSelection=selection,
        waves=[{"name": "canary", "filter": "group=canary"}, {"name": "rest"}],
    )  # fmt: skip
    play.do(Enrolled(place(play.rollout, fleet(20), {}, T0)))
    assert len(play.told) == 2
    late = [node(100, group="canary"), node(101)]
    placed = place(play.rollout, [*fleet(20), *late], {}, T0)
    assert {one.id: one.wave for one in placed} == {node_id(number): wave for number, wave in waves.items()}
    play.do(Enrolled(placed))
    assert len(play.told) == 2 + bool(waves)


def test_a_last_wave_with_a_filter_takes_nobody_else() -> None:
    rollout = new("r1", spec(waves=[{"name": "canary", "filter": "group=canary"}]), T0, "anna")
    assert len(place(rollout, fleet(20), {}, T0)) == 2


@pytest.mark.parametrize(("changes", "problem"), [
    pytest.param({"target": "siet=a"}, "did you mean site", id="filter"),
    pytest.param({"gates": [{"metric": "shadowAgrement", "atLeast": 1}]}, "did you mean shadowAgreement", id="metric"),
    pytest.param({"gates": [{"metric": "ngRate"}]}, "atLeast, atMost", id="no bound"),
    pytest.param({"waves": [{"name": "a"}, {"name": "b"}]}, "all the rest", id="two rests"),
    pytest.param({"waves": [{"name": "a", "count": 1}, {"name": "a"}]}, "two waves", id="same name"),
    pytest.param({"waves": [{"name": "a", "percent": 60}, {"name": "b", "percent": 60}]}, "100", id="too much"),
    pytest.param({"waves": [{"name": "a", "percent": 60, "count": 3}]}, "one of", id="two selectors"),
    pytest.param({"wave": []}, "Extra inputs", id="misspelt"),
    pytest.param({"scheduling": {"startTime": at(5), "endTime": at(4)}}, "after", id="ends before it starts"),
])  # fmt: skip
def test_a_spec_that_makes_no_sense_is_refused(changes: dict[str, Any], problem: str) -> None:
    with pytest.raises(ValidationError, match=problem):
        spec(**changes)


def test_members_are_in_states_that_alerts_speak_of() -> None:
    play = Play(*boards(A, B), errorAction="PAUSE").says(A, Phase.REJECTED, generation=4)
    failed = [alert for alert in play.alerts if alert.kind is AlertKind.BOARD_FAILED]
    assert [(alert.node, alert.text) for alert in failed] == [(A, f"{A}: {MemberState.REJECTED}: REJECTED")]


def test_the_example_of_the_documents_is_a_rollout() -> None:
    text = Path("docs/rollouts.md").read_text().split("```yaml")[1].split("```")[0]
    example = RolloutSpec.model_validate(yaml.safe_load(text))
    assert [wave.name for wave in example.waves] == ["canary", "tenth", "rest"]
    assert RolloutSpec.model_validate_json(example.to_json()) == example
