"""A core that is slow or broken is taken out and tried again; the last one that works never is."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.core.cores import Call, Cores, Kind, Rules
from schemas.telemetry import CoreState

RULES = Rules(faults=3, factor=3.0, least_ms=5.0, window=4, first_s=4.0, most_s=32.0)
SMALL: Kind = ("m1", (1, 224, 224))
LARGE: Kind = ("m1", (1, 448, 448))
OTHER_MODEL: Kind = ("m2", (1, 224, 224))


@dataclass
class Board:
    """Cores that all have a model."""

    names: Sequence[str] = ("a", "b", "c")
    at_s: float = 0.0
    random: float = 0.5
    cores: Cores = field(default_factory=lambda: Cores(RULES))

    def __post_init__(self) -> None:
        for name in self.names:
            self.cores.join(name)
            self.cores.has_model(name, is_ready=True)

    def fault(self, name: str) -> str | None:
        return self.cores.fault(name, "no output", self.at_s, self.random)

    def well(self, name: str, latency_ms: float = 20.0, kind: Kind = SMALL) -> str | None:
        return self.cores.well(name, [(kind, latency_ms)], self.at_s, self.random)

    def wells(self, latencies_ms: dict[str, float], frames: int = RULES.window, kind: Kind = SMALL) -> list[str | None]:
        return [self.well(name, ms, kind) for _ in range(frames) for name, ms in latencies_ms.items()]

    def tried(self, name: str, latency_ms: float = 20.0, kind: Kind = SMALL) -> str | None:
        calls: list[Call] = [(kind, latency_ms)] * 3
        return self.cores.tried(name, calls, self.at_s, self.random)

    def states(self) -> list[str]:
        return [self.cores.state(name).value for name in self.names]


def test_so_many_faults_in_a_row_take_a_core_out() -> None:
    board = Board()
    assert [board.fault("b") for _ in range(2)] == [None, None]
    assert board.states() == ["working", "failing", "working"]
    assert board.fault("b") == "3 faults in a row: no output"
    assert board.states() == ["working", "out", "working"]


def test_a_good_frame_between_faults_begins_the_row_anew() -> None:
    board = Board()
    for _ in range(5):
        assert [board.fault("b"), board.fault("b"), board.well("b")] == [None] * 3


@pytest.mark.parametrize("names", [("a",), ("a", "b")])
def test_the_last_core_that_works_stays(names: Sequence[str]) -> None:
    board = Board(names)
    for name in names[1:]:
        for _ in range(RULES.faults):
            board.fault(name)
    assert [board.fault("a") for _ in range(10)] == [None] * 10
    assert board.cores.state("a") is CoreState.FAILING


def test_a_core_without_a_model_or_with_a_fault_does_not_count_as_one_that_works() -> None:
    board = Board(("a", "b"))
    board.cores.has_model("b", is_ready=False)
    assert [board.fault("a") for _ in range(4)] == [None] * 4
    board.cores.has_model("b", is_ready=True)
    board.fault("b")
    assert board.fault("a") is None
    board.well("b")
    assert board.fault("a") is not None


@pytest.mark.parametrize(
    ("slow_ms", "others_ms", "is_out"),
    [
        pytest.param(61.0, 20.0, True, id="more than three times"),
        pytest.param(60.0, 20.0, False, id="three times"),
        pytest.param(5.9, 1.0, False, id="six times, but within 5 ms"),
        pytest.param(6.1, 1.0, True, id="over 5 ms as well"),
    ],
)
def test_a_core_that_is_much_slower_than_the_others_is_taken_out(
    slow_ms: float, others_ms: float, is_out: bool
) -> None:
    board = Board()
    told = board.wells({"a": others_ms, "c": others_ms, "b": slow_ms})
    assert (board.cores.state("b") is CoreState.OUT) is is_out
    whys = [why for why in told if why is not None]
    assert whys == ([f"an inference takes {slow_ms} ms, on the other cores {others_ms} ms"] if is_out else [])


def test_it_takes_a_whole_window_and_more_than_half_of_it() -> None:
    board = Board()
    board.wells({"a": 20.0, "c": 20.0})
    assert board.wells({"b": 100.0}, frames=RULES.window - 1) == [None] * (RULES.window - 1)
    assert board.well("b", 100.0) is not None
    other = Board()
    other.wells({"a": 20.0, "c": 20.0})
    assert [other.well("b", ms) for ms in (90.0, 20.0) * 4] == [None] * 8, "half of them is no median"


def test_calls_of_another_shape_or_model_are_not_compared() -> None:
    board = Board()
    board.wells({"a": 20.0, "c": 20.0})
    assert board.wells({"b": 100.0}, kind=LARGE) == [None] * RULES.window
    assert board.wells({"b": 100.0}, kind=OTHER_MODEL) == [None] * RULES.window
    board.wells({"a": 90.0, "c": 90.0}, kind=LARGE)
    assert board.well("b", 100.0, LARGE) is None


def test_where_all_are_slow_none_is_out() -> None:
    board = Board()
    assert not any(board.wells({"a": 500.0, "b": 500.0, "c": 500.0}))


def test_the_wait_for_a_trial_is_jittered_and_grows_to_its_most() -> None:
    board = Board(random=0.5)
    for _ in range(RULES.faults):
        board.fault("b")
    waits = []
    for _ in range(6):
        began_s = board.at_s
        while not board.cores.is_due("b", board.at_s):
            board.at_s += 0.5
        waits.append(board.at_s - began_s)
        assert board.fault("b") is None
    assert waits == [2.0, 4.0, 8.0, 16.0, 16.0, 16.0]
    board.random = 0.25
    board.fault("b")
    assert board.cores.is_due("b", board.at_s + 8.0)
    assert not board.cores.is_due("b", board.at_s + 7.9)


def test_a_trial_that_is_well_brings_it_back_and_one_that_is_slow_does_not() -> None:
    board = Board()
    board.wells({"a": 20.0, "c": 20.0, "b": 100.0})
    assert board.tried("b", 100.0) == "an inference takes 100.0 ms, on the other cores 20.0 ms"
    assert board.cores.state("b") is CoreState.OUT
    assert board.tried("b", 21.0) is None
    assert board.cores.state("b") is CoreState.WORKING


def test_one_that_is_back_goes_at_its_first_fault_until_it_has_proven_itself() -> None:
    board = Board()
    for _ in range(RULES.faults):
        board.fault("b")
    board.tried("b")
    board.well("b")
    assert board.fault("b") == "1 fault in a row: no output"
    assert not board.cores.is_due("b", board.at_s + 3.9), "and for longer"
    board.tried("b")
    board.wells({"b": 20.0})
    assert [board.fault("b"), board.fault("b")] == [None, None]
    board.fault("b")
    assert board.cores.is_due("b", board.at_s + 2.0), "the wait is short again"


def test_a_slow_one_is_better_than_none() -> None:
    board = Board(("a", "b"))
    board.wells({"a": 20.0, "b": 100.0})
    assert not board.cores.is_due("b", board.at_s)
    board.fault("a")
    assert board.cores.is_due("b", board.at_s)
    assert board.tried("b", 100.0) is None
    assert board.states() == ["failing", "working"]


def test_a_broken_one_waits_for_its_time_even_where_no_other_works() -> None:
    board = Board(("a", "b"))
    for _ in range(RULES.faults):
        board.fault("b")
    board.fault("a")
    assert not board.cores.is_due("b", board.at_s)


def test_what_is_known_of_old_models_is_forgotten() -> None:
    board = Board()
    for number in range(100):
        board.well("a", kind=(f"m{number}", (1, 224, 224)))
    assert len(board.cores._cores["a"].latencies_ms) == 8


names = st.sampled_from("abc")
events = st.lists(
    st.one_of(
        st.tuples(st.just("fault"), names, st.just(0.0)),
        st.tuples(st.just("well"), names, st.sampled_from([1.0, 20.0, 100.0, 1000.0])),
        st.tuples(st.just("tried"), names, st.sampled_from([20.0, 1000.0])),
        st.tuples(st.sampled_from(["loaded", "lost"]), names, st.just(0.0)),
    ),
    max_size=120,
)


@given(events)
def test_a_core_goes_out_only_where_another_works_and_one_is_always_in(played: list[tuple[str, str, float]]) -> None:
    board = Board()
    for event, name, latency_ms in played:
        before = dict(zip(board.names, board.states(), strict=True))
        board.at_s += 1.0
        match event:
            case "fault":
                why = board.fault(name)
            case "well":
                if before[name] == "out":
                    continue  # it gets no frames
                why = board.well(name, latency_ms)
            case "tried":
                if before[name] != "out":
                    continue
                why = None
                board.tried(name, latency_ms)
            case _:
                why = None
                board.cores.has_model(name, is_ready=event == "loaded")
        after = dict(zip(board.names, board.states(), strict=True))
        went_out = [one for one in board.names if before[one] != "out" and after[one] == "out"]
        assert went_out == ([name] if why is not None else [])
        if went_out:
            assert any(after[other] == "working" for other in board.names if other != name)
        assert any(state != "out" for state in after.values())
