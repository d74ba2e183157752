"""Which results of one boot of a board have come: gaps in `sequenceNumber`, which begins at 1."""

from collections.abc import Iterable
from dataclasses import dataclass

MOST_GAPS = 256
"""Of one boot. A board that loses more has the oldest forgotten: they will not come back."""


@dataclass(frozen=True, slots=True, order=True)
class Gap:
    """Inclusive."""

    first: int
    last: int

    def __len__(self) -> int:
        return self.last - self.first + 1


@dataclass(frozen=True, slots=True)
class Stream:
    """`gaps` are in order, do not touch each other, and lie below `highest`."""

    highest: int = 0
    gaps: tuple[Gap, ...] = ()

    def arrived(self, numbers: Iterable[int]) -> "Stream":
        """After these numbers (1 or more), in any order, known ones among them."""
        gaps, highest = list(self.gaps), self.highest
        for number in sorted(set(numbers)):
            if number > highest:
                if number > highest + 1:
                    gaps.append(Gap(highest + 1, number - 1))
                highest = number
            elif gaps:
                gaps = _without(gaps, Gap(number, number))
        return Stream(highest, tuple(gaps[-MOST_GAPS:]))

    def ended(self, last: int) -> "Stream":
        """The boot is over and `last` was its last number: what is missing at the end is a gap too."""
        if last <= self.highest:
            return self
        return Stream(last, (*self.gaps, Gap(self.highest + 1, last))[-MOST_GAPS:])

    def given_up(self, lost: Gap) -> "Stream":
        """The board has these no longer: nobody waits for them."""
        return Stream(self.highest, tuple(_without(list(self.gaps), lost)))


def _without(gaps: list[Gap], gone: Gap) -> list[Gap]:
    kept: list[Gap] = []
    for gap in gaps:
        if gap.last < gone.first or gap.first > gone.last:
            kept.append(gap)
            continue
        if gap.first < gone.first:
            kept.append(Gap(gap.first, gone.first - 1))
        if gap.last > gone.last:
            kept.append(Gap(gone.last + 1, gap.last))
    return kept
