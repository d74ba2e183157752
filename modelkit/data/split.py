"""A part of a set that is held out, the same for ever and on every machine, whatever else comes into the set."""

import hashlib
from typing import Final, Literal

from modelkit.data.sample import DataError, Dataset, Sample

HELD_OUT: Final = 0.15
Part = Literal["train", "validation", "all"]


def held_out(sample_id: str, share: float = HELD_OUT) -> bool:
    """Whether it is for validation, by the SHA-256 of its id; so about `share` of all."""
    digest = hashlib.sha256(sample_id.encode()).digest()
    return int.from_bytes(digest[:4], "big") < share * 2**32


class Split:
    """The part of a set, behind the same port.

    Pictures of one and the same part must not fall on both sides: give such a set two folders instead.
    Raises DataError when nothing falls into the part.
    """

    def __init__(self, whole: Dataset, part: Part, share: float = HELD_OUT) -> None:
        self._whole = whole
        self._ids = tuple(
            name for name in whole.ids if part == "all" or held_out(name, share) == (part == "validation")
        )
        if not self._ids:
            raise DataError(
                f"none of the {len(whole.ids)} samples is in the {part} part, of which {share:.0%} are held out: "
                "add samples, or give a folder of its own for each part"
            )

    @property
    def classes(self) -> tuple[str, ...]:
        return self._whole.classes

    @property
    def ids(self) -> tuple[str, ...]:
        return self._ids

    def read(self, sample_id: str) -> Sample:
        return self._whole.read(sample_id)
