"""Several pictures in one call to a child: they are answered together or fail together."""

import time
from collections.abc import Iterator
from dataclasses import replace

import pytest

from agent.adapters.segmenter_process import ProcessSegmenter
from agent.core.frame import Pixels
from agent.errors import AgentError, Permanent, Retryable
from schemas.codes import FailureCode
from tests.contract.faulty_child import PATIENCE_S, assert_right
from tests.contract.faulty_segmenters import SPEC, Fault, FaultyFactory, picture

BATCH = 3
DEADLINE_S = 2.0
WIDE = replace(SPEC, batch=BATCH)


@pytest.fixture(scope="module")
def child(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ProcessSegmenter]:
    factory = FaultyFactory(str(tmp_path_factory.mktemp("faulty")), WIDE)
    made = ProcessSegmenter(factory, WIDE, deadline_s=DEADLINE_S, load_deadline_s=PATIENCE_S, core="core 1")
    yield made
    made.close()


def pictures(count: int, seed: int, faults: dict[int, Fault] | None = None) -> list[list[Pixels]]:
    faults = faults or {}
    return [[picture(10 * seed + item, faults.get(item, Fault.NONE))] for item in range(count)]


def assert_answers(child: ProcessSegmenter, items: list[list[Pixels]]) -> None:
    made = child.segment_all(items)
    assert len(made) == len(items)
    for each, (pixels,) in zip(made, items, strict=True):
        assert_right(each, pixels)
    assert sum(each.inference_ms for each in made) == pytest.approx(made[0].inference_ms * len(made))


def test_one_child_answers_calls_of_every_size(child: ProcessSegmenter) -> None:
    pid = child.pid
    for seed, count in enumerate((3, 1, 2, 3)):
        assert_answers(child, pictures(count, seed))
    assert child.pid == pid


@pytest.mark.parametrize("place", range(BATCH))
@pytest.mark.parametrize(
    ("fault", "kind", "code"),
    [
        pytest.param(Fault.SEGFAULT, Retryable, FailureCode.NPU_CRASHED, id="segfault"),
        pytest.param(Fault.RETRYABLE, Retryable, FailureCode.NPU_TIMEOUT, id="an error of ours"),
        pytest.param(Fault.PERMANENT, Permanent, FailureCode.MODEL_TOO_NEW, id="a permanent one"),
    ],
)
def test_a_fault_with_one_picture_fails_the_call_and_the_next_is_answered(
    fault: Fault, kind: type[AgentError], code: FailureCode, place: int, child: ProcessSegmenter
) -> None:
    with pytest.raises(kind) as caught:
        child.segment_all(pictures(BATCH, 5, {place: fault}))
    assert caught.value.code is code
    assert_answers(child, pictures(BATCH, 6))


def test_the_deadline_is_one_for_the_whole_call(child: ProcessSegmenter) -> None:
    assert_answers(child, pictures(1, 7))
    started_s = time.monotonic()
    with pytest.raises(Retryable) as caught:
        child.segment_all(pictures(BATCH, 8, {2: Fault.HANG_WITH_GIL}))
    assert DEADLINE_S <= time.monotonic() - started_s < DEADLINE_S + 10
    assert caught.value.code is FailureCode.NPU_HUNG
    assert_answers(child, pictures(BATCH, 9))


def test_a_segmenter_that_answers_too_few_pictures_is_not_believed(child: ProcessSegmenter) -> None:
    with pytest.raises(Retryable) as caught:
        child.segment_all(pictures(BATCH, 10, {0: Fault.ANSWER_ALL_BUT_ONE}))
    assert caught.value.code is FailureCode.NPU_CRASHED
    assert "answered 2 of 3 pictures" in caught.value.text
    assert_answers(child, pictures(2, 11))


def test_maps_of_a_call_stay_as_they_were_when_the_child_is_lost(child: ProcessSegmenter) -> None:
    items = pictures(BATCH, 12)
    made = child.segment_all(items)
    with pytest.raises(Retryable):
        child.segment_all(pictures(BATCH, 13, {1: Fault.EXIT_3}))
    for each, (pixels,) in zip(made, items, strict=True):
        assert_right(each, pixels)


@pytest.mark.parametrize("count", [0, BATCH + 1])
def test_too_many_pictures_and_none_are_refused(count: int, child: ProcessSegmenter) -> None:
    with pytest.raises(Permanent) as caught:
        child.segment_all([[picture(1)]] * count)
    assert caught.value.code is FailureCode.SHAPE_MISMATCH
    assert "core 1" in caught.value.text
