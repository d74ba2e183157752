"""What kind of board the emulated one is, and how it fails: a JSON file that may be changed at any time."""

import threading
from enum import IntEnum
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field
from pydantic.alias_generators import to_camel

TEXT_BYTES = 128
Numbers = Literal["right", "zeros", "rolled", "shifted", "stale", "nan"]


class Stage(IntEnum):
    """The call of the runtime that fails."""

    NONE = 0
    INIT = 1
    CORE_MASK = 2
    INPUTS = 3
    RUN = 4
    OUTPUTS = 5
    DESTROY = 6


class _Strict(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", alias_generator=to_camel, populate_by_name=True)


def _short(text: str) -> str:
    if len(text.encode()) >= TEXT_BYTES:
        raise ValueError(f"at most {TEXT_BYTES - 1} bytes")
    return text


class BoardFault(_Strict):
    """What happens at one call of the runtime's C interface. The calls of all processes are counted together.

    `fail` returns `code`; `hang` never returns, and holds its cores until the process ends; `crash` is a segmentation
    fault; `leak` loses `leak_bytes` and goes on; `say` only says `text`, as the others do first.
    """

    stage: Literal["init", "coreMask", "inputs", "run", "outputs", "destroy"]
    action: Literal["fail", "hang", "crash", "leak", "say"]
    code: Annotated[int, Field(ge=-20, le=-1)] = -1
    text: str = ""
    leak_bytes: Annotated[int, Field(ge=0, lt=2**31)] = 0
    core: Annotated[int, Field(ge=0, le=2)] | None = None
    """Only on this core; it is known from `coreMask` on, with an automatic mask in `run` alone."""
    first_call: Annotated[int, Field(ge=0)] = 0
    calls: Annotated[int, Field(ge=1)] | None = None
    """None: for ever."""

    def model_post_init(self, _context: object) -> None:
        _short(self.text)

    @property
    def at(self) -> Stage:
        return Stage[{"coreMask": "CORE_MASK"}.get(self.stage, self.stage.upper())]


class Control(_Strict):
    """All of it. `busy_ms`: how long a call keeps each core at least. `numbers`: what the outputs hold.

    `zeros`; `rolled`, the classes exchanged; `shifted`, 16 pixels to the right; `stale`, the answer to the picture
    before; `nan`.
    """

    busy_ms: tuple[float, float, float] = (0.0, 0.0, 0.0)
    faults: tuple[BoardFault, ...] = ()
    numbers: Numbers = "right"
    runtime_version: str = "2.5.0 (emulated)"
    driver_version: str = "0.9.8"
    newest_format: int = 6
    """An old runtime reads older files only: 5 with 1.6.0."""

    def write(self, path: Path) -> None:
        """Replace the file, whole."""
        part = path.with_suffix(".part")
        part.write_text(self.model_dump_json(by_alias=True, indent=1))
        part.replace(path)


class Orders:
    """The control file as the board obeys it. Any thread may call.

    Calls are counted from the moment at which the file's content changed. Errors: pydantic's ValidationError.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock = threading.Lock()
        self._read: tuple[int, int, int] | None = None
        self._control = Control()
        self._calls: list[int] = []

    @property
    def now(self) -> Control:
        with self._lock:
            return self._refresh()

    def fault_at(self, stage: Stage, cores: frozenset[int]) -> BoardFault | None:
        """The first fault that this call of the runtime, on those cores, is to have."""
        with self._lock:
            faults = self._refresh().faults
            found = None
            for i, fault in enumerate(faults):
                if fault.at is not stage or (fault.core is not None and fault.core not in cores):
                    continue
                call, self._calls[i] = self._calls[i], self._calls[i] + 1
                last = fault.first_call + (fault.calls or 2**63)
                if found is None and fault.first_call <= call < last:
                    found = fault
            return found

    def _refresh(self) -> Control:
        try:
            stat = self._path.stat()
        except FileNotFoundError:
            return self._control
        version = (stat.st_ino, stat.st_mtime_ns, stat.st_size)
        if version != self._read:
            control = Control.model_validate_json(self._path.read_bytes())
            if control != self._control:
                self._control, self._calls = control, [0] * len(control.faults)
            self._read = version
        return self._control
