"""Which input shape a picture gets: hysteresis, the pictures in a row that it takes, and manifests that cannot be."""

import json
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from agent.core.fetch_plan import parse_manifest
from agent.core.vision import Choice, ShapeRule
from agent.errors import Permanent
from schemas.codes import FailureCode
from schemas.manifest import Adaptive, Manifest, ModelInput
from tests.unit.a_bundle import a_bundle

SMALL, MIDDLE, LARGE = (224, 224), (320, 320), (448, 448)
TWO = ShapeRule((SMALL, LARGE), (0.3,), 0.05, 3, 1)
CALM, BUSY = 0.1, 0.6


def _manifest(*shapes: tuple[int, int], adaptive: dict[str, Any] | None, **more: Any) -> Manifest:
    document = json.loads(a_bundle().manifest.to_json())
    document["inputs"][0]["shapes"] = shapes
    return Manifest.model_validate(document | ({"adaptive": adaptive} if adaptive else {}) | more)


@st.composite
def rules(draw: st.DrawFn) -> ShapeRule:
    """Any that a manifest may hold: thresholds on a grid of hundredths, bands that do not meet."""
    marks = sorted(draw(st.sets(st.integers(2, 98), min_size=1, max_size=4)))
    least_gap = min([b - a for a, b in pairwise([0, *marks, 101])])
    hysteresis = draw(st.floats(0, 0.49)) * least_gap / 100
    adaptive = Adaptive(thresholds=[mark / 100 for mark in marks], hysteresis=hysteresis)
    shapes = tuple((32 * (i + 1), 32 * (i + 1)) for i in range(len(marks) + 1))
    first = draw(st.integers(0, len(marks)))
    return ShapeRule(shapes, tuple(adaptive.thresholds), adaptive.hysteresis, draw(st.integers(1, 5)), first)


COMPLEXITIES = st.lists(st.floats(0, 1), max_size=40)


def _run(rule: ShapeRule, complexities: list[float], begin: Choice | None = None) -> list[int]:
    choice, indices = begin or Choice.begin(rule), []
    for complexity in complexities:
        choice = choice.saw(rule, complexity)
        indices.append(choice.index)
    return indices


def test_a_camera_begins_with_the_preferred_shape_wherever_it_stands_by_area() -> None:
    for shapes in ((LARGE, SMALL, MIDDLE), (MIDDLE, LARGE, SMALL)):
        rule = ShapeRule.of(_manifest(*shapes, adaptive={"thresholds": [0.2, 0.5]}))
        assert rule is not None
        assert rule.shapes == (SMALL, MIDDLE, LARGE)
        assert rule.shapes[Choice.begin(rule).index] == shapes[0]


def test_several_shapes_alone_are_not_adaptive() -> None:
    assert ShapeRule.of(_manifest(LARGE, SMALL, adaptive=None)) is None


@pytest.mark.parametrize(
    ("complexities", "indices"),
    [
        pytest.param([CALM] * 4, [1, 1, 0, 0], id="the third calm picture is the first small one"),
        pytest.param([CALM, CALM, BUSY, CALM, CALM, CALM], [1, 1, 1, 1, 1, 0], id="in a row, or not at all"),
        pytest.param([0.26] * 9, [1] * 9, id="within the hysteresis: stays"),
        pytest.param([CALM, CALM, 0.26, CALM], [1, 1, 1, 1], id="a picture within the hysteresis breaks the row"),
        pytest.param([CALM] * 3 + [0.34] * 9, [1, 1] + [0] * 10, id="from below too"),
        pytest.param([CALM] * 3 + [0.35] * 2, [1, 1, 0, 1, 1], id="past it: larger at once"),
    ],
)
def test_a_shape_is_held(complexities: list[float], indices: list[int]) -> None:
    assert _run(TWO, complexities) == indices


def test_pictures_that_ask_for_different_smaller_shapes_agree_on_the_largest() -> None:
    rule = ShapeRule((SMALL, MIDDLE, LARGE), (0.3, 0.6), 0.02, 3, 2)
    assert _run(rule, [0.1, 0.5, 0.1]) == [2, 2, 1]
    assert _run(rule, [0.1, 0.1, 0.1]) == [2, 2, 0]
    assert _run(rule, [0.5, 0.5, 0.5, 0.1, 0.9]) == [2, 2, 1, 1, 2]


@given(rules(), COMPLEXITIES, st.floats(-1, 1), st.data())
def test_no_flapping_within_the_hysteresis(
    rule: ShapeRule, before: list[float], share: float, data: st.DataObject
) -> None:
    """Whatever came before, complexities that stay in one band lead to one shape and never back."""
    threshold = data.draw(st.sampled_from(rule.thresholds))
    band = st.floats(-0.999, 0.999).map(lambda part: min(1.0, max(0.0, threshold + part * rule.hysteresis)))
    within = data.draw(st.lists(band, min_size=1, max_size=20))
    choice = Choice.begin(rule)
    for complexity in before:
        choice = choice.saw(rule, complexity)
    indices = [choice.index, *_run(rule, within, choice)]
    assert indices in (sorted(indices), sorted(indices, reverse=True))


