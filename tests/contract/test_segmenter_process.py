"""The segmenter contract in a child process, and what a child adds while nothing is lost: see
test_segmenter_process_loss for the rest.
"""

import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from agent.adapters.segmenter_onnx import OnnxFactory
from agent.adapters.segmenter_process import Interpreter, ProcessSegmenter
from agent.core.model import ModelSpec
from agent.errors import AgentError, Permanent, Retryable
from agent.ports import Runtime, Segmentation
from schemas.codes import FailureCode
from tests.contract.faulty_child import (
    PATIENCE_S,
    Call,
    Pipes,
    assert_right,
    assert_works,
    fails,
    ours,
    pid_of,
)
from tests.contract.faulty_segmenters import (
    BALLAST_BYTES,
    SPEC,
    Fault,
    FaultyFactory,
    picture,
)
from tests.contract.probe_model import ProbeContract
from tests.contract.segmenter_contract import BatchContract

Open = Callable[..., ProcessSegmenter]


class TestProcessSegmenter(ProbeContract, BatchContract):
    @classmethod
    def segmenter(cls, spec: ModelSpec) -> ProcessSegmenter:
        return ProcessSegmenter(OnnxFactory(spec), spec, deadline_s=PATIENCE_S, load_deadline_s=PATIENCE_S)

    def test_onnxruntime_is_loaded_in_the_child_alone(self, spec: ModelSpec) -> None:
        script = (
            "import sys; from agent.adapters.segmenter_onnx import OnnxFactory; from agent.core.model import ModelSpec;"
            "from agent.adapters.segmenter_process import ProcessSegmenter;"
            f"spec = {spec!r}; child = ProcessSegmenter(OnnxFactory(spec), spec, deadline_s=60, load_deadline_s=60);"
            "print(child.runtime.name, 'onnxruntime' in sys.modules); child.close()"
        )
        ran = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=60)
        assert ran.stdout.split() == ["onnxruntime", "False"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("faulty")


@pytest.fixture(scope="module")
def pipes(folder: Path) -> Iterator[Pipes]:
    made = Pipes(folder)
    yield made
    made.close()


@pytest.fixture(scope="module")
def shared(folder: Path) -> Iterator[ProcessSegmenter]:
    """One for the tests that leave it usable, so that each costs one start and not two."""
    factory = FaultyFactory(str(folder))
    made = ProcessSegmenter(factory, SPEC, deadline_s=PATIENCE_S, load_deadline_s=PATIENCE_S, core="core 2")
    yield made
    made.close()


@pytest.fixture
def open_child(folder: Path) -> Iterator[Open]:
    opened: list[ProcessSegmenter] = []

    def open_one(
        *, load_deadline_s: float = PATIENCE_S, ballast: bool = False, hang_at_close: bool = False
    ) -> ProcessSegmenter:
        factory = FaultyFactory(str(folder), ballast=ballast, hang_at_close=hang_at_close)
        made = ProcessSegmenter(factory, SPEC, deadline_s=PATIENCE_S, load_deadline_s=load_deadline_s)
        opened.append(made)
        return made

    yield open_one
    for one in opened:
        one.close()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_to_the_whole_group_does_not_break_the_call_in_hand(
    number: signal.Signals, shared: ProcessSegmenter, pipes: Pipes
) -> None:
    assert_works(shared, seed=9)
    pid, restarts = pid_of(shared), shared.restarts
    pixels = picture(9, Fault.WAIT)
    call = Call(shared, pixels)
    pipes.await_entry()
    os.kill(pid, number)
    pipes.release()
    made = call.outcome()
    assert isinstance(made, Segmentation)
    assert_right(made, pixels)
    assert_works(shared, seed=10)
    assert shared.pid == pid
    assert shared.restarts == restarts


def test_errors_of_ours_cross_as_they_are_and_keep_the_child(shared: ProcessSegmenter) -> None:
    assert_works(shared, seed=10)
    pid = shared.pid
    retryable = fails(shared, Fault.RETRYABLE)
    assert isinstance(retryable, Retryable)
    assert (retryable.code, retryable.text) == (FailureCode.NPU_TIMEOUT, "driver: job timeout")
    assert retryable.delay_s == 7.5
    permanent = fails(shared, Fault.PERMANENT)
    assert isinstance(permanent, Permanent)
    assert (permanent.code, permanent.text) == (FailureCode.MODEL_TOO_NEW, "format 9 is newer than 6")
    assert_works(shared, seed=11)
    assert shared.pid == pid


@pytest.mark.parametrize(
    ("fault", "kind", "code"),
    [
        pytest.param(Fault.HANG_WITH_GIL, Retryable, FailureCode.NPU_HUNG, id="hangs"),
        pytest.param(Fault.RAISE, Retryable, FailureCode.NPU_CRASHED, id="foreign exception"),
        pytest.param(Fault.SAY_NOISE, Retryable, FailureCode.NPU_CRASHED, id="says noise"),
        pytest.param(Fault.PERMANENT, Permanent, FailureCode.MODEL_TOO_NEW, id="permanent"),
    ],
)
def test_a_load_that_fails_raises_and_leaves_no_child(
    fault: Fault, kind: type[AgentError], code: FailureCode, folder: Path, open_child: Open
) -> None:
    (folder / "load").write_text(fault.name)
    before = set(psutil.Process().children())
    with pytest.raises(kind) as caught:
        open_child(load_deadline_s=3 if fault is Fault.HANG_WITH_GIL else PATIENCE_S)
    (folder / "load").unlink()
    assert caught.value.code is code
    assert set(psutil.Process().children()) <= before


def test_closing_frees_the_model_and_leaves_nothing(open_child: Open) -> None:
    fds, memories = ours()
    segmenter = open_child(ballast=True)
    assert segmenter.memory_bytes() > BALLAST_BYTES
    assert_works(segmenter, seed=14)
    pid = pid_of(segmenter)
    child_maps = Path(f"/proc/{pid}/maps").read_text()
    assert "memfd:rkfleet-segmenter" in child_maps
    assert "/dev/shm" not in child_maps
    assert ours()[1] == memories + 1
    segmenter.close()
    assert not psutil.pid_exists(pid)
    assert segmenter.pid is None
    assert segmenter.memory_bytes() == 0
    assert ours() == (fds, memories)
    segmenter.close()


def test_a_child_that_hangs_while_it_closes_is_killed(open_child: Open) -> None:
    segmenter = open_child(hang_at_close=True)
    pid = pid_of(segmenter)
    started_s = time.monotonic()
    segmenter.close()
    assert time.monotonic() - started_s < 10
    assert not psutil.pid_exists(pid)


PARENT = """
import sys, threading
from agent.adapters.segmenter_process import ProcessSegmenter
from tests.contract.faulty_segmenters import SPEC, Fault, FaultyFactory, picture
made = []
starter = threading.Thread(target=lambda: made.append(
    ProcessSegmenter(FaultyFactory(sys.argv[2]), SPEC, deadline_s=600, load_deadline_s=600)))
starter.start()
starter.join()
print(made[0].pid, flush=True)
made[0].segment([picture(2, Fault[sys.argv[1]])])
"""


@pytest.mark.parametrize("fault", [Fault.HANG, Fault.HANG_WITH_GIL, Fault.HANG_AND_FLOOD_LOG])
def test_a_child_ends_with_its_parent_though_it_hangs_and_not_with_the_thread_that_started_it(
    fault: Fault, tmp_path: Path
) -> None:
    os.mkfifo(tmp_path / "hung")
    with subprocess.Popen(
        [sys.executable, "-c", PARENT, fault.name, str(tmp_path)],
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    ) as parent:
        assert parent.stdout is not None
        child = os.pidfd_open(int(parent.stdout.readline()))
        hung = os.open(tmp_path / "hung", os.O_RDWR)
        assert select.select([hung], [], [], PATIENCE_S)[0]  # inside a call, long after the thread that started it
        assert not select.select([child], [], [], 0)[0]
        parent.kill()
        assert select.select([child], [], [], PATIENCE_S)[0]
        os.close(child)
        os.close(hung)


def test_versions_come_from_the_child(shared: ProcessSegmenter) -> None:
    assert shared.runtime == Runtime("faulty", "1.0", "0.9")
    assert tuple(shared.shapes) == SPEC.shapes


def test_an_interpreter_that_cannot_be_started_is_an_error_of_ours(tmp_path: Path) -> None:
    missing = Interpreter(command=(str(tmp_path / "python"),))
    with pytest.raises(AgentError, match="no child can be started"):
        ProcessSegmenter(
            FaultyFactory(str(tmp_path)), SPEC, deadline_s=PATIENCE_S, load_deadline_s=PATIENCE_S, interpreter=missing
        )
