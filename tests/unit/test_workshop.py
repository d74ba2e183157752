"""The steps of an update: what each ends in, and that nothing is left of one that is given up midway."""

import threading
from collections.abc import Iterator

import pytest

from agent.core.update import Crowded, Failed, Fetched, Loaded, SelfTested, Verified
from agent.errors import AgentError, Permanent, Retryable
from agent.loops import inspect, workshop
from agent.loops.orders import Flip, Release, Replan, StartShadow
from schemas.codes import FailureCode
from tests.unit.workshop_bench import NEW, PATIENCE_S, WISH, Bench, Bug


@pytest.fixture
def bench() -> Iterator[Bench]:
    made = Bench()
    try:
        yield made
    finally:
        made.close()


def begin(bench: Bench, step: str, work: int = 1) -> None:
    match step:
        case "fetch":
            bench.shop.fetch(work, WISH, ())
        case "verify":
            bench.shop.verify(work, NEW)
        case "load":
            bench.shop.load(work, NEW, alone=False)
        case _:
            bench.shop.self_test(work)


def test_each_step_ends_in_its_event(bench: Bench) -> None:
    bench.shop.fetch(1, WISH, ())
    assert bench.outcome() == Fetched(1)
    bench.shop.verify(2, NEW)
    assert bench.outcome() == Verified(2)
    bench.shop.load(3, NEW, alone=False)
    assert bench.outcome() == Loaded(3)
    bench.shop.self_test(4)
    assert bench.outcome() == SelfTested(4, {"selfTestAgreement": 1.0, "selfTestFrames": 2.0})
    assert [segmenter.calls for segmenter in bench.world.segmenters] == [2, 2], "the golden frames on each core"
    bench.shop.flip(5)
    bench.settle()
    for number, orders in enumerate(bench.orders.values()):
        assert isinstance(orders[0], Flip)
        assert orders[0].loaded is not None
        assert orders[0].loaded.segmenter is bench.world.segmenters[number]
    bench.shop.abandon()
    bench.settle()
    assert [segmenter.ended for segmenter in bench.world.segmenters] == [0, 0], "lanes own them now"


@pytest.mark.parametrize(
    ("out", "loads"),
    [
        pytest.param({"core-1"}, ["core-0"], id="one of two"),
        pytest.param({"core-0", "core-1"}, ["core-0", "core-1"], id="both: there is nothing to lose"),
    ],
)
def test_a_core_that_is_out_has_no_say_in_an_update(bench: Bench, out: set[str], loads: list[str]) -> None:
    bench.out = out
    bench.world.meets = {f"load {lane}": Retryable(FailureCode.NPU_FAULT, "dead") for lane in out if lane not in loads}
    bench.loaded()
    assert len(bench.world.segmenters) == len(loads)
    bench.shop.flip(3)
    bench.settle()
    flips = {lane: orders[-1] for lane, orders in bench.orders.items()}
    assert [lane for lane, flip in flips.items() if isinstance(flip, Flip) and flip.loaded is not None] == loads


def test_from_the_shadow_the_lanes_flip_to_what_they_have(bench: Bench) -> None:
    bench.loaded()
    bench.shop.start_shadow(2)
    bench.shop.flip(3)
    bench.settle()
    for orders in bench.orders.values():
        assert isinstance(orders[0], StartShadow)
        assert orders[1] == Flip(3, None)


@pytest.mark.parametrize(
    ("step", "waits_at"), [("fetch", "fetch"), ("verify", "open"), ("load", "load core-1"), ("self_test", "golden")]
)
def test_what_is_abandoned_tells_nothing_and_leaves_no_model(bench: Bench, step: str, waits_at: str) -> None:
    if step == "self_test":
        bench.loaded()
    bench.world.meets[waits_at] = threading.Event()
    begin(bench, step)
    bench.world.await_step(waits_at)
    bench.shop.abandon()
    met = bench.world.meets.pop(waits_at)
    assert isinstance(met, threading.Event)
    met.set()
    bench.settle()
    assert bench.events == []
    assert all(segmenter.ended == 1 for segmenter in bench.world.segmenters)
    assert bench.shop.progress is None
    begin(bench, "verify", work=7)
    assert bench.outcome() == Verified(7), "the next update is not held up"


