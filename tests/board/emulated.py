"""A board's Python under qemu, spoken to over pipes. Made ready by setup.sh."""

import hashlib
import os
import pickle
import selectors
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from agent.core.frame import Pixels
from agent.errors import AgentError, Permanent, Retryable
from agent.ports import Runtime, Segmentation, SegmenterFactory
from schemas.codes import FailureCode

HERE = Path(__file__).parent
CHECKOUT = HERE.parent.parent
READY = CHECKOUT / "build" / "board"
ROOT = READY / "root"
PATH = (str(CHECKOUT), str(READY / "site"))
DEADLINE_S = 120.0


def python(root: Path = ROOT) -> tuple[str, ...]:
    """The command of the emulated Python."""
    return ("qemu-aarch64-static", "-L", str(root), str(root / "usr/bin/python3.11"))


def missing() -> str | None:
    """Why the emulated board cannot be used; None when it can."""
    try:
        made_from = (READY / "ready").read_text().strip()
    except FileNotFoundError:
        return "no emulated board: run tests/board/setup.sh"
    digest = hashlib.sha256()
    for path in (HERE / "setup.sh", HERE / "requirements.txt", *sorted((HERE / "runtime").iterdir())):
        digest.update(path.read_bytes())
    return None if digest.hexdigest() == made_from else "the emulated board is out of date: run tests/board/setup.sh"


def own_root(folder: Path) -> Path:
    """Make a root folder in which the device tree and the runtime library can be changed; the rest are links."""
    (folder / "usr/lib").mkdir(parents=True)
    for name in ("lib", "dev", "usr/bin"):
        (folder / name).symlink_to(ROOT / name)
    for entry in (ROOT / "usr/lib").iterdir():
        (folder / "usr/lib" / entry.name).symlink_to(entry)
    shutil.copytree(ROOT / "proc", folder / "proc")
    return folder


class BoardDied(Exception):
    """The emulated process has ended; the text is its exit code and its last words."""


class Board:
    """One emulated process. `log` gets its stderr; `settings` are further variables of its environment."""

    def __init__(self, folder: Path, root: Path, settings: Mapping[str, str] | None = None) -> None:
        self.root = root
        self.log = folder / "stderr.txt"
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(PATH), **(settings or {})}
        with self.log.open("wb") as log:
            self._process = subprocess.Popen(
                [*python(root), HERE / "serve.py"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                cwd=folder,
                env=environment,
            )

    def become(self, chip: str) -> None:
        """What the device tree names from now on. The runtime reads it at each load."""
        (self.root / "proc/device-tree/compatible").write_bytes(f"maker,board\0rockchip,{chip}\0".encode())

    def ask(self, *request: Any) -> Any:
        """Errors: BoardDied; TimeoutError; the AgentError that was raised on the board."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        pickle.dump(request, self._process.stdin)
        self._process.stdin.flush()
        with selectors.DefaultSelector() as selector:
            selector.register(self._process.stdout, selectors.EVENT_READ)
            if not selector.select(DEADLINE_S):
                raise TimeoutError(f"no answer within {DEADLINE_S} s")
        try:
            kind, content = pickle.load(self._process.stdout)
        except EOFError:
            raise BoardDied(f"with {self._process.wait(DEADLINE_S)}: {self.log.read_text()[-2_000:]}") from None
        if kind == "failed":
            retryable, code, text = content
            error: AgentError = (Retryable if retryable else Permanent)(FailureCode(code), text)
            raise error
        return content

    def kill(self) -> None:
        self._process.kill()
        self._process.wait(DEADLINE_S)
        for stream in (self._process.stdin, self._process.stdout):
            assert stream is not None
            stream.close()


class EmulatedSegmenter:
    """The port, answered by a segmenter on the board."""

    def __init__(self, board: Board, factory: SegmenterFactory) -> None:
        self._board = board
        self.number: int
        self._runtime: Runtime
        self._shapes: Sequence[tuple[int, int]]
        self._batch: int
        self.number, self._runtime, self._shapes, self._batch = board.ask("open", factory)

    @property
    def runtime(self) -> Runtime:
        return self._runtime

    @property
    def shapes(self) -> Sequence[tuple[int, int]]:
        return self._shapes

    @property
    def batch(self) -> int:
        return self._batch

    def segment(self, inputs: Sequence[Pixels]) -> Segmentation:
        made: Segmentation = self._board.ask("segment", self.number, inputs)
        return made

    def segment_all(self, items: Sequence[Sequence[Pixels]]) -> Sequence[Segmentation]:
        made: Sequence[Segmentation] = self._board.ask("segment_all", self.number, items)
        return made

    def close(self) -> None:
        self._board.ask("close", self.number)

    def garbage(self, inputs: Sequence[Pixels], calls: int) -> int:
        left: int = self._board.ask("garbage", self.number, inputs, calls)
        return left
