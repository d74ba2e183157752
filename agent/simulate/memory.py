"""The board's disk in memory: the ports of `agent.ports` that a simulation of thousands of boards cannot give a file
each. What is kept ends with the process.
"""

from collections import OrderedDict, deque
from collections.abc import Callable, Iterable, Sequence
from datetime import datetime

from agent.core.frame import Picture
from agent.core.job import Held, Job
from agent.core.outgoing import Accepted, Incoming, Kind, Outgoing, Place, Spooled
from agent.errors import Permanent, Retryable
from agent.ports import SpoolDepth
from schemas.codes import FailureCode

_MOST_WAITING = 1000
_MOST_REPLIES = 100
_MOST_PENDING = 2000
_MOST_HISTORY = 200


class MemoryJournal:
    """Fits the port Journal."""

    def __init__(self) -> None:
        self._content: bytes | None = None

    def read(self) -> bytes | None:
        return self._content

    def write(self, content: bytes) -> None:
        self._content = content


class MemoryInbox:
    """Fits the port Inbox. `first_session` must lie above what an earlier process used."""

    def __init__(self, first_session: int) -> None:
        self._session = first_session
        self._row = 0
        self._waiting: dict[int, Accepted] = {}
        self._replies: OrderedDict[str, bytes] = OrderedDict()

    def put(self, message: Incoming) -> int:
        if len(self._waiting) >= _MOST_WAITING:
            raise Retryable(FailureCode.DISK_FULL, f"{_MOST_WAITING} messages wait to be worked off")
        self._row += 1
        self._waiting[self._row] = Accepted(self._row, message)
        return self._row

    def waiting(self) -> Sequence[Accepted]:
        return list(self._waiting.values())

    def reply_to(self, command_id: str) -> bytes | None:
        return self._replies.get(command_id)

    def finish(self, row: int, command_id: str | None = None, reply: bytes | None = None) -> None:
        self._waiting.pop(row, None)
        if command_id is not None and reply is not None:
            self._replies[command_id] = reply
            while len(self._replies) > _MOST_REPLIES:
                self._replies.popitem(last=False)

    def next_session(self) -> int:
        self._session += 1
        return self._session

    def close(self) -> None:
        """Nothing is open."""


class MemorySpool:
    """Fits the port Spool, for one thread: the newest results can be replayed, and what nobody takes is bounded."""

    def __init__(self, clock: Callable[[], datetime]) -> None:
        self._clock = clock
        self._row = 0
        self._pending: OrderedDict[int, Spooled] = OrderedDict()
        self._places: dict[int, Place] = {}
        self._history: deque[tuple[Place, Outgoing]] = deque(maxlen=_MOST_HISTORY)
        self._dropped = 0
        self._dead = 0

    def append(self, kind: Kind, message: Outgoing, place: Place | None = None) -> int:
        if len(self._pending) >= _MOST_PENDING:
            self._make_room()
        self._row += 1
        self._pending[self._row] = Spooled(self._row, kind, message, self._clock())
        if place is not None:
            self._places[self._row] = place
        return self._row

    def pending(self, after_row: int, limit: int) -> Sequence[Spooled]:
        found: list[Spooled] = []
        for row, spooled in self._pending.items():
            if row > after_row:
                found.append(spooled)
                if len(found) == limit:
                    break
        return found

    def sent(self, rows: Iterable[int]) -> None:
        for row in rows:
            spooled, place = self._pending.pop(row, None), self._places.pop(row, None)
            if spooled is not None and place is not None:
                self._history.append((place, spooled.message))

    def refused(self, row: int, reason: str) -> None:
        del reason  # the uplink has logged it
        self._dead += self._pending.pop(row, None) is not None
        self._places.pop(row, None)

    def replay(self, boot_id: str, first: int, last: int) -> Sequence[int]:
        def is_meant(place: Place) -> bool:
            return place.boot_id == boot_id and first <= place.sequence_number <= last

        waiting = [place.sequence_number for place in self._places.values() if is_meant(place)]
        again = [(place, message) for place, message in self._history if is_meant(place)]
        self._history = deque((each for each in self._history if not is_meant(each[0])), maxlen=_MOST_HISTORY)
        for place, message in again:
            self.append(Kind.RESULT, message, place)
        return sorted({*waiting, *(place.sequence_number for place, _ in again)})

    def depth(self) -> SpoolDepth:
        oldest = next(iter(self._pending.values()), None)
        return SpoolDepth(
            pending=len(self._pending),
            pending_results=len(self._places),
            used_bytes=sum(len(spooled.message.payload) for spooled in self._pending.values()),
            oldest_s=(self._clock() - oldest.created_at).total_seconds() if oldest else 0.0,
            dropped_telemetry=self._dropped,
            dead=self._dead,
        )

    def prune(self) -> None:
        """`append` keeps the bound."""

    def close(self) -> None:
        """Nothing is open."""

    def _make_room(self) -> None:
        """Telemetry goes before events, a result never. Errors: Retryable(SPOOL_FULL)."""
        for kind in (Kind.TELEMETRY, Kind.EVENT):
            row = next((row for row, spooled in self._pending.items() if spooled.kind is kind), None)
            if row is not None:
                del self._pending[row]
                self._dropped += 1
                return
        raise Retryable(FailureCode.SPOOL_FULL, f"{_MOST_PENDING} results wait to be sent")


class MemoryJobBook:
    """Fits the port JobBook."""

    def __init__(self) -> None:
        self._jobs: dict[str, Job] = {}

    def load(self) -> Sequence[Job]:
        return list(self._jobs.values())

    def save(self, job: Job) -> None:
        self._jobs[job.job_id] = job

    def forget(self, job_id: str) -> None:
        self._jobs.pop(job_id, None)


class NoCollection:
    """Fits the port Collection, for boards without pictures."""

    def begin(self, job_id: str) -> Held:
        del job_id
        return Held(0, 0)

    def save(self, job_id: str, name: str, picture: Picture, about: bytes) -> int:
        del job_id, name, picture, about
        raise Permanent(FailureCode.CAMERA_ABSENT, "a simulated board has no pictures")

    def names(self, job_id: str) -> Sequence[str]:
        del job_id
        return ()

    def read(self, job_id: str, name: str) -> bytes:
        raise Permanent(FailureCode.INTERNAL, f"{job_id}: there is no file {name}")

    def remove(self, job_id: str, name: str) -> None:
        """There is none."""

    def discard(self, job_id: str) -> None:
        """There is nothing."""
