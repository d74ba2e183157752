"""What each model has done lately."""

import threading

import numpy as np
import pytest

from agent.core.health import Seen
from agent.loops.ledger import RECENT, Ledger
from schemas.recipe import Evaluation

OK, BAD, VAGUE, FAULT = (
    Evaluation.OK, Evaluation.NOT_OK, Evaluation.NOT_DECIDABLE, Evaluation.UNDEFINED,
)  # fmt: skip


@pytest.mark.parametrize(
    ("entries", "seen"),
    [
        pytest.param([], Seen(0, 0, 0, 0, 0.0), id="nothing"),
        pytest.param([(OK, 4.0)], Seen(1, 0, 0, 0, 4.0), id="one"),
        pytest.param([(OK, 1.0), (BAD, 1.0), (VAGUE, 1.0)], Seen(3, 1, 1, 0, 1.0), id="one of each"),
        pytest.param([(OK, 2.0), (FAULT, 9_000.0)], Seen(1, 0, 0, 1, 2.0), id="a fault is no result and no time"),
        pytest.param([(FAULT, 1.0)], Seen(0, 0, 0, 1, 0.0), id="nothing but a fault"),
        pytest.param([(OK, float(n)) for n in range(101)], Seen(101, 0, 0, 0, 95.0), id="the 95th percentile"),
    ],
)
def test_what_was_seen_of_a_model(entries: list[tuple[Evaluation, float]], seen: Seen) -> None:
    ledger = Ledger(lambda: None)
    for evaluation, ms in entries:
        ledger.recorded("a", evaluation, ms)
    assert ledger.recent("a") == ledger.whole("a") == seen
    assert ledger.recent("b") == Seen(0, 0, 0, 0, 0.0)


def test_the_latest_stand_for_a_model_and_all_count_since_the_beginning() -> None:
    ledger = Ledger(lambda: None)
    for evaluation in (BAD, FAULT):
        for _ in range(RECENT):
            ledger.recorded("a", evaluation, 100.0)
    for _ in range(RECENT):
        ledger.recorded("a", OK, 1.0)
    assert ledger.recent("a") == Seen(RECENT, 0, 0, 0, 1.0)
    assert ledger.whole("a") == Seen(2 * RECENT, RECENT, 0, RECENT, 1.0)


def test_a_beginning_forgets_one_model_and_keeping_forgets_the_others() -> None:
    ledger = Ledger(lambda: None)
    for sha256 in ("a", "b", "c"):
        ledger.recorded(sha256, OK, 1.0)
    ledger.begin("a")
    ledger.keep(frozenset({"a", "b"}))
    assert [ledger.whole(sha256).results for sha256 in ("a", "b", "c")] == [0, 1, 0]


def test_only_who_watches_is_called() -> None:
    calls: list[int] = []
    ledger = Ledger(lambda: calls.append(ledger.whole("a").results))
    ledger.recorded("a", OK, 1.0)
    ledger.is_watched = True
    ledger.recorded("a", OK, 1.0)
    ledger.is_watched = False
    ledger.recorded("a", OK, 1.0)
    assert calls == [2], "the entry is there when the watcher looks"


def test_lanes_may_write_while_control_reads() -> None:
    ledger = Ledger(lambda: None)

    def write() -> None:
        for _ in range(2_000):
            ledger.recorded("a", OK, 1.0)

    threads = [threading.Thread(target=write) for _ in range(3)]
    for thread in threads:
        thread.start()
    while any(thread.is_alive() for thread in threads):
        assert ledger.recent("a").results <= RECENT
    assert ledger.whole("a").results == 6_000


@pytest.mark.parametrize("count", [1, 2, 3, 20, 21, 499])
def test_p95_is_numpys(count: int) -> None:
    times_ms = [float(n * 37 % 101) for n in range(count)]
    ledger = Ledger(lambda: None)
    for each in times_ms:
        ledger.recorded("a", Evaluation.OK, each)
    assert ledger.whole("a").p95_ms == pytest.approx(np.percentile(times_ms, 95))
