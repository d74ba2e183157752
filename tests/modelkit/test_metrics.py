"""Pixels by their confusion and defects as instances, on cases worked out by hand."""

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from modelkit.confusion import Figures, Ledger, average_precision, confusion, dices, ious, matched, rates
from modelkit.evaluate import Tally, without_small

Map = npt.NDArray[np.uint8]
NAMES = ("background", "open", "short")


def filled(*parts: tuple[int, tuple[int, int, int, int]]) -> Map:
    out = np.zeros((20, 20), np.uint8)
    for value, (top, left, bottom, right) in parts:
        out[top:bottom, left:right] = value
    return out


TRUTH = filled((1, (2, 2, 6, 6)))
SURE = np.full((20, 20), 255, np.uint8)


def figures(*pairs: tuple[Map, Map], score: Map = SURE) -> Figures:
    ledger = Ledger(NAMES)
    for number, (predicted, truth) in enumerate(pairs):
        ledger.add(str(number), predicted, score, truth)
    return ledger.figures()


@pytest.mark.parametrize(
    ("predicted", "iou", "dice", "right", "made"),
    [
        pytest.param(TRUTH, 1.0, 1.0, 1, 1, id="the same"),
        pytest.param(filled((1, (2, 2, 6, 4))), 0.5, 2 / 3, 1, 1, id="half of it is just enough"),
        pytest.param(filled((1, (2, 2, 6, 3))), 0.25, 0.4, 0, 1, id="a quarter is too little"),
        pytest.param(filled(), 0.0, 0.0, 0, 0, id="nothing"),
        pytest.param(filled((2, (2, 2, 6, 6))), 0.0, 0.0, 0, 0, id="another class"),
        pytest.param(filled((1, (2, 2, 6, 6)), (1, (12, 2, 14, 4))), 0.8, 32 / 36, 1, 2, id="one right, one false"),
        pytest.param(filled((1, (2, 2, 6, 4)), (1, (2, 5, 6, 6))), 0.75, 24 / 28, 1, 2, id="in two: one is right"),
    ],
)
def test_a_class_is_scored_by_pixel_and_by_instance(
    predicted: Map, iou: float, dice: float, right: int, made: int
) -> None:
    found = figures((predicted, TRUTH)).classes["open"]
    assert found.iou == pytest.approx(iou)
    assert found.dice == pytest.approx(dice)
    assert (found.right, found.predicted, found.annotated) == (right, made, 1)
    assert found.recall == right
    assert found.precision == (right / made if made else None)


def test_the_confusion_is_by_true_and_predicted_class_and_adds_up() -> None:
    one = filled((1, (2, 2, 6, 4)), (2, (2, 4, 6, 6)))
    found = figures((one, TRUTH), (np.zeros_like(TRUTH), filled((2, (0, 0, 5, 4)))))
    assert found.confusion == ((384 + 380, 0, 0), (0, 8, 8), (20, 0, 0))
    assert found.images == 2
    assert found.miou == pytest.approx((764 / 784 + 8 / 16 + 0) / 3)


def test_a_class_that_is_nowhere_counts_for_nothing() -> None:
    found = figures((TRUTH, TRUTH))
    assert found.classes["short"].iou is None
    assert found.classes["short"].ap is None
    assert (found.miou, found.mean_dice, found.f1, found.mean_ap) == (1.0, 1.0, 1.0, 1.0)


def test_clean_pictures_alone_have_no_instances_to_score() -> None:
    nothing = np.zeros_like(TRUTH)
    found = figures((nothing, nothing))
    assert (found.miou, found.precision, found.recall, found.f1, found.mean_ap) == (1.0, None, None, None, None)


@pytest.mark.parametrize(
    ("ranked", "annotated", "area"),
    [
        pytest.param([(0.9, True), (0.8, True)], 2, 1.0, id="all right"),
        pytest.param([(0.9, True)], 2, 0.5, id="one missed"),
        pytest.param([(0.9, False), (0.8, True)], 1, 0.5, id="a false one ranked first"),
        pytest.param([(0.8, True), (0.9, False)], 1, 0.5, id="by confidence, not by order"),
        pytest.param([(0.9, True), (0.8, False), (0.7, True)], 2, (1 + 2 / 3) / 2, id="a false one between"),
        pytest.param([(0.9, False), (0.8, True), (0.7, True)], 2, 2 / 3, id="precision is the best from there on"),
        pytest.param([(0.9, False)], 1, 0.0, id="all false"),
        pytest.param([], 3, 0.0, id="nothing found"),
        pytest.param([(0.9, False)], 0, None, id="nothing to find"),
    ],
)
def test_average_precision_by_hand(ranked: list[tuple[float, bool]], annotated: int, area: float | None) -> None:
    assert average_precision(ranked, annotated) == (None if area is None else pytest.approx(area))


