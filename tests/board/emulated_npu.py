"""Starts the helper process that stands for the NPU, and tells it how to behave. See host_twin."""

import selectors
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.board.emulated import CHECKOUT, DEADLINE_S
from tests.board.host_twin import CONTROL, SOCKET
from tests.board.npu_control import BoardFault, Control

ZOO = CHECKOUT / "modelkit" / "zoo"


@dataclass(frozen=True, slots=True)
class EmulatedNpu:
    """`bundles` is a folder whose subfolders are searched for the twins of models, besides the zoo."""

    folder: Path
    bundles: Path

    @property
    def environment(self) -> dict[str, str]:
        """What a process needs to use this NPU."""
        return {"RKFLEET_NPU_SOCKET": str(self.folder / SOCKET)}

    def behave(self, *faults: BoardFault, **settings: Any) -> None:
        """Fail in these ways from the next call on; `settings` are the fields of Control. All else is healthy."""
        Control(faults=faults, **settings).write(self.folder / CONTROL)

    def add(self, bundle: Path) -> None:
        """Let the twins of that bundle be found."""
        (self.bundles / str(len(list(self.bundles.iterdir())))).symlink_to(bundle)


@contextmanager
def started() -> Iterator[EmulatedNpu]:
    """Run the helper process. Its folder is short: a socket's path has at most 107 bytes."""
    with tempfile.TemporaryDirectory(prefix="npu-") as name:
        npu = EmulatedNpu(Path(name), Path(name, "bundles"))
        npu.bundles.mkdir()
        command = [sys.executable, "-m", "tests.board.host_twin", name, str(ZOO), str(npu.bundles)]
        with subprocess.Popen(command, cwd=CHECKOUT, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
            try:
                _await_ready(process)
                yield npu
            finally:
                assert process.stdin is not None
                process.stdin.close()


def _await_ready(process: subprocess.Popen[bytes]) -> None:
    assert process.stdout is not None
    with selectors.DefaultSelector() as selector:
        selector.register(process.stdout, selectors.EVENT_READ)
        if not selector.select(DEADLINE_S) or process.stdout.readline() != b"ready\n":
            process.kill()
            raise RuntimeError("the helper process did not start")
