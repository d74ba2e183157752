"""Is a new model as good as the old one? Rules for golden frames, shadow and probation; numbers in, verdicts out."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from schemas.codes import FailureCode
from schemas.state import ProbationPlan, ShadowPlan

LEAST_RESULTS = 30
"""Fewer say nothing of a share or a p95."""
EARLY_SIGMAS = 4.0
"""Before the planned end a drift must lie this many standard errors past its bound: chance alone does not do that."""
EARLY_LATENCY_FACTOR = 2.0
"""Before the planned end the p95 must be this many times past its bound, so that a slow start is no failure."""


@dataclass(frozen=True, slots=True)
class Healthy:
    """Every rule held to the end."""

    measured: dict[str, float]


@dataclass(frozen=True, slots=True)
class Unhealthy:
    """A rule is broken, and no later result can mend it."""

    code: FailureCode
    text: str
    measured: dict[str, float]


@dataclass(frozen=True, slots=True)
class Undecided:
    """More results are needed."""


Verdict = Healthy | Unhealthy | Undecided


@dataclass(frozen=True, slots=True)
class Seen:
    """What one model did. `results` has neither faults nor simulated results; `p95_ms` is of whole results."""

    results: int
    not_ok: int
    undecidable: int
    faults: int
    p95_ms: float

    @property
    def is_enough(self) -> bool:
        """Whether it can serve as the old model's side of a comparison; see LEAST_RESULTS."""
        return self.results >= LEAST_RESULTS


def probation(plan: ProbationPlan, old: Seen, new: Seen, *, faults_allowed: int = 0) -> Verdict:
    """Ask after each result of the new model.

    It needs `plan.frames` results, at least LEAST_RESULTS. `old` is from before the flip; while `old.is_enough` is
    false, latency and drift cannot be compared and are left out, so see to it that it is true.
    """
    is_over = new.results >= max(plan.frames, LEAST_RESULTS)
    measured = _measured(old, new)
    broken = _faults(new, faults_allowed)
    if broken is None and old.is_enough and new.is_enough:
        broken = _latency(plan, measured, is_over=is_over) or _drift(plan, old, new, is_over=is_over)
    if broken is not None:
        return Unhealthy(FailureCode.PROBATION_FAILED, broken, measured)
    return Healthy(measured) if is_over else Undecided()


def _faults(new: Seen, allowed: int) -> str | None:
    return f"{new.faults} faults, {allowed} allowed, in {new.results} results" if new.faults > allowed else None


def _latency(plan: ProbationPlan, measured: dict[str, float], *, is_over: bool) -> str | None:
    ratio = measured.get("probationP95Ratio")
    bound = plan.max_p95_ratio * (1.0 if is_over else EARLY_LATENCY_FACTOR)
    if ratio is None or ratio <= bound:
        return None
    return f"p95 is {ratio:.2f} times the old model's, {plan.max_p95_ratio:.2f} allowed"


def _drift(plan: ProbationPlan, old: Seen, new: Seen, *, is_over: bool) -> str | None:
    """NotDecidable is held to the bound of NotOK: a model that decides nothing is of no use either."""
    for name, before, after in (
        ("NotOK", old.not_ok, new.not_ok),
        ("NotDecidable", old.undecidable, new.undecidable),
    ):
        was, now = before / old.results, after / new.results
        error = math.sqrt(_variance(before, old.results) + _variance(after, new.results))
        if abs(now - was) > plan.max_ng_drift + (0.0 if is_over else EARLY_SIGMAS * error):
            return f"{name} went from {was:.1%} to {now:.1%} of results, a change of {plan.max_ng_drift:.1%} allowed"
    return None


def _variance(count: int, of: int) -> float:
    """Of a share. Smoothed by one on either side: 0 of 30 does not mean never."""
    share = (count + 1) / (of + 2)
    return share * (1 - share) / of


def _measured(old: Seen, new: Seen) -> dict[str, float]:
    measured = {"probationResults": float(new.results), "probationFaults": float(new.faults)}
    if old.is_enough and new.results:
        if old.p95_ms > 0:
            measured["probationP95Ratio"] = round(new.p95_ms / old.p95_ms, 4)
        measured["probationNgDrift"] = round(new.not_ok / new.results - old.not_ok / old.results, 4)
    return measured