def test_the_surest_takes_the_annotated_one_and_the_second_is_false() -> None:
    predicted = filled((1, (2, 2, 6, 4)), (1, (2, 5, 6, 6)))
    score = np.full((20, 20), 100, np.uint8)
    score[:, 5] = 200
    ranked, annotated = matched(predicted == 1, score, TRUTH == 1, least_iou=0.2)
    assert [right for _, right in ranked] == [True, False]
    assert [confidence for confidence, _ in ranked] == pytest.approx([200 / 255, 100 / 255])
    assert annotated == 1


def test_pictures_are_listed_from_the_worst() -> None:
    found = figures((TRUTH, TRUTH), (np.zeros_like(TRUTH), TRUTH), (filled((1, (2, 2, 6, 5))), TRUTH))
    assert found.worst(2) == ["1", "2"]


@pytest.mark.parametrize(
    ("add", "says"),
    [
        pytest.param(("x", TRUTH, SURE, TRUTH[:10]), "class maps of", id="another shape"),
        pytest.param(("x", TRUTH + np.uint8(5), SURE, TRUTH), "class id above 2", id="an unknown class"),
        pytest.param(("0", TRUTH, SURE, TRUTH), "counted before", id="twice"),
    ],
)
def test_what_cannot_be_compared_is_refused(add: tuple[str, Map, Map, Map], says: str) -> None:
    ledger = Ledger(NAMES)
    ledger.add("0", TRUTH, SURE, TRUTH)
    with pytest.raises(ValueError, match=says):
        ledger.add(*add)


def test_nothing_measured_is_no_figure() -> None:
    with pytest.raises(ValueError, match="no picture"):
        Ledger(NAMES).figures()


maps = hnp.arrays(np.uint8, (9, 11), elements=st.integers(0, 2))


@settings(deadline=None, max_examples=40)
@given(maps, maps)
def test_dice_is_what_iou_makes_it_and_the_tally_agrees(predicted: Map, truth: Map) -> None:
    pixels = confusion(predicted, truth, 3)
    assert pixels.sum() == predicted.size
    for iou, dice in zip(ious(pixels), dices(pixels), strict=True):
        assert (iou is None) == (dice is None)
        if iou is not None and dice is not None:
            assert dice == pytest.approx(2 * iou / (1 + iou))
    tally = Tally(3)
    tally.add(predicted, truth)
    assert ious(pixels) == tally.iou()


@settings(deadline=None, max_examples=40)
@given(maps, maps)
def test_instances_never_exceed_what_there_is(predicted: Map, truth: Map) -> None:
    ledger = Ledger(NAMES)
    ledger.add("x", predicted, np.full_like(predicted, 90), truth)
    for name, each in ledger.figures().classes.items():
        assert each.right <= min(each.predicted, each.annotated), name
        assert each.ap is None or 0 <= each.ap <= 1


@settings(deadline=None, max_examples=40)
@given(maps)
def test_a_map_against_itself_is_perfect(truth: Map) -> None:
    ledger = Ledger(NAMES)
    ledger.add("x", truth, np.full_like(truth, 90), truth)
    found = ledger.figures()
    assert (found.miou, found.mean_dice) == (1.0, 1.0)
    assert found.f1 in (None, 1.0)


def test_rates_of_nothing_are_not_known() -> None:
    assert rates(0, 0, 0) == (None, None, None)
    assert rates(0, 0, 4) == (None, 0.0, 0.0)
    assert rates(2, 4, 2) == pytest.approx((0.5, 1.0, 2 / 3))


def test_small_regions_go_by_the_limit_of_their_class() -> None:
    both = filled((1, (0, 0, 2, 2)), (2, (10, 10, 12, 12)), (1, (5, 5, 9, 9)))
    assert np.array_equal(without_small(both, [0, 5, 4]), filled((2, (10, 10, 12, 12)), (1, (5, 5, 9, 9))))
