"""What the loops ask of the world. Each Protocol has one contract suite in tests/contract, run on every adapter."""

import threading
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import numpy.typing as npt

from agent.core.frame import Picture, Pixels
from agent.core.outgoing import Accepted, Incoming, Kind, Outgoing, Place, Spooled
from agent.core.rate import Cron, Interval
from schemas.codes import FailureCode

if TYPE_CHECKING:
    # A segmenter's child imports this module, and must not wait for pydantic.
    from agent.core.command import Refusal
    from agent.core.fetch_plan import FetchPlan, Wanted
    from schemas.result import Evidence
    from schemas.state import DesiredModel


@dataclass(frozen=True, slots=True)
class Runtime:
    """Versions of what computes; `driver` is None where there is no NPU driver."""

    name: str
    version: str
    driver: str | None = None


@dataclass(frozen=True, slots=True)
class Segmentation:
    """Shapes: class_map (H, W) uint8, score (H, W) uint8 in 1/255: the softmax of the winning class where class_map is
    not 0, and 0 where it is. The arrays are valid until the next call of the same segmenter. Times are the picture's
    own, or its share of a call that took several.
    """

    class_map: npt.NDArray[np.uint8]
    score: npt.NDArray[np.uint8]
    inference_ms: float
    postprocess_ms: float


class Segmenter(Protocol):
    """One model on one NPU core. Owned by one thread, never shared.

    Shapes: inputs are (H, W, 3) uint8 RGB, C-contiguous, in the order of the manifest's inputs, (H, W) one of
    `shapes`. `segment` is `segment_all` of one item.
    Errors: ShapeMismatch is Permanent(SHAPE_MISMATCH); no output, a timeout, a hang or a crash is Retryable with its
    NPU_* code, and the segmenter can be called again afterwards.
    """

    @property
    def runtime(self) -> Runtime: ...

    @property
    def shapes(self) -> Sequence[tuple[int, int]]: ...

    @property
    def batch(self) -> int:
        """The most pictures that one call takes."""

    def segment(self, inputs: Sequence[Pixels]) -> Segmentation: ...

    def segment_all(self, items: Sequence[Sequence[Pixels]]) -> Sequence[Segmentation]:
        """Each item is the inputs of one picture: 1 to `batch` of them, all of one shape. All are answered, in their
        order, or the call fails.
        """

    def close(self) -> None:
        """Free the model's memory. A second call does nothing."""


class Camera(Protocol):
    """One source of pictures, owned by one capture thread.

    Errors: `open` raises Retryable(CAMERA_ABSENT); `read` raises Retryable(CAMERA_LOST) and Permanent(CAMERA_ENDED)
    when a file that is not looped is at its end. After an error the camera is closed and may be opened again.
    Both come back, with a picture or an error, within a few seconds; `close` may be called from another thread and
    makes a blocked `read` return or raise.
    """

    def open(self) -> None: ...

    def read(self) -> Picture:
        """Block until the next picture."""

    def close(self) -> None:
        """A second call does nothing."""


SegmenterFactory = Callable[[], Segmenter]
"""Loads a model; raises AgentError. A factory for a child process must be picklable."""


class Stage(Protocol):
    """One part of a model that is split, in a process of its own.

    Shapes: tensors are those that its StageSpec says it takes and gives, `shape` being the number of the model's input
    shape; the last stage gives (1, C, H, W) logits or a (1, 1, H, W) class map. Outputs are valid until the next call.
    Errors: as those of Segmenter.
    """

    @property
    def runtime(self) -> Runtime: ...

    def run(self, tensors: Sequence[npt.NDArray[Any]], shape: int) -> Sequence[npt.NDArray[Any]]: ...

    def close(self) -> None:
        """Free the memory. A second call does nothing."""


StageFactory = Callable[[], Stage]
"""As SegmenterFactory."""


@dataclass(frozen=True, slots=True)
class SpoolDepth:
    """What waits to be sent; `used_bytes` counts the sent history too."""

    pending: int
    pending_results: int
    used_bytes: int
    oldest_s: float
    dropped_telemetry: int
    dead: int


