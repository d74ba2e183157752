"""The updater: when it waits, what it asks for, and what ends an update."""

from datetime import timedelta
from itertools import pairwise

import pytest

from agent.core import update
from agent.loops.orders import Commit, FellBack, LaneReport, Restore, ShadowSaw
from schemas.codes import FailureCode
from schemas.recipe import Evaluation
from schemas.state import Defer, Phase, ShadowPlan
from tests.unit.update_board import INSTALLED, NEW, NOON, OLD, Board, committed, wish


def test_an_update_takes_its_steps_in_order() -> None:
    board = Board().start()
    board.to_probation()
    for _ in range(30):
        board.ledger.recorded(NEW.manifest_sha256, Evaluation.OK, 5.0)
    assert board.phase() is Phase.COMMITTED
    assert board.shop.asked == ["fetch", "verify", "load", "self_test", "flip", "clean_up"]
    assert isinstance(board.orders[-1], Commit)
    assert board.journal.state.current == NEW
    assert [each.phase.value for each in board.published[-1].phases] == [
        "QUEUED", "DOWNLOADING", "VERIFYING", "LOADING", "SELF_TEST", "PROBATION", "COMMITTED",
    ]  # fmt: skip


@pytest.mark.parametrize(("chance", "before_s", "after_s"), [(0.0, 3.7, 3.8), (0.5, 4.9, 5.1), (0.999, 6.2, 6.3)])
def test_a_pause_is_spread_so_that_boards_do_not_come_back_at_once(
    chance: float, before_s: float, after_s: float
) -> None:
    board = Board(chance=chance).start()
    board.updater.wanted(wish())
    board.updater.tick()
    board.fail(retryable=True)
    board.tick_after(before_s)
    assert board.shop.asked.count("fetch") == 1
    board.tick_after(after_s - before_s)
    assert board.shop.asked.count("fetch") == 2


def test_a_pause_is_as_long_as_the_failure_asks_for_whatever_the_wall_clock_does() -> None:
    board = Board().start()
    board.updater.wanted(wish())
    board.updater.tick()
    board.fail(retryable=True, delay_s=60.0)
    board.now += timedelta(days=400)
    board.tick_after(59.0)
    board.now -= timedelta(days=4_000)
    board.updater.tick()
    assert board.shop.asked.count("fetch") == 1
    board.tick_after(2.0)
    assert board.shop.asked.count("fetch") == 2


def test_a_window_is_of_the_wall_clock_and_survives_its_jumps() -> None:
    board = Board().start()
    defer = Defer(until="window", window_start="22:00", window_end="02:00")
    board.updater.wanted(wish(defer=defer))
    for hours in (0, 9.9, -400 * 24, 14.1):
        board.now = NOON + timedelta(hours=hours)
        board.updater.tick()
        assert board.phase() is Phase.QUEUED, hours
    board.now = NOON + timedelta(days=-3_000, hours=10)
    board.updater.tick()
    assert board.phase() is Phase.DOWNLOADING


def test_a_lot_that_is_open_holds_the_update() -> None:
    board = Board().start()
    board.lot = True
    board.updater.wanted(wish(defer=Defer(until="lotEnd")))
    board.tick_after(1e6)
    assert board.phase() is Phase.QUEUED
    board.lot = False
    board.updater.tick()
    assert board.phase() is Phase.DOWNLOADING


def test_the_flip_waits_for_results_of_the_old_model() -> None:
    board = Board().start()
    board.to_probation(old_results=29)
    board.updater.tick()
    assert "flip" not in board.shop.asked
    board.ledger.recorded(INSTALLED.manifest_sha256, Evaluation.OK, 5.0)
    assert "flip" in board.shop.asked


def test_the_flip_does_not_wait_for_ever() -> None:
    board = Board().start()
    board.to_probation(old_results=3)
    board.tick_after(59.0)
    assert "flip" not in board.shop.asked
    board.tick_after(2.0)
    board.updater.tick()
    assert board.shop.asked.count("flip") == 1