@dataclass(frozen=True, slots=True)
class Shadowing:
    """Sums over live frames that went through both models. Units: ms, of inference alone."""

    frames: int = 0
    agreement: float = 0.0
    same_verdicts: int = 0
    old_ms: float = 0.0
    new_ms: float = 0.0
    faults: int = 0

    def saw(self, agreement: float, *, is_same_verdict: bool, old_ms: float, new_ms: float) -> "Shadowing":
        """One more frame; `agreement` is that of `agreement()`, the old model's class map being the reference."""
        return replace(
            self,
            frames=self.frames + 1,
            agreement=self.agreement + agreement,
            same_verdicts=self.same_verdicts + is_same_verdict,
            old_ms=self.old_ms + old_ms,
            new_ms=self.new_ms + new_ms,
        )

    def faulted(self) -> "Shadowing":
        return replace(self, faults=self.faults + 1)

    @property
    def measured(self) -> dict[str, float]:
        if not self.frames:
            return {"shadowFrames": 0.0}
        measured = {
            "shadowFrames": float(self.frames),
            "shadowAgreement": round(self.agreement / self.frames, 4),
            "shadowVerdictAgreement": round(self.same_verdicts / self.frames, 4),
        }
        if self.old_ms > 0:
            measured["shadowLatencyRatio"] = round(self.new_ms / self.old_ms, 4)
        return measured


def shadow(plan: ShadowPlan, seen: Shadowing) -> Verdict:
    """Both agreements must reach the plan's least; given up once the frames left could not lift them to it.

    Latency is measured and not judged: two models at once slow each other down. Probation judges it.
    """
    text = None
    most = plan.frames - seen.frames
    for name, total in (("mean IoU", seen.agreement), ("same verdict", float(seen.same_verdicts))):
        if total + max(0, most) < plan.least_agreement * max(plan.frames, seen.frames) - 1e-9:
            reached = total / seen.frames if seen.frames else 0.0
            text = f"{name} {reached:.3f} over {seen.frames} frames, {plan.least_agreement:.3f} asked for"
            break
    if seen.faults:
        text = f"{seen.faults} faults in {seen.frames} frames"
    if text is not None:
        return Unhealthy(FailureCode.SHADOW_DISAGREED, text, seen.measured)
    return Healthy(seen.measured) if seen.frames >= plan.frames else Undecided()


def self_test(agreements: Sequence[float], least_agreement: float) -> Healthy | Unhealthy:
    """Each golden frame's agreement, in order. All must reach the least: a mean would hide the one unseen view."""
    worst = min(agreements, default=0.0)
    measured = {"selfTestAgreement": round(worst, 4), "selfTestFrames": float(len(agreements))}
    if agreements and worst >= least_agreement:
        return Healthy(measured)
    what = f"golden frame {agreements.index(worst)}" if agreements else "no golden frame"
    text = f"{what}: agreement {worst:.3f}, {least_agreement:.3f} asked for"
    return Unhealthy(FailureCode.SELF_TEST_FAILED, text, measured)


def agreement(class_map: npt.NDArray[np.uint8], reference: npt.NDArray[np.uint8], classes: int) -> float:
    """Mean IoU over the classes that are present in either map, in 0 to 1.

    Shapes: both (H, W), not empty; classes counts the background. An id that the model does not have agrees with
    nothing. Raises ValueError where the shapes differ or nothing is there to compare.
    """
    if class_map.shape != reference.shape or not class_map.size:
        raise ValueError(f"class maps of {class_map.shape} and {reference.shape} cannot be compared")
    width = classes + 2  # two strange ids that differ, one for each side, never meet on the diagonal
    left = np.where(class_map < classes, class_map, classes).astype(np.intp)
    right = np.where(reference < classes, reference, classes + 1).astype(np.intp)
    pairs = np.bincount((right * width + left).ravel(), minlength=width * width).reshape(width, width)
    both = np.diagonal(pairs)
    either = pairs.sum(axis=0) + pairs.sum(axis=1) - both
    return float((both[either > 0] / either[either > 0]).mean())