class Spool(Protocol):
    """Messages that must outlive the process. Any thread may call; `append` is durable when it returns.

    Bounded by bytes and age: what is sent goes first (oldest first), then telemetry, then events; a result that was
    not sent is never dropped.
    Errors: Retryable(SPOOL_FULL) when only unsent results are left, Retryable(DISK_FULL) when the disk is full,
    Permanent(SPOOL_CORRUPT) when the file cannot be read; nothing is then committed.
    """

    def append(self, kind: Kind, message: Outgoing, place: Place | None = None) -> int:
        """Commit one message and return its row. `place` is for results."""

    def pending(self, after_row: int, limit: int) -> Sequence[Spooled]:
        """Unsent rows in order; expired telemetry is left out."""

    def sent(self, rows: Iterable[int]) -> None:
        """The broker has acknowledged these. Unknown rows are ignored."""

    def refused(self, row: int, reason: str) -> None:
        """The broker will not take this one: a dead letter, kept, counted and never sent by itself."""

    def replay(self, boot_id: str, first: int, last: int) -> Sequence[int]:
        """Make the results of this range unsent again and return the sequence numbers found."""

    def depth(self) -> SpoolDepth: ...

    def prune(self) -> None:
        """Apply the bounds of bytes and age."""

    def close(self) -> None: ...


class Inbox(Protocol):
    """Commands that were acknowledged to the broker and are not yet answered; replies of those that were.

    Any thread may call; `put` and `finish` are durable when they return.
    Errors: Retryable(DISK_FULL); the message must then stay unacknowledged.
    """

    def put(self, message: Incoming) -> int: ...

    def waiting(self) -> Sequence[Accepted]:
        """What was accepted and not finished, in order: also what an earlier process left."""

    def reply_to(self, command_id: str) -> bytes | None:
        """The final reply that this command got, if it is still remembered."""

    def finish(self, row: int, command_id: str | None = None, reply: bytes | None = None) -> None:
        """Forget the message and remember its reply, in one transaction."""

    def next_session(self) -> int:
        """A number that grows with each connection, over restarts too."""

    def close(self) -> None: ...


@dataclass(frozen=True, slots=True)
class Connected:
    """`session_seq` is the number that this connection's will carries."""

    session_present: bool
    receive_maximum: int
    session_seq: int


@dataclass(frozen=True, slots=True)
class Disconnected:
    reason: str
    code: FailureCode


@dataclass(frozen=True, slots=True)
class Delivered:
    """The broker has acknowledged the message of this token."""

    token: int


@dataclass(frozen=True, slots=True)
class Refused:
    """The broker has refused the message of this token with an MQTT 5 reason."""

    token: int
    code: FailureCode
    reason: str


@dataclass(frozen=True, slots=True)
class Reset:
    """The client was made anew: no outcome will come for the tokens that are out."""


LinkEvent = Connected | Disconnected | Delivered | Refused | Reset


class Link(Protocol):
    """The connection to the broker. It connects, reconnects with jitter and subscribes by itself until stopped.

    `report` gets every LinkEvent, `accept` every message on the subscriptions; both are called on the link's own
    thread, must not block for long and must not call the link. The message is acknowledged when `accept` has returned;
    when it raises AgentError it is not, and comes again.
    """

    def start(self, report: Callable[[LinkEvent], None], accept: Callable[[Incoming], None]) -> None: ...

    def publish(self, message: Outgoing, token: int) -> bool:
        """Hand one message over; False when it was not taken (not connected). Its outcome comes as an event."""

    def stop(self, goodbye: Outgoing | None, timeout_s: float) -> None:
        """Publish the goodbye, disconnect and end the thread."""


@dataclass(frozen=True, slots=True)
class NpuFacts:
    load_percent: tuple[float, ...]
    frequency_hz: int | None
    driver: str | None


@dataclass(frozen=True, slots=True)
class HostFacts:
    """None where the machine does not tell."""

    cpu_percent: float | None
    memory_bytes: int
    memory_free_bytes: int | None
    children_memory_bytes: int
    temperature_c: dict[str, float]
    disk_free_bytes: int | None
    disk_total_bytes: int | None
    clock_synced: bool | None
    clock_offset_ms: float | None
    npu: NpuFacts | None
    uptime_s: float | None


