"""Is the part good? Rules against regions, and nothing else."""

from collections.abc import Sequence
from dataclasses import dataclass

from agent.core.vision.quality import Quality
from agent.core.vision.regions import Found, Region
from schemas.recipe import ClassRule, Evaluation, PictureLimits, Recipe

CERTAIN_SCORE = 0.5


@dataclass(frozen=True, slots=True)
class Verdict:
    """`reasons` are for people, the most telling first; an OK has none."""

    evaluation: Evaluation
    reasons: tuple[str, ...] = ()


def judge(found: Found, recipe: Recipe, quality: Quality | None = None) -> Verdict:
    """NOT_OK when regions that are certain break a rule. Else NOT_DECIDABLE when the picture is outside its limits,
    when uncertain regions would break a rule together with the certain ones, or when there are more regions than were
    listed. Else OK.
    """
    by_class: dict[str, list[Region]] = {}
    for region in found.regions:
        by_class.setdefault(region.class_name, []).append(region)
    broken: list[str] = []
    doubtful: list[str] = []
    for name, regions in sorted(by_class.items()):
        rule = recipe.rules.of(name)
        if rule.ignore:
            continue
        least = CERTAIN_SCORE if rule.certain_score is None else rule.certain_score
        certain = [region for region in regions if region.score >= least]
        if reasons := _breaks(name, certain, rule):
            broken += reasons
        elif reasons := _breaks(name, regions, rule):
            doubtful += [f"{reason}, {len(regions) - len(certain)} uncertain" for reason in reasons]
    if broken:
        return Verdict(Evaluation.NOT_OK, tuple(broken))
    if quality is not None:
        doubtful = _outside(quality, recipe.picture) + doubtful
    if found.omitted:
        doubtful.append(f"{found.omitted} more regions than can be listed")
    return Verdict(Evaluation.NOT_DECIDABLE, tuple(doubtful)) if doubtful else Verdict(Evaluation.OK)


def _breaks(name: str, regions: Sequence[Region], rule: ClassRule) -> list[str]:
    most, most_area_px = rule.max_count, rule.max_total_area_px
    if most is None and most_area_px is None:
        most = 0
    reasons: list[str] = []
    if most is not None and len(regions) > most:
        reasons.append(f"{name}: {len(regions)} found, {most} allowed")
    area_px = sum(region.area_px for region in regions)
    if most_area_px is not None and area_px > most_area_px:
        reasons.append(f"{name}: {area_px} px in all, {most_area_px} px allowed")
    return reasons


def _outside(quality: Quality, limits: PictureLimits) -> list[str]:
    reasons: list[str] = []
    if limits.min_brightness is not None and quality.brightness < limits.min_brightness:
        reasons.append(f"picture too dark: brightness {quality.brightness:.0f}, least {limits.min_brightness:g}")
    if limits.max_brightness is not None and quality.brightness > limits.max_brightness:
        reasons.append(f"picture too bright: brightness {quality.brightness:.0f}, most {limits.max_brightness:g}")
    if limits.min_sharpness is not None and quality.sharpness < limits.min_sharpness:
        reasons.append(f"picture not sharp: sharpness {quality.sharpness:.1f}, least {limits.min_sharpness:g}")
    if limits.max_saturated_share is not None and quality.saturated_share > limits.max_saturated_share:
        share, most = quality.saturated_share, limits.max_saturated_share
        reasons.append(f"picture overexposed: {share:.1%} of it saturated, most {most:.1%}")
    return reasons
