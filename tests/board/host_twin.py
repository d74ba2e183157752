"""The NPU of the emulated board: a process on the host that computes with the ONNX twins of the models.

`python -m tests.board.host_twin FOLDER BUNDLES...` listens on FOLDER/npu.sock, obeys FOLDER/board.json (see
npu_control.Control), looks for bundles in the folders named, and says `ready` on stdout. It runs until stdin closes.
The words are those of runtime/npu.h.
"""

import contextlib
import os
import socketserver
import struct
import sys
import threading
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from pydantic import ValidationError

from tests.board.npu_control import TEXT_BYTES, BoardFault, Orders, Stage
from tests.board.npu_cores import Cores
from tests.board.rknn_tensors import Unreadable
from tests.board.twins import Given, NoTwin, Twin, Twins, distort, parse_run

SOCKET = "npu.sock"
CONTROL = "board.json"
MODEL_INVALID = -6
DEVICE_UNAVAILABLE = -3
_ACTIONS = {"hang": 1, "crash": 2}
_REQUEST = struct.Struct("<2I")
_ORDER = struct.Struct(f"<i3I{TEXT_BYTES}s")
_BOARD = struct.Struct("<I64s64s")
_MOST_REQUEST_BYTES = 2**30


@dataclass(frozen=True, slots=True)
class Npu:
    """What all connections share."""

    orders: Orders
    cores: Cores
    twins: Twins


@dataclass(frozen=True, slots=True)
class Order:
    """What the runtime is to do; the payload goes with it only where the code is 0."""

    payload: bytes = b""
    code: int = 0
    action: int = 0
    leak_bytes: int = 0
    text: str = ""

    @classmethod
    def of(cls, fault: BoardFault, payload: bytes) -> "Order":
        code = fault.code if fault.action == "fail" else 0
        leak_bytes = fault.leak_bytes if fault.action == "leak" else 0
        return cls(payload, code, _ACTIONS.get(fault.action, 0), leak_bytes, fault.text)

    def to_bytes(self) -> bytes:
        payload = b"" if self.code else self.payload
        text = self.text.encode()[: TEXT_BYTES - 1]
        return _ORDER.pack(self.code, self.action, self.leak_bytes, len(payload), text) + payload


class Context(socketserver.StreamRequestHandler):
    """One context of the runtime, on a thread of its own."""

    server: "Server"

    def setup(self) -> None:
        super().setup()
        self._npu = self.server.npu
        self._twin: Twin | None = None
        self._mask_cores: frozenset[int] = frozenset()
        self._last: list[npt.NDArray[np.float32]] | None = None

    def handle(self) -> None:
        with contextlib.suppress(ConnectionError):  # a child that is killed does not say goodbye
            while len(head := self.rfile.read(_REQUEST.size)) == _REQUEST.size:
                stage, size = _REQUEST.unpack(head)
                payload = self.rfile.read(min(size, _MOST_REQUEST_BYTES))
                try:
                    self._answer(stage, payload)
                except (NoTwin, Unreadable) as error:
                    self._send(Order(code=MODEL_INVALID, text=str(error)))
                except ValidationError as error:
                    self._send(Order(code=DEVICE_UNAVAILABLE, text=f"{CONTROL}: {error}"))

    def _answer(self, stage: int, payload: bytes) -> None:
        if stage == Stage.NONE:
            now = self._npu.orders.now
            versions = (now.runtime_version.encode()[:63], now.driver_version.encode()[:63])
            self._send(Order(_BOARD.pack(now.newest_format, *versions)))
        elif stage == Stage.RUN:
            self._run(payload)
        else:
            made = self._load(payload) if stage == Stage.INIT and payload else b""
            if stage == Stage.CORE_MASK:
                mask = int.from_bytes(payload, "little")
                self._mask_cores = frozenset(core for core in range(3) if mask >> core & 1)
            fault = self._npu.orders.fault_at(Stage(stage), self._mask_cores)
            self._send(Order.of(fault, made) if fault else Order(made))

    def _load(self, file: bytes) -> bytes:
        self._twin = self._npu.twins.find(file)
        return self._twin.tensors.to_bytes()

    def _run(self, payload: bytes) -> None:
        mask, cores, shape, given = parse_run(payload)
        with self._npu.cores.hold(mask, cores) as held:
            started_s = time.monotonic()
            fault = self._npu.orders.fault_at(Stage.RUN, held)
            if fault and fault.action == "hang":
                self._send(Order.of(fault, b""))
                self.rfile.read(1)  # the cores are free again once the process is gone
                return
            computes = self._twin is not None and not (fault and fault.action == "fail")
            made = self._compute(self._twin, shape, given) if self._twin and computes else b""
            busy_s = max(self._npu.orders.now.busy_ms[core] for core in held) / 1_000
            time.sleep(max(0.0, started_s + busy_s - time.monotonic()))
        self._send(Order.of(fault, made) if fault else Order(made))

    def _compute(self, twin: Twin, shape: int, given: list[Given]) -> bytes:
        right = twin.run(shape, given)
        made = distort(self._npu.orders.now.numbers, right, self._last)
        self._last = right
        return b"".join(output.tobytes() for output in made)

    def _send(self, order: Order) -> None:
        self.wfile.write(order.to_bytes())


class Server(socketserver.ThreadingMixIn, socketserver.UnixStreamServer):
    daemon_threads = True
    request_queue_size = 64

    def __init__(self, folder: Path, bundles: list[Path]) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / SOCKET).unlink(missing_ok=True)  # an earlier process may have left it
        self.npu = Npu(Orders(folder / CONTROL), Cores(), Twins(bundles))
        super().__init__(str(folder / SOCKET), Context)


def main() -> None:
    folder, *bundles = (Path(word) for word in sys.argv[1:])
    with Server(folder, bundles) as server:
        threading.Thread(target=server.serve_forever, name="npu", daemon=True).start()
        print("ready", flush=True)
        while os.read(0, 4096):
            pass
        server.shutdown()


if __name__ == "__main__":
    main()
