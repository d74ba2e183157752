"""How many pictures go into one call of a model, and what happens when the memory does not suffice for them."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Final, Self, TypeVar

from agent.errors import Retryable
from schemas.codes import FailureCode

Item = TypeVar("Item")
Answer = TypeVar("Answer")

FREE_SHARE_KEPT: Final = 0.2
_FIRST_WAIT_S: Final = 30.0
_LONGEST_WAIT_S: Final = 3_600.0


@dataclass(frozen=True, slots=True)
class BatchSize:
    """The most that a call takes now. `most` is what the model takes.

    Out of memory halves it. From `again_s` (monotonic) on twice as many are tried again; each further failure doubles
    the time that passes before, and a call of `most` pictures that succeeds makes it short again.
    """

    most: int
    limit: int
    again_s: float = 0.0
    wait_s: float = _FIRST_WAIT_S

    @classmethod
    def of(cls, most: int) -> Self:
        return cls(most, most)

    def at(self, now_s: float) -> Self:
        """What holds at this time."""
        if self.limit == self.most or now_s < self.again_s:
            return self
        return replace(self, limit=min(self.most, 2 * self.limit), again_s=now_s + self.wait_s)

    def took(self, count: int) -> Self:
        """A call of so many pictures was answered."""
        return replace(self, wait_s=_FIRST_WAIT_S) if count == self.most else self

    def ran_out(self, count: int, now_s: float) -> Self:
        """A call of so many pictures, more than one, ran out of memory."""
        limit = max(1, min(self.limit, count // 2))
        return replace(self, limit=limit, again_s=now_s + self.wait_s, wait_s=min(_LONGEST_WAIT_S, 2 * self.wait_s))


@dataclass(frozen=True, slots=True)
class Room:
    """Memory that is free, and what one more picture in a call takes of it; None where nobody can tell."""

    free_bytes: int | None = None
    picture_bytes: int | None = None

    def pictures(self, most: int) -> int:
        """1 to `most`: one is always tried, whatever is free. A fifth of the free memory is left to others."""
        if self.free_bytes is None or not self.picture_bytes:
            return most
        return max(1, min(most, int(self.free_bytes * (1 - FREE_SHARE_KEPT)) // self.picture_bytes))


class Batcher:
    """Remembers for one segmenter how many pictures it can be given. For one thread."""

    def __init__(self, most: int, monotonic: Callable[[], float]) -> None:
        """`most` is the segmenter's own `batch`."""
        self._size = BatchSize.of(most)
        self._monotonic = monotonic

    @property
    def most(self) -> int:
        """How many pictures one call takes now, where there is room for them."""
        self._size = self._size.at(self._monotonic())
        return self._size.limit

    def run(
        self, items: Sequence[Item], segment_all: Callable[[Sequence[Item]], Sequence[Answer]], room: Room
    ) -> Iterator[tuple[Item, Answer]]:
        """Each item with its answer, in order, in as few calls as there is room for.

        An answer is valid until the next item is asked for. A call that runs out of memory is made again with half as
        many pictures. Errors: those of the call; that of memory only for a single picture. Items that were not
        answered before are not answered then.
        """
        done = 0
        while done < len(items):
            chunk = items[done : done + room.pictures(self.most)]
            try:
                answers = segment_all(chunk)
            except Retryable as error:
                if error.code is not FailureCode.NPU_OUT_OF_MEMORY or len(chunk) == 1:
                    raise
                self._size = self._size.ran_out(len(chunk), self._monotonic())
                continue
            self._size = self._size.took(len(chunk))
            yield from zip(chunk, answers, strict=True)
            done += len(chunk)
