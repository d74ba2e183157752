"""What a reader of results has seen: duplicates by `resultId`, gaps by `(bootId, sequenceNumber)`."""

from dataclasses import dataclass, field

from schemas.result import Result


@dataclass(slots=True)
class Tally:
    """Owned by one thread. Counts each result once, however often it comes and in whatever order."""

    received: int = 0
    duplicates: int = 0
    by_evaluation: dict[str, int] = field(default_factory=dict)
    by_class: dict[str, int] = field(default_factory=dict)
    faults: dict[str, int] = field(default_factory=dict)
    _ids: set[str] = field(default_factory=set)
    _numbers: dict[str, set[int]] = field(default_factory=dict)

    def add(self, result: Result) -> bool:
        """False for a duplicate."""
        if result.result_id in self._ids:
            self.duplicates += 1
            return False
        self._ids.add(result.result_id)
        self._numbers.setdefault(result.boot_id, set()).add(result.sequence_number)
        self.received += 1
        _count(self.by_evaluation, result.result_evaluation.name)
        for defect in result.defects:
            _count(self.by_class, defect.class_name)
        if result.fault:
            _count(self.faults, result.fault.code)
        return True

    def missing(self, boot_id: str, last: int) -> list[int]:
        """Sequence numbers of a boot, 1 to `last`, that never came."""
        return sorted(set(range(1, last + 1)) - self._numbers.get(boot_id, set()))


def _count(counts: dict[str, int], name: str) -> None:
    counts[name] = counts.get(name, 0) + 1
