"""The cores of the emulated NPU: one call at a time on each."""

import contextlib
import threading
from collections.abc import Iterator

AUTO = 0


class Cores:
    """Any thread may call. Of calls that want the same core, the first to ask gets it first."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._busy: frozenset[int] = frozenset()
        self._waiting: list[frozenset[int]] = []

    @contextlib.contextmanager
    def hold(self, mask: int, cores: int) -> Iterator[frozenset[int]]:
        """Wait for all cores of the mask; for any one of the chip's `cores` when the mask is AUTO. Yields which."""
        chip = frozenset(range(cores))
        wanted = frozenset(core for core in chip if mask >> core & 1)
        with self._changed:
            self._waiting.append(wanted)
            while (mine := self._choose(wanted, chip)) is None:
                self._changed.wait()
            self._leave(wanted)
            self._busy |= mine
        try:
            yield mine
        finally:
            with self._changed:
                self._busy -= mine
                self._changed.notify_all()

    def _choose(self, wanted: frozenset[int], chip: frozenset[int]) -> frozenset[int] | None:
        """None where this call has to wait. Call with the lock held."""
        free = chip - self._busy
        for earlier in self._waiting:
            if earlier is wanted:
                break
            free -= earlier
        if wanted:
            return wanted if wanted <= free else None
        return frozenset({min(free)}) if free else None

    def _leave(self, wanted: frozenset[int]) -> None:
        """Those behind may go now. Call with the lock held."""
        self._waiting = [other for other in self._waiting if other is not wanted]
        self._changed.notify_all()
