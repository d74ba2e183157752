"""How many pictures go into one call, by what waits, what is free, and what has failed before."""

from collections.abc import Sequence
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.core.batch import Batcher, BatchSize, Room
from agent.errors import Permanent, Retryable
from schemas.codes import FailureCode

MB = 2**20


class Npu:
    """Takes up to `fits` pictures in a call and remembers how many it was given."""

    def __init__(self, fits: int) -> None:
        self.fits = fits
        self.calls: list[int] = []
        self.now_s = 0.0

    def segment_all(self, items: Sequence[int]) -> list[str]:
        self.calls.append(len(items))
        if len(items) > self.fits:
            raise Retryable(FailureCode.NPU_OUT_OF_MEMORY, "no memory")
        return [f"answer {item}" for item in items]

    def time_s(self) -> float:
        return self.now_s


def ask(batcher: Batcher, npu: Npu, count: int, room: Room | None = None) -> list[int]:
    """The sizes of the calls that so many pictures took."""
    npu.calls = []
    made = list(batcher.run(range(count), npu.segment_all, room or Room()))
    assert made == [(item, f"answer {item}") for item in range(count)]
    return npu.calls


@pytest.mark.parametrize(
    ("most", "waiting", "room", "calls"),
    [
        pytest.param(4, 3, Room(), [3], id="what waits fits"),
        pytest.param(4, 9, Room(), [4, 4, 1], id="more waits than a call takes"),
        pytest.param(1, 3, Room(), [1, 1, 1], id="a model of one"),
        pytest.param(4, 0, Room(), [], id="nothing waits"),
        pytest.param(8, 8, Room(100 * MB, 20 * MB), [4, 4], id="a fifth of the memory is kept free"),
        pytest.param(8, 8, Room(99 * MB, 20 * MB), [3, 3, 2], id="just too little for four"),
        pytest.param(8, 2, Room(1 * MB, 20 * MB), [1, 1], id="one is tried even without room"),
        pytest.param(8, 8, Room(None, 20 * MB), [8], id="nobody tells what is free"),
        pytest.param(8, 8, Room(1 * MB, None), [8], id="nobody tells what a picture takes"),
    ],
)
def test_the_size_follows_from_what_waits_and_what_is_free(
    most: int, waiting: int, room: Room, calls: list[int]
) -> None:
    npu = Npu(fits=most)
    assert ask(Batcher(most, npu.time_s), npu, waiting, room) == calls


def test_out_of_memory_halves_the_call_and_stays_so_for_a_while() -> None:
    npu = Npu(fits=2)
    batcher = Batcher(8, npu.time_s)
    assert ask(batcher, npu, 8) == [8, 4, 2, 2, 2, 2]
    assert ask(batcher, npu, 8) == [2, 2, 2, 2]


def test_a_larger_call_is_tried_again_later_and_failures_are_tried_ever_more_rarely() -> None:
    npu = Npu(fits=2)
    batcher = Batcher(4, npu.time_s)
    tried_s = []
    for second in range(2_000):
        npu.now_s = float(second)
        if 4 in ask(batcher, npu, 4):
            tried_s.append(second)
    gaps = [later - earlier for earlier, later in pairwise(tried_s)]
    assert gaps[0] == 30
    assert gaps == [30 * 2**number for number in range(len(gaps))]
    assert len(gaps) >= 5


def test_when_the_memory_is_back_the_size_is_back_step_by_step() -> None:
    npu = Npu(fits=1)
    batcher = Batcher(8, npu.time_s)
    ask(batcher, npu, 8)
    npu.fits = 8
    seen = []
    for second in range(3_000):
        npu.now_s = float(second)
        seen.append(max(ask(batcher, npu, 8)))
    assert sorted(set(seen)) == [1, 2, 4, 8]
    assert seen == sorted(seen)
    npu.fits = 4
    npu.now_s += 1
    ask(batcher, npu, 8)
    npu.fits = 8
    npu.now_s += 30
    assert ask(batcher, npu, 8) == [8], "a success makes the wait short again"


def test_a_single_picture_without_memory_is_an_error_of_the_call() -> None:
    npu = Npu(fits=0)
    with pytest.raises(Retryable) as caught:
        ask(Batcher(4, npu.time_s), npu, 4)
    assert caught.value.code is FailureCode.NPU_OUT_OF_MEMORY
    assert npu.calls == [4, 2, 1]


@pytest.mark.parametrize(
    "error",
    [Retryable(FailureCode.NPU_HUNG, "hung"), Permanent(FailureCode.SHAPE_MISMATCH, "shape")],
    ids=["hung", "another shape"],
)
def test_other_errors_are_not_tried_again_and_change_no_size(error: Permanent | Retryable) -> None:
    npu = Npu(fits=4)
    batcher = Batcher(4, npu.time_s)

    def fail(items: Sequence[int]) -> list[str]:
        raise error

    with pytest.raises(type(error)):
        list(batcher.run(range(4), fail, Room()))
    assert ask(batcher, npu, 4) == [4]


def test_no_call_is_made_before_the_answers_of_the_last_were_taken() -> None:
    npu = Npu(fits=2)
    answers = Batcher(2, npu.time_s).run(range(4), npu.segment_all, Room())
    taken = []
    for taken_so_far, (item, _) in enumerate(answers, 1):
        taken.append(item)
        assert len(npu.calls) == (taken_so_far + 1) // 2
    assert taken == [0, 1, 2, 3]


@given(
    most=st.integers(1, 64),
    steps=st.lists(
        st.tuples(st.integers(1, 64), st.integers(0, 40), st.floats(0, 4_000), st.integers(0, 500 * MB)), max_size=30
    ),
)
def test_every_picture_is_answered_once_and_no_call_is_too_large(
    most: int, steps: list[tuple[int, int, float, int]]
) -> None:
    npu = Npu(fits=most)
    batcher = Batcher(most, npu.time_s)
    for fits, waiting, passed_s, free_bytes in steps:
        npu.fits, npu.now_s = fits, npu.now_s + passed_s
        room = Room(free_bytes, 10 * MB)
        calls = ask(batcher, npu, waiting, room)
        assert all(1 <= size <= most for size in calls)
        assert all(size == 1 or size * 10 * MB <= free_bytes * 0.8 for size in calls)
        assert sum(size for size in calls if size <= fits) == waiting
        assert sum(size > fits for size in calls) <= most.bit_length()


@given(
    most=st.integers(1, 64),
    events=st.lists(st.tuples(st.booleans(), st.floats(0, 10_000, allow_nan=False)), max_size=50),
)
def test_the_limit_stays_within_one_and_what_the_model_takes(most: int, events: list[tuple[bool, float]]) -> None:
    size, now_s = BatchSize.of(most), 0.0
    for fails, passed_s in events:
        now_s += passed_s
        size = size.at(now_s)
        assert 1 <= size.limit <= most
        if fails and size.limit > 1:
            before = size.limit
            size = size.ran_out(before, now_s)
            assert size.limit == before // 2
            assert size.at(now_s) == size
        else:
            size = size.took(size.limit)
        assert size.wait_s <= 3_600
