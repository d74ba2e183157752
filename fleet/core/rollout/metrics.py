"""What gates can ask: figures that boards report of an update, and figures of their telemetry before and after it."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from schemas.state import ReportedModel
from schemas.telemetry import InspectionTelemetry

MEASURED = (
    "selfTestAgreement",
    "shadowAgreement",
    "shadowVerdictAgreement",
    "shadowLatencyRatio",
    "probationResults",
    "probationFaults",
    "probationP95Ratio",
    "probationNgDrift",
)
"""In `reported/model`, by the board's own self-test, shadow and probation."""
OBSERVED = ("p95Ms", "faultRate", "ngRate", "undecidableRate")
"""Of `telemetry/inspection`, while the model runs. Rates are shares of results, 0 to 1; p95 is of inference."""
DERIVED = ("faultRateDrift", "ngRateDrift", "p95Ratio", "absNgDrift")
"""Observed after the update against observed before it; `absNgDrift` is the greatest drift known, without its sign."""
METRICS = (*MEASURED, *OBSERVED, *DERIVED)

LEAST_RESULTS = 30
"""Fewer say nothing of a share or a p95."""
_MOST_RESULTS = 5000
"""From here on the past weighs half: what was seen long ago says less."""
_MOST_COUNT = 1_000_000


@dataclass(frozen=True, slots=True)
class Observation:
    """Sums over telemetry of one model on one board. `p95_weight` is p95 in ms times results."""

    results: float = 0.0
    faults: float = 0.0
    not_ok: float = 0.0
    undecidable: float = 0.0
    timed: float = 0.0
    p95_weight: float = 0.0
    latest: datetime | None = None

    def add(self, telemetry: InspectionTelemetry) -> "Observation":
        """`self` for what is not newer than the latest."""
        if self.latest is not None and telemetry.time <= self.latest:
            return self
        counts = {
            name.upper(): min(count, _MOST_COUNT)
            for name, count in telemetry.results_by_evaluation.items()
            if count > 0
        }
        results = sum(counts.values())
        keep = 0.5 if self.results > _MOST_RESULTS else 1.0
        segment = telemetry.latency_ms.get("segment")
        is_timed = segment is not None and math.isfinite(segment.p95) and segment.p95 >= 0
        return Observation(
            results=self.results * keep + results,
            faults=self.faults * keep + counts.get("UNDEFINED", 0),
            not_ok=self.not_ok * keep + counts.get("NOT_OK", 0),
            undecidable=self.undecidable * keep + counts.get("NOT_DECIDABLE", 0),
            timed=self.timed * keep + (results if is_timed else 0),
            p95_weight=self.p95_weight * keep + (min(segment.p95, 1e9) * results if segment and is_timed else 0.0),
            latest=telemetry.time,
        )

    @property
    def figures(self) -> dict[str, float]:
        """Empty where there are too few results."""
        if self.results < LEAST_RESULTS:
            return {}
        figures = {"faultRate": self.faults / self.results}
        judged = self.results - self.faults
        if judged > 0:
            figures["ngRate"] = self.not_ok / judged
            figures["undecidableRate"] = self.undecidable / judged
        if self.timed > 0:
            figures["p95Ms"] = self.p95_weight / self.timed
        return figures


NOTHING = Observation()


def measured(report: ReportedModel) -> dict[str, float]:
    """Finite figures alone, of names that are known: nothing that a board says can grow without bound."""
    return {
        name: float(report.measured[name])
        for name in MEASURED
        if name in report.measured and math.isfinite(report.measured[name])
    }


def known(measured: Mapping[str, float], before: Observation, after: Observation) -> dict[str, float]:
    """All that gates can ask of one board; DERIVED where both sides have been observed."""
    was, now = before.figures, after.figures
    figures = {**measured, **now}
    for name in ("faultRate", "ngRate"):
        if name in was and name in now:
            figures[f"{name}Drift"] = now[name] - was[name]
    if was.get("p95Ms", 0.0) > 0 and "p95Ms" in now:
        figures["p95Ratio"] = now["p95Ms"] / was["p95Ms"]
    drifts = [abs(figures[name]) for name in ("ngRateDrift", "probationNgDrift") if name in figures]
    if drifts:
        figures["absNgDrift"] = max(drifts)
    return figures
