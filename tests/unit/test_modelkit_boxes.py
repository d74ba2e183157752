"""Boxes as DeepPCB's annotators draw them, and its evaluation, on cases worked out by hand."""

from pathlib import Path

import numpy as np
import pytest

from modelkit.boxes import Drawing
from modelkit.data.deeppcb import Box
from modelkit.deeppcb_eval import BoxScore, Prediction, evaluate, iou, write_predictions
from modelkit.measure import Reading, Thresholds, predictions

A, B = Box(0, 0, 30, 30, 1), Box(100, 100, 130, 130, 2)
OTHER_CLASS = Box(0, 0, 30, 30, 4)
NEAR = Box(10, 0, 40, 30, 1)
FAR = Box(200, 200, 230, 230, 1)


def sure(box: Box, confidence: float = 0.9) -> Prediction:
    return Prediction(box, confidence)


def scored(found: list[Prediction]) -> BoxScore:
    return evaluate({"p": [A, B]}, {"p": found})


@pytest.mark.parametrize(
    ("a", "b", "value"),
    [
        pytest.param(A, A, 1.0, id="the same"),
        pytest.param(A, NEAR, 0.5, id="two thirds shared"),
        pytest.param(A, FAR, 0.0, id="apart"),
        pytest.param(A, Box(30, 0, 60, 30, 1), 0.0, id="touching"),
    ],
)
def test_overlap(a: Box, b: Box, value: float) -> None:
    assert iou(a, b) == pytest.approx(value)
    assert iou(b, a) == pytest.approx(value)


@pytest.mark.parametrize(
    ("found", "precision", "recall", "mean_ap"),
    [
        pytest.param([sure(A), sure(B)], 1.0, 1.0, 1.0, id="all right"),
        pytest.param([sure(NEAR), sure(B)], 1.0, 1.0, 1.0, id="half overlap is enough"),
        pytest.param([sure(A)], 1.0, 0.5, 0.5, id="one missed"),
        pytest.param([sure(A), sure(B), sure(FAR, 0.1)], 2 / 3, 1.0, 1.0, id="a false one, ranked last"),
        pytest.param([sure(FAR, 1.0), sure(A), sure(B, 0.8)], 2 / 3, 1.0, (1 / 2 + 2 / 3) / 2, id="ranked first"),
        pytest.param([sure(OTHER_CLASS), sure(B, 0.8)], 0.5, 0.5, 0.25, id="another class"),
        pytest.param([sure(OTHER_CLASS), sure(A, 0.8)], 0.0, 0.0, 0.0, id="the first to overlap takes the box"),
        pytest.param([sure(A), sure(A, 0.8)], 0.5, 0.5, 0.5, id="a second box on one defect is false"),
        pytest.param([], 0.0, 0.0, 0.0, id="nothing"),
    ],
)
def test_scores_by_hand(found: list[Prediction], precision: float, recall: float, mean_ap: float) -> None:
    score = scored(found)
    assert score.precision == pytest.approx(precision)
    assert score.recall == pytest.approx(recall)
    assert score.mean_ap == pytest.approx(mean_ap)
    both = precision + recall
    assert score.f1 == pytest.approx(2 * precision * recall / both if both else 0.0)


def test_a_third_of_overlap_is_too_little() -> None:
    truth = Box(0, 0, 100, 33, 1)
    assert evaluate({"p": [truth]}, {"p": [sure(Box(0, 0, 100, 100, 1))]}).f1 == 0.0
    assert evaluate({"p": [truth]}, {"p": [sure(Box(0, 0, 100, 99, 1))]}).f1 == 1.0


def test_pictures_are_ranked_together_and_counted_by_class() -> None:
    score = evaluate({"p": [A], "q": [B], "r": []}, {"p": [sure(A, 0.5)], "r": [sure(B, 0.7)]})
    assert score.mean_ap == pytest.approx((1 / 2) / 2)
    assert score.by_class["open"] == (1, 1, 1)
    assert score.by_class["short"] == (0, 1, 1)


def test_unknown_pictures_and_an_empty_truth_are_refused() -> None:
    with pytest.raises(ValueError, match="unknown pictures: q"):
        evaluate({"p": [A]}, {"q": [sure(A)]})
    with pytest.raises(ValueError, match="nothing is annotated"):
        evaluate({"p": []}, {})


def test_predictions_are_written_in_the_published_format(tmp_path: Path) -> None:
    write_predictions(tmp_path / "out", {"p": [sure(A, 0.25), sure(Box(1, 2, 3, 4, 5), 0.75)], "q": []})
    assert (tmp_path / "out" / "p.txt").read_text() == "1,2,3,4,0.750000,copper\n0,0,30,30,0.250000,open\n"
    assert (tmp_path / "out" / "q.txt").read_text() == ""


def reading(*parts: tuple[int, int, int, int, int, int]) -> Reading:
    """Each part is x1, y1, x2, y2, class, score in 1/255."""
    winner, score = np.zeros((200, 200), np.uint8), np.zeros((200, 200), np.uint8)
    for x1, y1, x2, y2, kind, value in parts:
        winner[y1:y2, x1:x2], score[y1:y2, x1:x2] = kind, value
    return Reading(winner, score)


@pytest.mark.parametrize(
    ("parts", "boxes"),
    [
        pytest.param([(50, 60, 70, 80, 3, 255)], [Box(41, 51, 79, 89, 3)], id="grown on each side"),
        pytest.param([(2, 190, 20, 199, 3, 255)], [Box(0, 181, 29, 200, 3)], id="at most to the edge"),
        pytest.param(
            [(50, 60, 60, 70, 3, 255), (75, 60, 85, 70, 3, 255)], [Box(41, 51, 94, 79, 3)], id="two parts of one defect"
        ),
        pytest.param(
            [(50, 60, 60, 70, 3, 255), (85, 60, 95, 70, 3, 255)],
            [Box(41, 51, 69, 79, 3), Box(76, 51, 104, 79, 3)],
            id="two defects",
        ),
        pytest.param(
            [(50, 60, 60, 70, 3, 255), (68, 60, 78, 70, 4, 200)],
            [Box(41, 51, 69, 79, 3), Box(59, 51, 87, 79, 4)],
            id="near, but of two classes",
        ),
        pytest.param(
            [(50, 60, 60, 70, 3, 255), (60, 60, 64, 70, 4, 200)], [Box(41, 51, 73, 79, 3)], id="torn between classes"
        ),
        pytest.param([(50, 60, 70, 80, 3, 90)], [], id="too faint"),
        pytest.param([(50, 60, 52, 62, 3, 255)], [], id="too small"),
    ],
)
def test_regions_become_boxes(parts: list[tuple[int, int, int, int, int, int]], boxes: list[Box]) -> None:
    found = predictions(reading(*parts), Thresholds(least_score=0.5, least_area_px=6))
    assert sorted((p.box for p in found), key=lambda b: b.x1) == boxes


def test_confidence_is_the_share_of_the_class_over_all_parts() -> None:
    (found,) = predictions(reading((50, 60, 60, 70, 3, 255), (60, 60, 64, 70, 4, 255)), Thresholds())
    assert found.confidence == pytest.approx(100 / 140)


def test_the_surest_is_listed_first() -> None:
    found = predictions(reading((20, 20, 30, 30, 3, 200), (120, 120, 130, 130, 3, 255)), Thresholds())
    assert [p.box.x1 for p in found] == [120 - Drawing().grow_px, 20 - Drawing().grow_px]