@pytest.mark.parametrize(
    ("step", "at", "error", "retryable"),
    [
        ("fetch", "authorise", Permanent(FailureCode.MODEL_INVALID, "why"), False),
        ("fetch", "make_room", Retryable(FailureCode.DISK_FULL, "why", delay_s=60), True),
        ("fetch", "fetch", Retryable(FailureCode.DOWNLOAD_FAILED, "why", delay_s=5), True),
        ("verify", "open", Permanent(FailureCode.MODEL_TOO_NEW, "why"), False),
        ("verify", "open", Permanent(FailureCode.MODEL_DIGEST_MISMATCH, "decayed"), True),
        ("verify", "open", Permanent(FailureCode.MODEL_MISSING, "gone"), True),
        ("verify", "examine", Permanent(FailureCode.MODEL_WRONG_TARGET, "why"), False),
        ("load", "open", Permanent(FailureCode.MODEL_DIGEST_MISMATCH, "decayed"), True),
        ("load", "load core-1", Permanent(FailureCode.MODEL_INVALID, "why"), False),
        ("load", "load core-1", Retryable(FailureCode.NPU_CRASHED, "why"), False),
        ("load", "load core-1", Retryable(FailureCode.NPU_HUNG, "why"), False),
        ("self_test", "golden", Permanent(FailureCode.MODEL_INVALID, "a bomb"), False),
    ],
)
def test_what_fails_is_told_with_its_code(bench: Bench, step: str, at: str, error: AgentError, retryable: bool) -> None:
    if step == "self_test":
        bench.loaded()
    bench.world.meets[at] = error
    begin(bench, step)
    outcome = bench.outcome()
    assert isinstance(outcome, Failed)
    assert (outcome.work, outcome.code, outcome.text) == (1, error.code, error.text)
    assert outcome.is_retryable is retryable
    assert outcome.delay_s == (error.delay_s if isinstance(error, Retryable) else outcome.delay_s)
    if step == "load":
        assert all(segmenter.ended == 1 for segmenter in bench.world.segmenters)


@pytest.mark.parametrize("step", ["fetch", "verify", "load", "self_test"])
def test_a_step_that_crashes_has_failed_and_the_workshop_goes_on(bench: Bench, step: str) -> None:
    if step == "self_test":
        bench.loaded()
    at = {"fetch": "authorise", "verify": "open", "load": "load core-1", "self_test": "golden"}[step]
    bench.world.meets[at] = Bug()
    begin(bench, step, work=3)
    outcome = bench.outcome()
    assert isinstance(outcome, Failed)
    assert (outcome.work, outcome.code, outcome.is_retryable) == (3, FailureCode.INTERNAL, False)
    del bench.world.meets[at]
    bench.shop.abandon()
    bench.settle()
    assert all(segmenter.ended == 1 for segmenter in bench.world.segmenters)


def test_golden_frames_that_disagree_on_one_core_are_enough(bench: Bench) -> None:
    bench.loaded()
    bench.world.golden_value = 1
    bench.shop.self_test(2)
    outcome = bench.outcome()
    assert isinstance(outcome, Failed)
    assert outcome.code is FailureCode.SELF_TEST_FAILED
    assert outcome.measured["selfTestAgreement"] == 0.0


def test_a_core_that_faults_on_a_golden_frame_is_blamed_on_the_model(bench: Bench) -> None:
    bench.world.faults = [None, Retryable(FailureCode.NPU_TIMEOUT, "why")]
    bench.loaded()
    bench.shop.self_test(2)
    outcome = bench.outcome()
    assert isinstance(outcome, Failed)
    assert (outcome.code, outcome.is_retryable) == (FailureCode.NPU_TIMEOUT, False)


@pytest.mark.parametrize("why", ["announced", "met"])
def test_without_memory_for_two_the_new_model_is_loaded_alone(bench: Bench, why: str) -> None:
    if why == "announced":
        bench.world.is_roomy = False
    else:
        bench.world.meets["load core-1"] = Retryable(FailureCode.NPU_OUT_OF_MEMORY, "why")
    bench.shop.load(1, NEW, alone=False)
    assert bench.outcome() == Crowded(1)
    assert all(segmenter.ended == 1 for segmenter in bench.world.segmenters)
    bench.world.meets.clear()
    bench.shop.load(2, NEW, alone=True)
    assert bench.outcome() == Loaded(2)
    for orders in bench.orders.values():
        assert [type(order) for order in orders] == [Release]


def test_new_recipes_reach_lanes_though_the_candidate_does_not_fit_them(bench: Bench) -> None:
    def plans(_loaded: inspect.Loaded) -> inspect.Plans:
        raise Permanent(FailureCode.CONFIG_INVALID, "no such class")

    bench.loaded()
    order = Replan(plans)
    bench.shop.replan(order)
    bench.shop.flip(2)
    bench.settle()
    for orders in bench.orders.values():
        assert [type(each) for each in orders] == [Replan, Flip]


def test_a_workshop_without_work_ends_at_once(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workshop, "_LOOK_AT_STOP_S", 10 * PATIENCE_S)
    bench.shop.verify(1, NEW)
    assert bench.outcome() == Verified(1)
    bench.close()


def test_progress_is_that_of_all_files(bench: Bench) -> None:
    bench.world.meets["fetch"] = threading.Event()
    bench.shop.fetch(1, WISH, ())
    bench.world.await_step("fetch")
    assert bench.shop.progress == pytest.approx(15 / 40)


def test_what_is_cleaned_up_is_not_what_is_kept_and_its_failure_is_nobodys(bench: Bench) -> None:
    bench.world.meets["prune"] = Retryable(FailureCode.INTERNAL, "why")
    bench.shop.clean_up({"a"})
    bench.settle()
    assert bench.world.pruned[0] == {"a"}
    assert bench.events == []
