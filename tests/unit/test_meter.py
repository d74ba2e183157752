import dataclasses
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.core.meter import GROWTH, LEAST_MS, MOST_MS, Histogram, Meter

WITHIN = math.sqrt(GROWTH) * (1 + 1e-9)

latencies = st.lists(st.floats(LEAST_MS, MOST_MS), min_size=1, max_size=200)
any_latencies = st.lists(st.floats(0, 1e12), max_size=100)


def filled(values: list[float]) -> Histogram:
    histogram = Histogram()
    for value in values:
        histogram.add(value)
    return histogram


@given(latencies, st.floats(0, 100))
def test_a_percentile_is_numpys_within_the_buckets_resolution(values: list[float], percent: float) -> None:
    true = float(np.percentile(values, percent, method="inverted_cdf"))
    assert true / WITHIN <= filled(values).percentile(percent) <= true * WITHIN


@pytest.mark.parametrize("percent", [1, 50, 95, 99, 99.9])
@pytest.mark.parametrize("mean_ms", [0.1, 8.0, 2000.0])
def test_percentiles_of_a_realistic_load_agree_with_numpys_interpolation(percent: float, mean_ms: float) -> None:
    values = np.random.default_rng(7).lognormal(math.log(mean_ms), 0.4, 20_000)
    true = float(np.percentile(values, percent))
    assert filled(values.tolist()).percentile(percent) == pytest.approx(true, rel=0.03)


def test_the_resolution_is_the_promised_two_percent() -> None:
    assert WITHIN - 1 < 0.0201


@given(any_latencies.filter(bool))
def test_extremes_count_and_mean_are_exact(values: list[float]) -> None:
    histogram = filled(values)
    assert histogram.percentile(0) == histogram.min_ms == min(values)
    assert histogram.percentile(100) == histogram.max_ms == max(values)
    assert histogram.count == len(values)
    assert histogram.mean_ms == pytest.approx(sum(values) / len(values))


@given(any_latencies.filter(bool))
def test_percentiles_never_fall_as_the_percent_grows(values: list[float]) -> None:
    histogram = filled(values)
    found = [histogram.percentile(percent) for percent in range(101)]
    assert found == sorted(found)
    assert all(math.isfinite(one) for one in found)


@given(any_latencies, any_latencies)
def test_merged_histograms_equal_one_that_saw_all(first: list[float], second: list[float]) -> None:
    merged, whole = filled(first), filled(first + second)
    other = filled(second)
    merged.merge(other)
    assert (merged.buckets, merged.count, merged.min_ms, merged.max_ms) == (
        whole.buckets,
        whole.count,
        whole.min_ms,
        whole.max_ms,
    )
    assert merged.mean_ms == pytest.approx(whole.mean_ms)
    assert other == filled(second)


def test_take_hands_over_everything_and_starts_again() -> None:
    histogram = filled([1.0, 2.0])
    taken = histogram.take()
    histogram.add(9.0)
    assert (taken.count, taken.max_ms) == (2, 2.0)
    assert histogram == filled([9.0])


def test_an_empty_histogram_tells_zeros() -> None:
    empty = Histogram()
    assert (empty.count, empty.mean_ms, empty.max_ms, empty.percentile(50), empty.percentile(99)) == (0, 0, 0, 0, 0)


@pytest.mark.parametrize(
    ("values", "least", "most"),
    [
        pytest.param([0.0, 0.001, 0.002], 0.0, LEAST_MS, id="below the least: between minimum and least"),
        pytest.param([0.0, 0.0, 0.0], 0.0, 0.0, id="zeros"),
        pytest.param([2e5, 3e5, 4e5], 4e5, 4e5, id="above the most: the maximum"),
        pytest.param([MOST_MS] * 3, MOST_MS, MOST_MS, id="at the upper end"),
        pytest.param([LEAST_MS] * 3, LEAST_MS, LEAST_MS, id="at the lower end"),
        pytest.param([7.0] * 3, 7.0, 7.0, id="all the same: exact"),
    ],
)
def test_the_median_at_the_ends_of_the_range(values: list[float], least: float, most: float) -> None:
    assert least <= filled(values).percentile(50) <= most


@pytest.mark.parametrize("value", [-1e-9, math.nan, math.inf, -math.inf])
def test_what_is_no_duration_is_refused_and_not_counted(value: float) -> None:
    histogram = Histogram()
    with pytest.raises(ValueError, match="no latency"):
        histogram.add(value)
    assert histogram == Histogram()


@pytest.mark.parametrize("percent", [-0.1, 100.1, math.nan])
def test_what_is_no_percentile_is_refused(percent: float) -> None:
    with pytest.raises(ValueError, match="no percentile"):
        filled([1.0]).percentile(percent)


def test_a_meter_tells_stages_and_counts_of_its_interval_only() -> None:
    meter = Meter(started_s=100.0)
    for latency_ms in (1.0, 2.0, 3.0, 400.0):
        meter.observe("infer", latency_ms)
    meter.count("captured", 4)
    meter.count("dropped")
    first = meter.take(now_s=102.0)
    meter.observe("prepare", 5.0)
    second = meter.take(now_s=105.0)

    infer = first.stages["infer"]
    assert (infer.count, infer.max_ms, infer.p99_ms) == (4, 400.0, 400.0)
    assert infer.p50_ms == pytest.approx(2.0, rel=0.02)
    assert (first.interval_s, dict(first.counts)) == (2.0, {"captured": 4, "dropped": 1})
    assert (first.rate_hz("captured"), first.rate_hz("never")) == (2.0, 0.0)
    assert (second.interval_s, list(second.stages), dict(second.counts)) == (3.0, ["prepare"], {})


def test_a_snapshot_cannot_be_changed() -> None:
    meter = Meter(started_s=0.0)
    meter.observe("infer", 1.0)
    taken = meter.take(now_s=1.0)
    meter.observe("infer", 2.0)
    meter.count("captured")
    assert taken.stages["infer"].count == 1
    assert "captured" not in taken.counts
    with pytest.raises(TypeError):
        taken.counts["captured"] = 1  # type: ignore[index]
    with pytest.raises(dataclasses.FrozenInstanceError):
        taken.interval_s = 2.0  # type: ignore[misc]


def test_meters_of_several_lanes_come_together() -> None:
    lanes = [Meter(started_s=0.0), Meter(started_s=0.0)]
    for lane, latencies_ms in zip(lanes, ([1.0] * 98, [50.0, 60.0]), strict=True):
        for latency_ms in latencies_ms:
            lane.observe("infer", latency_ms)
            lane.count("inspected")
    whole = Meter(started_s=0.0)
    for lane in lanes:
        whole.merge(lane)
    taken = whole.take(now_s=10.0)
    assert (taken.stages["infer"].count, taken.counts["inspected"]) == (100, 100)
    assert taken.stages["infer"].p95_ms == pytest.approx(1.0, rel=0.02)
    assert taken.stages["infer"].p99_ms == pytest.approx(50.0, rel=0.02)


def test_an_interval_without_length_has_no_rate() -> None:
    meter = Meter(started_s=5.0)
    meter.count("captured")
    assert meter.take(now_s=5.0).rate_hz("captured") == 0.0
