"""What three cores give over one: children of the emulated board, each on a core that a call keeps busy for 20 ms.

Nothing here measures an NPU. It shows that the agent's side, a child a core and rknn-toolkit-lite2 itself in it, lets
the cores work at the same time. The pictures are small, because emulation makes all work of the processor some ten
times slower than on a board. Needs tests/board/setup.sh.
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

from agent.adapters.segmenter_process import Interpreter, ProcessSegmenter
from agent.adapters.segmenter_rknn import CoreMask, RknnFactory
from agent.core.frame import Pixels
from agent.core.model import ModelSpec
from schemas.target import Target
from tests.board.emulated import DEADLINE_S, PATH, missing, python
from tests.board.emulated_npu import started
from tests.board.toolkit_file import write_bundle
from tests.contract.probe_model import random_inputs
from tests.contract.segmenter_contract import Kind

BUSY_MS = 20.0
SHAPE = (32, 32)
CORES = (CoreMask.CORE_0, CoreMask.CORE_1, CoreMask.CORE_2)
CALLS = 100
ROUNDS = 5
WARM_UP = 20


def run() -> dict[str, float | str]:
    """Rates in frames a second; the ratio is the median over rounds that measure both, one after the other."""
    if reason := missing():
        return {"skipped": reason}
    with _lanes() as (lanes, inputs):
        _rate_hz(lanes, inputs, WARM_UP)
        rounds = [(_rate_hz(lanes[:1], inputs, CALLS), _rate_hz(lanes, inputs, CALLS)) for _ in range(ROUNDS)]
    one_hz, three_hz = (statistics.median(column) for column in zip(*rounds, strict=True))
    return {
        "coreBusyMs": BUSY_MS,
        "oneCoreHz": round(one_hz, 2),
        "threeCoresHz": round(three_hz, 2),
        "ratio": round(statistics.median(three / one for one, three in rounds), 3),
        "shareOfBusyTime": round(one_hz * BUSY_MS / 1_000, 3),
    }


@contextmanager
def _lanes() -> Iterator[tuple[list[ProcessSegmenter], Sequence[Pixels]]]:
    with started() as npu, tempfile.TemporaryDirectory() as folder, ExitStack() as open_lanes:
        os.environ.update(npu.environment)
        open_lanes.callback(lambda: [os.environ.pop(name) for name in npu.environment])
        spec = write_bundle(Path(folder), Kind(shapes=(SHAPE,)))
        npu.add(Path(folder))
        npu.behave(busy_ms=(BUSY_MS,) * 3)
        lanes = [_lane(spec, core) for core in CORES]
        for lane in lanes:
            open_lanes.callback(lane.close)
        yield lanes, random_inputs(spec, SHAPE, seed=1)


def _lane(spec: ModelSpec, core: CoreMask) -> ProcessSegmenter:
    return ProcessSegmenter(
        RknnFactory(spec, Target.RK3588, core),
        spec,
        deadline_s=DEADLINE_S,
        load_deadline_s=DEADLINE_S,
        interpreter=Interpreter(python(), PATH),
        core=core.name,
    )


def _rate_hz(lanes: Sequence[ProcessSegmenter], inputs: Sequence[Pixels], calls: int) -> float:
    """Every lane makes so many calls on a thread of its own."""

    def work(lane: ProcessSegmenter) -> None:
        ready.wait()
        for _ in range(calls):
            lane.segment(inputs)

    ready = threading.Barrier(len(lanes) + 1)
    threads = [threading.Thread(target=work, args=(lane,)) for lane in lanes]
    for thread in threads:
        thread.start()
    ready.wait()
    started_s = time.perf_counter()
    for thread in threads:
        thread.join()
    return len(lanes) * calls / (time.perf_counter() - started_s)


if __name__ == "__main__":
    print(json.dumps(run(), indent=2))
