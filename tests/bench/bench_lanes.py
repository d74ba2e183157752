"""What three cores give over one: lanes that serve several cameras, with the emulated board's children, each on a core
that a call keeps busy for 20 ms. The results of each camera must be in the order of its frames.

Nothing here measures an NPU. It shows that the agent's side, lanes, turns, a child a core and rknn-toolkit-lite2 itself
in it, lets the cores work at the same time. The pictures are small, because emulation makes all work of the processor
some ten times slower than on a board; the spool only keeps. Needs tests/board/setup.sh.
"""

import json
import os
import statistics
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

import numpy as np

from agent.adapters.segmenter_process import Interpreter, ProcessSegmenter
from agent.adapters.segmenter_rknn import CoreMask, RknnFactory
from agent.core.frame import Frame, Layout, Picture, Pixels
from agent.core.model import ModelSpec
from agent.core.outgoing import Kind as MessageKind
from agent.core.outgoing import Outgoing, Place
from agent.loops.exhibits import Exhibits
from agent.loops.inspect import Loaded
from agent.loops.lane import Lane, LaneParts
from agent.loops.latest import Slots
from agent.loops.ledger import Ledger
from agent.loops.outbox import Outbox
from agent.loops.quarantine import Quarantine
from agent.loops.stats import Stats
from agent.ports import Segmentation
from schemas.result import Result, ResultState
from schemas.target import Target
from tests.board.emulated import DEADLINE_S, PATH, missing, python
from tests.board.emulated_npu import started
from tests.board.toolkit_file import write_bundle
from tests.contract.segmenter_contract import Kind
from tests.unit.lane_bench import BUNDLE, MODEL, NOW, OLD, SIZE, a_plan

BUSY_MS = 20.0
CORES = (CoreMask.CORE_0, CoreMask.CORE_1, CoreMask.CORE_2)
CAMERAS = ("top", "left", "right", "bottom")
RESULTS = 100
"""Of each core in each round."""
ROUNDS = 5
WARM_UP = 20
_LOOK_S = 0.0005


def run() -> dict[str, float | str]:
    """Rates in results a second; the ratio is the median over rounds that measure both, one after the other."""
    if reason := missing():
        return {"skipped": reason}
    with _cores() as cores:
        _rate_hz(cores, WARM_UP)
        rounds = [(_rate_hz(cores[:1], RESULTS), _rate_hz(cores, RESULTS)) for _ in range(ROUNDS)]
    one_hz, three_hz = (statistics.median(column) for column in zip(*rounds, strict=True))
    return {
        "coreBusyMs": BUSY_MS,
        "cameras": len(CAMERAS),
        "oneCoreHz": round(one_hz, 2),
        "threeCoresHz": round(three_hz, 2),
        "ratio": round(statistics.median(three / one for one, three in rounds), 3),
        "shareOfBusyTime": round(one_hz * BUSY_MS / 1_000, 3),
        "resultsInOrder": "all",
    }


class _Core:
    """A child that outlives the lanes of a round."""

    def __init__(self, spec: ModelSpec, core: CoreMask) -> None:
        self.child = ProcessSegmenter(
            RknnFactory(spec, Target.RK3588, core),
            spec,
            deadline_s=DEADLINE_S,
            load_deadline_s=DEADLINE_S,
            interpreter=Interpreter(python(), PATH),
            core=core.name,
        )
        self.runtime = self.child.runtime
        self.shapes = self.child.shapes
        self.batch = self.child.batch

    def segment(self, inputs: Sequence[Pixels]) -> Segmentation:
        return self.child.segment(inputs)

    def segment_all(self, items: Sequence[Sequence[Pixels]]) -> Sequence[Segmentation]:
        return self.child.segment_all(items)

    def close(self) -> None: ...


class _Kept:
    """A spool that only keeps results, and knows when each came."""

    def __init__(self) -> None:
        self.results: list[tuple[float, bytes]] = []

    def append(self, kind: MessageKind, message: Outgoing, place: Place | None = None) -> int:
        self.results.append((time.perf_counter(), message.payload))
        return len(self.results)


@contextmanager
def _cores() -> Iterator[list[_Core]]:
    with started() as npu, tempfile.TemporaryDirectory() as folder, ExitStack() as open_cores:
        os.environ.update(npu.environment)
        open_cores.callback(lambda: [os.environ.pop(name) for name in npu.environment])
        spec = write_bundle(Path(folder), Kind(shapes=((SIZE, SIZE),)))
        npu.add(Path(folder))
        npu.behave(busy_ms=(BUSY_MS,) * 3)
        cores = [_Core(spec, core) for core in CORES]
        for core in cores:
            open_cores.callback(core.child.close)
        yield cores


def _rate_hz(cores: Sequence[_Core], results_each: int) -> float:
    """A lane for each core; every camera always has a picture. Timed from the first result to the last."""
    slots: Slots[Frame] = Slots(CAMERAS)
    kept, stop, enough = _Kept(), threading.Event(), results_each * len(cores)
    outbox = Outbox(kept, "boot", lambda: None)  # type: ignore[arg-type]  # it only appends
    quarantine = Quarantine()
    bodies = [_lane(f"core-{number}", core, slots, (outbox, quarantine)).run for number, core in enumerate(cores)]
    threads = [threading.Thread(target=body, args=(stop,)) for body in bodies]
    for thread in threads:
        thread.start()
    seqs = dict.fromkeys(CAMERAS, 0)
    while len(kept.results) <= enough and any(thread.is_alive() for thread in threads):
        for camera in CAMERAS:
            if not slots[camera].filled:
                slots[camera].put(_frame(camera, seqs[camera]))
                seqs[camera] += 1
        time.sleep(_LOOK_S)
    stop.set()
    slots.stop()
    for thread in threads:
        thread.join()
    _check_order([Result.model_validate_json(payload) for _, payload in kept.results])
    return enough / (kept.results[enough][0] - kept.results[0][0])


def _lane(name: str, core: _Core, slots: Slots[Frame], shared: tuple[Outbox, Quarantine]) -> Lane:
    outbox, quarantine = shared
    loaded = Loaded(core, OLD, MODEL, BUNDLE, {(camera, None): a_plan(camera) for camera in CAMERAS})
    parts = LaneParts(
        outbox=outbox,
        stats=Stats(time.monotonic),
        ledger=Ledger(lambda: None),
        report=lambda _item: None,
        exhibits=Exhibits(None, 0.0, time.monotonic),
        witness=lambda _frame, _result: None,
        retire=lambda _segmenter: None,
        now=lambda: NOW,
        monotonic=time.monotonic,
        new_id=lambda: "result",
        quarantine=quarantine,
    )
    return Lane(name, slots, lambda: loaded, parts)


def _frame(camera: str, seq: int) -> Frame:
    picture = Picture(np.zeros((SIZE, SIZE, 3), np.uint8), Layout.RGB)
    return Frame(picture, camera, seq, NOW, time.monotonic(), 1.0)


def _check_order(results: Sequence[Result]) -> None:
    if any(result.result_state is not ResultState.COMPLETED for result in results):
        raise RuntimeError("a frame was not inspected")
    for camera in CAMERAS:
        seqs = [result.image.frame_id for result in results if result.station.camera == camera]
        if seqs != sorted(seqs) or not seqs:
            raise RuntimeError(f"the results of camera {camera} are not in order")


if __name__ == "__main__":
    print(json.dumps(run(), indent=2))
