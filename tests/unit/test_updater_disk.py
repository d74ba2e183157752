"""The updater without a disk to write to, and with a disk that is not what it was."""

import pytest

from agent.core import update
from agent.core.update import ModelRef, Update
from agent.errors import AgentError, Permanent, Retryable
from agent.loops.orders import LaneReport, Restore
from schemas.codes import FailureCode
from schemas.recipe import Evaluation
from schemas.state import Phase
from tests.unit.update_board import FULL, INSTALLED, NEW, OLD, Board, MemoryJournal, committed, wish


def unusable(code: FailureCode = FailureCode.MODEL_MISSING) -> LaneReport:
    """A lane without a model cannot load the current one."""
    return LaneReport("core-0", code, "why")


@pytest.mark.parametrize("failure", [FULL, Permanent(FailureCode.INTERNAL, "read-only")])
def test_nothing_is_begun_that_the_journal_does_not_know(failure: AgentError) -> None:
    board = Board().start()
    board.journal.failure = failure
    board.updater.wanted(wish())
    for _ in range(5):
        board.updater.tick()
    assert board.phase() is Phase.COMMITTED
    assert board.shop.asked == []
    assert board.desk.alarms == {(failure.code, "journal")}
    board.journal.failure = None
    board.updater.tick()
    board.updater.tick()
    assert board.shop.asked == ["fetch"]
    assert board.desk.alarms == set()


def test_a_disk_that_stays_full_does_not_fill_the_memory() -> None:
    board = Board().start()
    board.to_probation()
    board.journal.failure = FULL
    for _ in range(500):
        board.ledger.recorded(NEW.manifest_sha256, Evaluation.OK, 5.0)
    assert board.phase() is Phase.PROBATION
    assert len(board.updater._unwritten) == 1
    board.journal.failure = None
    board.updater.tick()
    assert board.phase() is Phase.COMMITTED
    assert board.journal.state.measured["probationResults"] == 500


def test_wishes_that_waited_for_the_disk_are_taken_in_their_order() -> None:
    board = Board().start()
    board.journal.failure = FULL
    board.updater.wanted(wish(generation=1))
    board.updater.wanted(wish(generation=2, ref=OLD))
    assert not board.updater.cancel(1)
    assert board.updater.cancel(2)
    board.journal.failure = None
    board.updater.tick()
    assert board.updater.state.generation == 2
    assert board.phase() is Phase.CANCELED


def test_a_bad_model_goes_though_the_journal_cannot_be_written() -> None:
    board = Board().start()
    board.to_probation()
    board.journal.failure = FULL
    board.updater.lane_reported(LaneReport("core-0", FailureCode.NPU_HUNG, "why", manifest_sha256=NEW.manifest_sha256))
    assert board.phase() is Phase.ROLLED_BACK
    assert board.orders[-1] == Restore(board.updater.state.work, INSTALLED.manifest_sha256)
    assert update.load(board.journal.content or b"").phase is Phase.PROBATION
    board.journal.failure = None
    board.updater.tick()
    assert board.journal.state.phase is Phase.ROLLED_BACK


def test_a_boot_without_a_disk_goes_on_with_what_is_known() -> None:
    board = Board(committed())
    board.journal.failure = FULL
    board.start()
    assert board.updater.current == OLD
    assert board.desk.alarms == {(FailureCode.DISK_FULL, "journal")}


@pytest.mark.parametrize("content", [b"", b"{}", b'{"format": "rkfleet.update/2"}', b"\xff" * 100])
def test_with_a_journal_that_cannot_be_read_the_installed_model_inspects(content: bytes) -> None:
    board = Board(MemoryJournal(content)).start()
    assert board.updater.current == INSTALLED
    assert board.desk.events == [FailureCode.JOURNAL_CORRUPT]
    assert board.journal.state.current == INSTALLED


@pytest.mark.parametrize(
    ("journal", "has", "current", "events"),
    [
        pytest.param(committed(), {OLD}, OLD, [], id="current is there"),
        pytest.param(committed(NEW, OLD), {OLD}, NEW, [], id="last good is there: a lane will tell of current"),
        pytest.param(committed(NEW, OLD), set(), INSTALLED, [FailureCode.MODEL_MISSING], id="neither"),
        pytest.param(committed(unclean_starts=2), {OLD}, INSTALLED, [FailureCode.CRASH_LOOP], id="a crash loop"),
        pytest.param(committed(OLD, OLD, 9), {OLD}, OLD, [], id="nothing better to come back to"),
    ],
)
def test_what_a_boot_decides_without_broker_and_network(
    journal: MemoryJournal, has: set[ModelRef], current: ModelRef, events: list[FailureCode]
) -> None:
    board = Board(journal)
    board.has = has
    board.start(is_clean=False)
    assert board.updater.current == current
    assert board.desk.events == events
    assert board.journal.state.current == current


@pytest.mark.parametrize("phase", [Phase.QUEUED, Phase.DOWNLOADING, Phase.ROLLED_BACK])
def test_a_crash_loop_is_told_in_every_phase(phase: Phase) -> None:
    candidate = None if phase is Phase.ROLLED_BACK else NEW
    state = Update(OLD, INSTALLED, candidate, wish(), 1, phase, unclean_starts=2)
    board = Board(MemoryJournal(update.dump(state))).start(is_clean=False)
    assert board.updater.current == INSTALLED
    assert board.desk.events == [FailureCode.CRASH_LOOP]
    assert board.phase() is phase


def test_a_current_model_that_cannot_be_loaded_gives_way_to_the_last_good_one_then_to_the_installed_one() -> None:
    board = Board(committed(NEW, OLD)).start()
    board.updater.lane_reported(unusable())
    assert board.updater.current == OLD
    assert board.orders[-1] == Restore(board.updater.state.work, OLD.manifest_sha256)
    board.updater.lane_reported(unusable(FailureCode.MODEL_DIGEST_MISMATCH))
    assert board.updater.current == board.journal.state.current == INSTALLED
    assert board.orders[-1] == Restore(board.updater.state.work, INSTALLED.manifest_sha256)
    orders = len(board.orders)
    board.updater.lane_reported(unusable())
    assert board.updater.current == INSTALLED
    assert len(board.orders) == orders, "there is nothing else"


@pytest.mark.parametrize("code", [FailureCode.NPU_HUNG, FailureCode.NPU_OUT_OF_MEMORY, FailureCode.RUNTIME_MISSING])
def test_what_may_pass_is_no_reason_to_change_the_model(code: FailureCode) -> None:
    board = Board(committed(NEW, OLD)).start()
    board.updater.lane_reported(unusable(code))
    assert board.updater.current == NEW


def test_a_failure_to_fetch_for_want_of_disk_is_tried_again() -> None:
    board = Board().start()
    board.updater.wanted(wish())
    board.updater.tick()
    error = Retryable(FailureCode.DISK_FULL, "store", delay_s=60.0)
    work = board.updater.state.work
    board.updater.happened(update.Failed(work, {}, error.code, error.text, is_retryable=True, delay_s=error.delay_s))
    assert board.phase() is Phase.DOWNLOADING
    assert board.published[-1].last_error is not None
    assert board.published[-1].last_error.code is FailureCode.DISK_FULL
    board.tick_after(80.0)
    assert board.shop.asked.count("fetch") == 2
