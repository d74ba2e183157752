"""What parent and child say to each other, one datagram a message, over a socket pair.

The parent says `Begin` or `BeginStage` once, pickled because it carries a factory; all else is JSON: what a broken
child says is only ever data. Pictures, tensors and maps never come this way.
"""

import json
from dataclasses import asdict, dataclass
from typing import get_args

from agent.core.model import ModelSpec
from agent.core.stages import StageSpec
from agent.errors import AgentError, Permanent, Retryable
from agent.ports import Runtime, SegmenterFactory, StageFactory
from schemas.codes import FailureCode

MESSAGE_BYTES = 65_536
TEXT_CHARACTERS = 8_000


class Garbled(Exception):
    """The other side said what makes no sense."""


@dataclass(frozen=True, slots=True)
class Begin:
    """`spec` gives the layout of the shared memory; `factory` makes the segmenter."""

    spec: ModelSpec
    factory: SegmenterFactory


@dataclass(frozen=True, slots=True)
class BeginStage:
    """As Begin, for a stage."""

    spec: StageSpec
    factory: StageFactory


@dataclass(frozen=True, slots=True)
class Loaded:
    """The child's segmenter or stage is ready. It answers call 0."""

    call: int
    name: str
    version: str
    driver: str | None

    @property
    def runtime(self) -> Runtime:
        return Runtime(self.name, self.version, self.driver)


@dataclass(frozen=True, slots=True)
class Segment:
    """The first `count` pictures in the shared memory have this shape: answer `call`, which counts from 1 in each
    child.
    """

    call: int
    height_px: int
    width_px: int
    count: int


@dataclass(frozen=True, slots=True)
class Segmented:
    """The maps are in the shared memory. The times are of all pictures of the call together."""

    call: int
    inference_ms: float
    postprocess_ms: float


@dataclass(frozen=True, slots=True)
class Compute:
    """The tensors in the shared memory are for the input shape of this number: answer `call`. The maps of the last
    stage go to the place of `item`.
    """

    call: int
    shape: int
    item: int


@dataclass(frozen=True, slots=True)
class Computed:
    """What the stage gives for `item` is in the shared memory."""

    call: int
    item: int
    inference_ms: float
    postprocess_ms: float


@dataclass(frozen=True, slots=True)
class Failed:
    """The segmenter raised an error of ours; it can be called again, or was never loaded where `call` is 0."""

    call: int
    code: str
    text: str
    delay_s: float | None
    """None where the error is permanent."""

    def __post_init__(self) -> None:
        FailureCode(self.code)  # a ValueError here is a garbled message

    @classmethod
    def of(cls, call: int, error: AgentError) -> "Failed":
        delay_s = error.delay_s if isinstance(error, Retryable) else None
        return cls(call, error.code.value, error.text[:TEXT_CHARACTERS], delay_s)

    @property
    def error(self) -> AgentError:
        code = FailureCode(self.code)
        return Permanent(code, self.text) if self.delay_s is None else Retryable(code, self.text, delay_s=self.delay_s)


Message = Loaded | Segment | Segmented | Compute | Computed | Failed
KINDS: dict[str, type[Message]] = {kind.__name__: kind for kind in get_args(Message)}


def encode(message: Message) -> bytes:
    return json.dumps({"kind": type(message).__name__, **asdict(message)}).encode()


def decode(data: bytes) -> Message:
    """Raise Garbled unless the bytes are one of the messages above."""
    try:
        fields = json.loads(data)
        return KINDS[fields.pop("kind")](**fields)
    except (ValueError, LookupError, TypeError, AttributeError) as error:
        raise Garbled(f"{error!r} in {data[:200]!r}") from error