def test_a_fault_of_the_old_model_before_the_flip_is_not_the_new_ones() -> None:
    board = Board().start()
    board.to_probation(old_results=3)
    fault = LaneReport("core-0", FailureCode.NPU_FAULT, "why", manifest_sha256=INSTALLED.manifest_sha256)
    board.updater.lane_reported(fault)
    assert board.phase() is Phase.PROBATION
    board.updater.lane_reported(LaneReport("core-0", FailureCode.NPU_FAULT, "why", manifest_sha256=NEW.manifest_sha256))
    assert board.phase() is Phase.ROLLED_BACK


@pytest.mark.parametrize("sha256", [NEW.manifest_sha256, OLD.manifest_sha256])
def test_a_lane_that_fell_back_ends_the_probation_of_the_model_that_failed(sha256: str) -> None:
    board = Board().start()
    board.to_probation()
    board.updater.fell_back(FellBack("core-0", sha256, FailureCode.NPU_CRASHED, "signal 11"))
    assert board.phase() is (Phase.ROLLED_BACK if sha256 == NEW.manifest_sha256 else Phase.PROBATION)
    if sha256 == NEW.manifest_sha256:
        work = board.updater.state.work
        assert board.orders == [Commit(INSTALLED.manifest_sha256), Restore(work, INSTALLED.manifest_sha256)]
        assert board.published[-1].last_error is not None
        assert "signal 11" in board.published[-1].last_error.text


@pytest.mark.parametrize("ends", ["crash", "fault", "disagreement"])
def test_what_goes_wrong_in_the_shadow_ends_the_update(ends: str) -> None:
    board = Board().start()
    board.updater.wanted(wish().model_copy(update={"shadow": ShadowPlan(frames=10, least_agreement=0.9)}))
    board.updater.tick()
    board.do(update.Fetched, update.Verified, update.Loaded, update.SelfTested)
    assert board.phase() is Phase.SHADOW
    board.updater.shadow_saw(ShadowSaw(OLD.manifest_sha256, None, is_same_verdict=False, old_ms=1, new_ms=1))
    assert board.phase() is Phase.SHADOW, "what another model did"
    if ends == "crash":
        board.updater.lane_crashed("KeyError")
    else:
        agreement = None if ends == "fault" else 0.1
        for _ in range(3):
            board.updater.shadow_saw(
                ShadowSaw(NEW.manifest_sha256, agreement, is_same_verdict=True, old_ms=1, new_ms=1)
            )
    assert board.phase() is Phase.REJECTED
    assert isinstance(board.orders[-1], Restore)


def test_a_wish_that_is_stale_is_told_and_changes_nothing() -> None:
    board = Board().start()
    board.updater.wanted(wish(generation=5))
    before = board.updater.state
    board.updater.wanted(wish(generation=4))
    board.updater.wanted(wish(generation=5, ref=OLD))
    board.updater.wanted(wish(generation=5))
    assert board.updater.state is before
    assert board.desk.events == [FailureCode.STALE_GENERATION] * 2


def test_only_what_is_under_way_can_be_canceled() -> None:
    board = Board().start()
    board.updater.wanted(wish(generation=5))
    assert not board.updater.cancel(4)
    assert board.updater.cancel(5)
    assert not board.updater.cancel(5)
    assert board.phase() is Phase.CANCELED


def test_progress_is_told_in_steps() -> None:
    board = Board().start()
    board.updater.wanted(wish())
    board.updater.tick()
    told = len(board.published)
    for percent in range(101):
        board.shop.progress = percent / 100
        board.updater.tick()
    steps = [each.progress or 0.0 for each in board.published[told:]]
    assert all(later - earlier >= 0.05 for earlier, later in pairwise([0.0, *steps]))
    assert len(steps) >= 15


def test_a_model_settles_when_it_has_worked_long_enough_without_a_fault() -> None:
    board = Board().start()
    board.to_probation()
    for _ in range(30):
        board.ledger.recorded(NEW.manifest_sha256, Evaluation.OK, 5.0)
    board.tick_after(599.0)
    board.updater.lane_reported(LaneReport("core-0", FailureCode.NPU_HUNG, "why", manifest_sha256=NEW.manifest_sha256))
    board.tick_after(599.0)
    assert board.updater.state.last_good == INSTALLED
    board.tick_after(2.0)
    assert board.updater.state.last_good == board.journal.state.last_good == NEW


def test_a_model_without_results_does_not_settle() -> None:
    board = Board(committed()).start()
    board.tick_after(10_000.0)
    assert board.updater.state.last_good == INSTALLED
