"""How slow a registry may be."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Pace:
    """`wait_s`: for the connection and each part of the answer. A file that comes slower than `least_bytes_per_s` after
    `window_s` is given up; time until the first byte counts.
    """

    wait_s: float = 20.0
    least_bytes_per_s: float = 1024.0
    window_s: float = 30.0
