from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from pydantic import ValidationError

from agent.core.verdict import judge
from agent.core.vision import Found, Quality, Region
from agent.core.vision.rle import Mask
from schemas.recipe import ClassRule, ClassRules, Evaluation, Recipe

GOOD = Quality(brightness=120, contrast=40, saturated_share=0.01, sharpness=80)
OK, NOT_OK, NOT_DECIDABLE = Evaluation.OK, Evaluation.NOT_OK, Evaluation.NOT_DECIDABLE
MASK = Mask(np.ones((1, 1), np.bool_), np.arange(2), np.arange(2), (9, 9))


def _region(name: str, score: float = 0.9, area_px: int = 10) -> Region:
    return Region(1, name, score, area_px, (0, 0, 1, 1), ((0, 0), (1, 0), (1, 1)), MASK)


def _recipe(default: dict[str, Any] | None = None, **per_class: dict[str, Any]) -> Recipe:
    rules = ClassRules(
        default=ClassRule(**(default or {})), per_class={name: ClassRule(**rule) for name, rule in per_class.items()}
    )
    return Recipe(rules=rules)


@pytest.mark.parametrize(
    ("regions", "recipe", "evaluation", "reason"),
    [
        pytest.param([], _recipe(), OK, None, id="nothing found"),
        pytest.param([_region("open")], _recipe(), NOT_OK, "open: 1 found, 0 allowed", id="any certain region"),
        pytest.param([_region("open", 0.4)], _recipe(), NOT_DECIDABLE, "1 uncertain", id="below certain score"),
        pytest.param([_region("open", 0.5)], _recipe(), NOT_OK, "open", id="exactly the certain score"),
        pytest.param([_region("open")], _recipe(open={"max_count": 1}), OK, None, id="allowed number"),
        pytest.param(
            [_region("open")] * 2, _recipe(open={"max_count": 1}), NOT_OK, "open: 2 found, 1 allowed", id="one too many"
        ),
        pytest.param(
            [_region("open"), _region("open", 0.3)],
            _recipe(open={"max_count": 1}),
            NOT_DECIDABLE,
            "open: 2 found, 1 allowed, 1 uncertain",
            id="uncertain would be one too many",
        ),
        pytest.param([_region("open", 0.3)], _recipe(open={"max_count": 1}), OK, None, id="uncertain, allowed anyhow"),
        pytest.param([_region("open", 0.3)], _recipe({"certain_score": 0.2}), NOT_OK, "open", id="own certain score"),
        pytest.param([_region("open")], _recipe(open={"ignore": True}), OK, None, id="ignored"),
        pytest.param([_region("open")] * 9, _recipe({"max_total_area_px": 90}), OK, None, id="area in bounds"),
        pytest.param(
            [_region("open")] * 10,
            _recipe({"max_total_area_px": 90}),
            NOT_OK,
            "open: 100 px in all, 90 px allowed",
            id="area too large",
        ),
        pytest.param(
            [_region("open"), _region("short", 0.3)], _recipe(), NOT_OK, "open", id="certain goes before uncertain"
        ),
    ],
)
def test_regions_become_a_verdict(
    regions: list[Region], recipe: Recipe, evaluation: Evaluation, reason: str | None
) -> None:
    verdict = judge(Found(tuple(regions)), recipe, GOOD)
    assert verdict.evaluation is evaluation
    assert (reason is None) == (verdict.reasons == ())
    assert reason is None or reason in verdict.reasons[0]


@pytest.mark.parametrize(
    ("limits", "quality", "reason"),
    [
        pytest.param({"min_brightness": 50}, replace(GOOD, brightness=20), "too dark", id="dark"),
        pytest.param({"max_brightness": 200}, replace(GOOD, brightness=240), "too bright", id="bright"),
        pytest.param({"min_sharpness": 50}, replace(GOOD, sharpness=3), "not sharp", id="blurred"),
        pytest.param({"max_saturated_share": 0.1}, replace(GOOD, saturated_share=0.5), "overexposed", id="saturated"),
    ],
)
def test_a_bad_picture_is_not_decidable_but_a_certain_defect_still_counts(
    limits: dict[str, float], quality: Quality, reason: str
) -> None:
    recipe = Recipe.model_validate({"picture": limits})
    verdict = judge(Found(), recipe, quality)
    assert verdict.evaluation is NOT_DECIDABLE
    assert reason in verdict.reasons[0]
    assert judge(Found((_region("open"),)), recipe, quality).evaluation is NOT_OK
    assert judge(Found(), recipe, GOOD).evaluation is OK


def test_regions_that_were_not_listed_are_never_an_ok() -> None:
    recipe = _recipe({"max_count": 10**6})
    assert judge(Found((_region("open"),), omitted=1), recipe, GOOD).evaluation is NOT_DECIDABLE


def test_a_class_takes_from_the_default_what_it_leaves_out() -> None:
    rules = ClassRules(default=ClassRule(max_count=3, min_score=0.4), per_class={"open": ClassRule(min_score=0.7)})
    assert rules.of("open") == ClassRule(max_count=3, min_score=0.7)
    assert rules.of("short") == rules.default
    assert rules.unknown(["short"]) == ["open"]


def test_a_recipe_survives_its_json_and_refuses_misspelt_rules() -> None:
    recipe = Recipe(
        id="board-7", external_recipe_id="ERP-1", rules=ClassRules(per_class={"open": ClassRule(ignore=True)})
    )
    assert Recipe.model_validate_json(recipe.to_json()) == recipe
    with pytest.raises(ValidationError, match="maxCuont"):
        Recipe.model_validate({"rules": {"default": {"maxCuont": 1}}})
