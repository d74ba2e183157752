"""Choose calibration pictures that cover the real scene, and say how well they do.

Int8 ranges come from these pictures alone: what is brighter or of more contrast than any of them is cut off on a board.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from agent.core.frame import Pixels
from modelkit.data import Dataset, Sample

LUMA: Final = (0.299, 0.587, 0.114)
_BRIGHTNESS_TOP: Final = 256.0
_CONTRAST_TOP: Final = 128.0
"""No picture of bytes has a larger standard deviation."""
_FEW: Final = 20
"""The toolkit's guide asks for 20 to 100 pictures."""
_LITTLE: Final = 0.8


class EmptyCalibration(ValueError):
    """There is no picture to calibrate with."""


@dataclass(frozen=True, slots=True)
class Look:
    """Mean and standard deviation of a picture's luma, 0 to 255: brightness and contrast."""

    id: str
    brightness: float
    contrast: float


@dataclass(frozen=True, slots=True)
class Grid:
    """Into how many equal parts brightness, 0 to 256, and contrast, 0 to 128, are cut."""

    brightness: int = 16
    contrast: int = 16

    def __post_init__(self) -> None:
        if min(self.brightness, self.contrast) < 1:
            raise ValueError("a grid has at least one cell each way")

    def cell(self, look: Look) -> tuple[int, int]:
        row = int(look.contrast / _CONTRAST_TOP * self.contrast)
        column = int(look.brightness / _BRIGHTNESS_TOP * self.brightness)
        return min(row, self.contrast - 1), min(column, self.brightness - 1)


@dataclass(frozen=True, slots=True)
class Coverage:
    """How many pictures of the population and of the chosen fall into each cell, rows by contrast, columns by
    brightness. `share`, 0 to 1, of the population's occupied cells hold a chosen picture. `warnings` say what is thin.
    """

    population: tuple[tuple[int, ...], ...]
    chosen: tuple[tuple[int, ...], ...]
    share: float
    brightness_range: tuple[float, float]
    contrast_range: tuple[float, float]
    warnings: tuple[str, ...]


def look(name: str, rgb: Pixels) -> Look:
    """Of one picture, (H, W, 3) uint8."""
    luma = rgb.astype(np.float32) @ np.array(LUMA, np.float32)
    return Look(name, float(luma.mean()), float(luma.std()))


def looks(dataset: Dataset, ids: Iterable[str] | None = None) -> list[Look]:
    """Of the pictures of a data set, or of those named, read one at a time."""
    names = dataset.ids if ids is None else ids
    return [look(name, dataset.read(name).image) for name in names]


def looks_of(samples: Iterable[Sample]) -> list[Look]:
    return [look(sample.id, sample.image) for sample in samples]


def choose(population: Sequence[Look], count: int, seed: int = 1, grid: Grid | None = None) -> list[Look]:
    """`count` of the population, or all if there are no more: each occupied cell gives one, fullest first, then cells
    give in proportion to what they hold; within a cell, each next one lies farthest from all chosen so far. The same
    for the same population, in any order, and seed.

    Raises EmptyCalibration for an empty population, ValueError for a count below 1.
    """
    if not population:
        raise EmptyCalibration("the calibration set is empty: int8 ranges come from its pictures")
    if count < 1:
        raise ValueError(f"{count} pictures cannot be chosen")
    rng = np.random.default_rng(seed)
    ordered = sorted(population, key=lambda each: each.id)
    cells: dict[tuple[int, int], list[Look]] = {}
    for index in rng.permutation(len(ordered)):  # so that the seed decides between pictures that look the same
        cells.setdefault((grid or Grid()).cell(ordered[index]), []).append(ordered[index])
    shares = _shares({cell: len(held) for cell, held in cells.items()}, min(count, len(ordered)))
    chosen: list[Look] = []
    for cell, share in shares.items():
        chosen += _farthest(cells[cell], chosen, share)
    return chosen


def coverage(population: Sequence[Look], chosen: Sequence[Look], grid: Grid | None = None) -> Coverage:
    """Of the scene as the population shows it. Raises EmptyCalibration where nothing is chosen."""
    if not chosen:
        raise EmptyCalibration("the calibration set is empty: int8 ranges come from its pictures")
    how = grid or Grid()
    whole, part = (_histogram(each, how) for each in (population, chosen))
    occupied = whole > 0
    share = float((part[occupied] > 0).mean()) if occupied.any() else 1.0
    bright, contrast = [each.brightness for each in chosen], [each.contrast for each in chosen]
    warnings = []
    if len(chosen) < _FEW:
        warnings.append(f"only {len(chosen)} pictures to calibrate with: give at least {_FEW}")
    if share < _LITTLE:
        warnings.append(f"the pictures cover {share:.0%} of the scene's brightness and contrast: choose more")
    if len(chosen) > 1 and np.count_nonzero(part) == 1:
        warnings.append("all pictures are alike in brightness and contrast: take some of other light")
    return Coverage(
        population=_rows(whole),
        chosen=_rows(part),
        share=round(share, 4),
        brightness_range=(round(min(bright), 1), round(max(bright), 1)),
        contrast_range=(round(min(contrast), 1), round(max(contrast), 1)),
        warnings=tuple(warnings),
    )


def _shares(held: dict[tuple[int, int], int], count: int) -> dict[tuple[int, int], int]:
    """How many each cell gives, fullest cell first."""
    order = sorted(held, key=lambda cell: (-held[cell], cell))
    given = dict.fromkeys(order[:count], 1)
    left, total = count - len(given), sum(held.values())
    while left:
        # The cell that is farthest behind its share of the population.
        behind = max((c for c in given if given[c] < held[c]), key=lambda c: held[c] / total - given[c] / count)
        given[behind] += 1
        left -= 1
    return given


def _farthest(held: Sequence[Look], chosen: Sequence[Look], count: int) -> list[Look]:
    points = np.array([(each.brightness, each.contrast) for each in held])
    nearest = np.full(len(held), np.inf)
    for each in chosen:
        nearest = np.minimum(nearest, np.hypot(*(points - (each.brightness, each.contrast)).T))
    if not chosen:
        nearest = -np.hypot(*(points - np.median(points, axis=0)).T)  # begin in the middle
    taken: list[int] = []
    for _ in range(count):
        place = int(np.argmax(nearest))
        taken.append(place)
        apart = np.hypot(*(points - points[place]).T)
        nearest = apart if len(taken) == 1 and not chosen else np.minimum(nearest, apart)
        nearest[taken] = -np.inf
    return [held[place] for place in taken]


def _histogram(these: Sequence[Look], grid: Grid) -> npt.NDArray[np.int64]:
    counts = np.zeros((grid.contrast, grid.brightness), np.int64)
    for each in these:
        counts[grid.cell(each)] += 1
    return counts


def _rows(counts: npt.NDArray[np.int64]) -> tuple[tuple[int, ...], ...]:
    return tuple(tuple(row) for row in counts.tolist())