@given(rules(), COMPLEXITIES)
def test_a_shape_shrinks_after_hold_frames_pictures_and_no_picture_gets_less_than_it_asks_for(
    rule: ShapeRule, complexities: list[float]
) -> None:
    indices = [rule.first, *_run(rule, complexities)]
    changes = [0, *(i for i in range(1, len(indices)) if indices[i] != indices[i - 1])]
    assert all(b - a >= rule.hold_frames for a, b in pairwise(changes) if indices[b] < indices[b - 1])
    for before, index, complexity in zip(indices, indices[1:], complexities, strict=False):
        assert index >= rule.asked(before, complexity)


@given(rules(), st.floats(0, 1), st.floats(0, 1), st.data())
def test_a_busier_picture_never_asks_for_a_smaller_shape(
    rule: ShapeRule, one: float, other: float, data: st.DataObject
) -> None:
    index = data.draw(st.integers(0, len(rule.shapes) - 1))
    assert rule.asked(index, min(one, other)) <= rule.asked(index, max(one, other))


@given(rules(), st.floats(0, 1), st.data())
def test_the_shape_settles_and_a_larger_start_never_ends_smaller(
    rule: ShapeRule, complexity: float, data: st.DataObject
) -> None:
    low, high = sorted(data.draw(st.tuples(*[st.integers(0, len(rule.shapes) - 1)] * 2)))
    ends = [_run(rule, [complexity] * rule.hold_frames, Choice(i, i))[-1] for i in (low, high)]
    assert ends[0] <= ends[1]
    assert all(rule.asked(end, complexity) == end for end in ends)


@pytest.mark.parametrize(
    ("adaptive", "reason"),
    [
        pytest.param({"thresholds": [0.5, 0.2]}, "must lie above the one before", id="not ascending"),
        pytest.param({"thresholds": [0.3, 0.3]}, "must lie above the one before", id="twice the same"),
        pytest.param({"thresholds": [0.3, 0.38]}, "twice the hysteresis", id="bands that overlap"),
        pytest.param({"thresholds": [0.04]}, "must lie above 0", id="never small again"),
        pytest.param({"thresholds": [0.97]}, "not above 1", id="never large"),
        pytest.param({"thresholds": []}, "at least 1 item", id="none"),
        pytest.param({"thresholds": [float("nan")]}, "less than or equal to 1", id="not a number"),
        pytest.param({"thresholds": [0.5], "holdFrames": 0}, "greater than or equal to 1", id="held for no picture"),
        pytest.param({"thresholds": [0.5], "hysteresis": -0.1}, "greater than or equal to 0", id="negative"),
        pytest.param({"thresholds": [0.5], "hysterisis": 0.1}, "Extra inputs", id="misspelt"),
    ],
)
def test_thresholds_that_cannot_be_are_refused(adaptive: dict[str, Any], reason: str) -> None:
    with pytest.raises(ValidationError, match=reason):
        Adaptive.model_validate(adaptive)


@pytest.mark.parametrize(
    ("shapes", "thresholds", "reason"),
    [
        pytest.param([LARGE, MIDDLE, SMALL], [0.3], "3 shapes need 2 thresholds, not 1", id="more shapes"),
        pytest.param([LARGE, SMALL], [0.3, 0.6], "2 shapes need 1 thresholds, not 2", id="fewer shapes"),
        pytest.param([LARGE], [0.3], "1 shapes need 0 thresholds, not 1", id="one shape"),
        pytest.param([LARGE, LARGE], [0.3], "differ in area", id="twice the same shape"),
        pytest.param([(224, 448), (448, 224)], [0.3], "differ in area", id="two of one area"),
        pytest.param([LARGE, (4, 224)], [0.3], "at least 8x8 pixels, not 4x224", id="tiny"),
        pytest.param([LARGE, (-224, -224)], [0.3], "at least 8x8 pixels, not -224x-224", id="negative"),
    ],
)
def test_shapes_that_do_not_fit_the_thresholds_are_refused_in_words(
    shapes: list[tuple[int, int]], thresholds: list[float], reason: str
) -> None:
    with pytest.raises(ValidationError, match=reason):
        _manifest(*shapes, adaptive={"thresholds": thresholds})


def test_inputs_of_different_shapes_are_refused() -> None:
    inputs = [ModelInput(name="a", shapes=[LARGE, SMALL]), ModelInput(name="b", role="reference", shapes=[LARGE])]
    with pytest.raises(ValidationError, match="same shapes in the same order"):
        _manifest(LARGE, adaptive={"thresholds": [0.3]}, inputs=inputs)


def test_a_board_refuses_such_a_bundle_as_invalid() -> None:
    document = json.loads(_manifest(LARGE, SMALL, adaptive={"thresholds": [0.3]}).to_json())
    document["adaptive"]["thresholds"] = [0.6, 0.3]
    with pytest.raises(Permanent, match="must lie above the one before") as caught:
        parse_manifest(json.dumps(document).encode())
    assert caught.value.code is FailureCode.MODEL_INVALID
