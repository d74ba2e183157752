"""Numbers from what was measured; pure."""

from collections.abc import Callable, Sequence

import numpy as np

from schemas.selftest import Sample, Trend

_LEAST_SAMPLES = 4


def slope(points: Sequence[tuple[float, float]]) -> float:
    """Of the line through (x, y) by least squares; 0 where the x do not differ."""
    x, y = np.array(points, np.float64).reshape(-1, 2).T
    if x.size < 2 or not np.ptp(x):
        return 0.0
    x = x - x.mean()
    return float(np.dot(x, y - y.mean()) / np.dot(x, x))


def trend(samples: Sequence[Sample], bytes_of: Callable[[Sample], int]) -> Trend | None:
    """Of the second half: what a process takes while it starts is no leak. None with too few samples."""
    late = samples[len(samples) // 2 :]
    if len(late) < _LEAST_SAMPLES:
        return None
    per_s = slope([(sample.at_s, float(bytes_of(sample))) for sample in late])
    return Trend(
        start_bytes=bytes_of(samples[0]), end_bytes=bytes_of(samples[-1]), mb_per_hour=round(per_s * 3600 / 1e6, 2)
    )


def hottest_c(sample: Sample) -> float | None:
    return max(sample.temperature_c.values(), default=None)