class Host(Protocol):
    """The machine we run on. `sample` never raises: what cannot be read is None."""

    def sample(self) -> HostFacts: ...

    def memory_free_bytes(self) -> int | None:
        """As in `sample`, and quick. Any thread may call."""

    def soc(self) -> str | None:
        """`rk3588` and so on, from the device tree; None off the board."""


class Ticker(Protocol):
    """Calls `put` when a schedule is due; `put` only puts something on a queue. A late tick fires once.

    Errors: `add` raises Permanent(CONFIG_INVALID) with the reason for a schedule that cannot be.
    """

    def add(self, name: str, schedule: Interval | Cron, put: Callable[[], None]) -> None:
        """Replaces a schedule of the same name."""

    def remove(self, name: str) -> None: ...

    def check(self, schedule: Interval | Cron, zone: str) -> None:
        """Whether `add` would take the schedule in that time zone; changes nothing."""

    def set_zone(self, zone: str) -> None:
        """The time zone of cron expressions from now on. Errors: Permanent(CONFIG_INVALID)."""

    def start(self) -> None: ...

    def stop(self) -> None: ...


class EvidenceStore(Protocol):
    """Files that belong to results, bounded by bytes: the oldest go first. Owned by one thread.

    Errors: `save` raises Retryable(DISK_FULL) and has then written nothing.
    """

    def save(self, name: str, content: bytes) -> "Evidence":
        """`name` is a plain file name that ends in .jpg, .png or .json."""


class Journal(Protocol):
    """The last content that was written, whole after any crash. Owned by one thread.

    Errors: Retryable(DISK_FULL), and the old content stands; Permanent(INTERNAL) for all else, such as content that
    is garbled.
    """

    def read(self) -> bytes | None:
        """None where nothing was ever written."""

    def write(self, content: bytes) -> None:
        """Durable when it returns."""


class Fetcher(Protocol):
    """Downloads one file.

    Errors: Retryable(DOWNLOAD_FAILED), Retryable(DISK_FULL), Retryable(CANCELED) once `stop` is set;
    Permanent(DOWNLOAD_FAILED) and Permanent(MODEL_DIGEST_MISMATCH) when no URL ever gives the file.
    """

    def fetch(
        self,
        wanted: "Wanted",
        urls: Sequence[str],
        partial: Path,
        stop: threading.Event,
        *,
        progress: Callable[[int], None] | None = None,
    ) -> None:
        """Fill `partial` with the whole, verified file, resuming what is there. `progress` gets its size in bytes."""


class Store(Protocol):
    """Model files by digest. Any thread may call. Errors: Retryable(DISK_FULL), Retryable(INTERNAL)."""

    def has(self, sha256: str) -> bool: ...

    def missing(self, chosen: "FetchPlan") -> "tuple[Wanted, ...]": ...

    def partial(self, sha256: str) -> Path: ...

    def add(self, sha256: str) -> None:
        """Take the partial file in, which the caller has verified."""

    def read(self, sha256: str, max_bytes: int) -> bytes: ...

    def open_bundle(self, manifest_sha256: str) -> Path:
        """The bundle's folder, every file verified anew. Errors: Permanent with a MODEL_* code."""

    def make_room(self, chosen: "FetchPlan", pinned: Collection[str]) -> None:
        """Before a download. `pinned`: digests of the manifests that must stay."""

    def prune(self, pinned: Collection[str]) -> None:
        """When no download is under way."""


class Trust(Protocol):
    """Decides whether the board may take what is desired. Errors: those of Fetcher and Store; Permanent with a MODEL_*
    code or SIGNATURE_INVALID.
    """

    def authorise(self, desired: "DesiredModel", stop: threading.Event) -> "FetchPlan": ...


class Verifier(Protocol):
    """Opens signed messages. Owned by control."""

    def open(self, message: Incoming) -> "Incoming | Refusal":
        """The message that was signed, in the place of its envelope. Never raises, whatever came."""
