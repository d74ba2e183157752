"""The processes in which simulated boards run: started, listened to, ended in order."""

import json
import queue
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import IO, Any

BOARDS_A_PROCESS = 1000
_LEAST_A_PROCESS = 50
_LOOK_S = 1.0
_END_WITHIN_S = 15.0
_MOST_COMPLAINT_CHARS = 2000
_SUMS = ("boards", "started", "online", "inspected", "results")


def shares_of(config: Mapping[str, Any], first: int, nodes: int, starts_per_s: float) -> list[dict[str, Any]]:
    """What each process is to simulate: even shares, in as few processes as can do it."""
    processes = max(-(-nodes // BOARDS_A_PROCESS), min(2, nodes // _LEAST_A_PROCESS), 1)
    edges = [first + nodes * at // processes for at in range(processes + 1)]
    return [
        {**config, "first": edges[at], "nodes": edges[at + 1] - edges[at], "startsPerS": starts_per_s / processes}
        for at in range(processes)
    ]


class Crowd:
    """The processes and what they last said. `complaints` are of those that ended by themselves and not in order."""

    def __init__(self, configs: Sequence[Mapping[str, Any]]) -> None:
        self._said: dict[int, dict[str, Any]] = {}
        self._lines: queue.SimpleQueue[tuple[int, str]] = queue.SimpleQueue()
        self.complaints: list[str] = []
        self._ever_online = 0
        self._errors: list[IO[str]] = []
        self._processes = [self._start(config) for config in configs]
        self._listeners = [
            threading.Thread(target=self._listen, args=(number, process), daemon=True)
            for number, process in enumerate(self._processes)
        ]
        for listener in self._listeners:
            listener.start()

    @property
    def standing(self) -> dict[str, Any]:
        """Sums over all processes."""
        said = list(self._said.values())
        sums: dict[str, Any] = {name: sum(each[name] for each in said) for name in _SUMS}
        for name in ("phases", "models"):
            counts: Counter[str] = Counter()
            for each in said:
                counts.update(each[name])
            sums[name] = dict(sorted(counts.items()))
        self._ever_online = max(self._ever_online, sums["online"])
        generation = max((each["generation"] for each in said), default=0)
        return {**sums, "generation": generation, "processes": len(self._processes), "everOnline": self._ever_online}

    def standings(self) -> Iterator[dict[str, Any]]:
        """Once a second, until all processes have ended, or one of them out of order."""
        codes: list[int | None] = [None]
        while None in codes and not any(codes):
            until_s = time.monotonic() + _LOOK_S
            while (left_s := until_s - time.monotonic()) > 0:
                self._take(left_s)
            yield self.standing
            codes = [process.poll() for process in self._processes]
        for listener in self._listeners if None not in codes else ():
            listener.join()
        while not self._lines.empty():
            self._take(0.0)
        yield self.standing

    def end(self) -> None:
        """Boards say goodbye; what hangs is killed."""
        for process in self._processes:
            if process.stdin is not None:
                process.stdin.close()
        deadline_s = time.monotonic() + _END_WITHIN_S
        for process, errors in zip(self._processes, self._errors, strict=True):
            try:
                process.wait(max(0.1, deadline_s - time.monotonic()))
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
            with errors:
                self._complain(process.returncode, errors)
        for listener in self._listeners:
            listener.join()

    def _start(self, config: Mapping[str, Any]) -> "subprocess.Popen[str]":
        errors = tempfile.TemporaryFile("w+")  # noqa: SIM115  closed at the end; a pipe that nobody reads would fill
        self._errors.append(errors)
        process = subprocess.Popen(
            [sys.executable, "-m", "agent.simulate", "--config", "-"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
            start_new_session=True,  # Ctrl-C is for this process, which has them end in order
        )
        assert process.stdin is not None  # noqa: S101  it was asked for
        process.stdin.write(json.dumps(config) + "\n")
        process.stdin.flush()
        return process

    def _listen(self, number: int, process: "subprocess.Popen[str]") -> None:
        assert process.stdout is not None  # noqa: S101  it was asked for
        with process.stdout as said:
            for text in said:
                self._lines.put((number, text))

    def _take(self, wait_s: float) -> None:
        try:
            number, text = self._lines.get(timeout=wait_s) if wait_s > 0 else self._lines.get_nowait()
        except queue.Empty:
            return
        self._said[number] = json.loads(text)

    def _complain(self, code: int, errors: IO[str]) -> None:
        errors.seek(0)
        said = errors.read().strip()[-_MOST_COMPLAINT_CHARS:]
        if code not in {0, -signal.SIGKILL}:
            self.complaints.append(said or f"a process of boards ended with {code}")
