"""The thread of a heavy job: one at a time."""

import json
import threading
from collections.abc import Callable, Mapping
from typing import Any, Protocol

from agent.errors import AgentError
from agent.loops.jobs.parts import JobDone
from schemas.codes import FailureCode
from schemas.command import Failure


class Work(Protocol):
    """`run` blocks until the work is done or `stop` is set, and raises AgentError; `details` may be read meanwhile."""

    def run(self, stop: threading.Event) -> None: ...

    def details(self) -> Mapping[str, Any]: ...


class Benchmarking:
    def __init__(self, benchmark: Callable[[threading.Event, float], Mapping[str, Any]], seconds: float) -> None:
        self._benchmark = benchmark
        self._seconds = seconds
        self._measured: Mapping[str, Any] = {}

    def run(self, stop: threading.Event) -> None:
        # What cannot be a message must fail here, not where control writes the status.
        self._measured = json.loads(json.dumps(dict(self._benchmark(stop, self._seconds)), allow_nan=False))

    def details(self) -> Mapping[str, Any]:
        return self._measured


class Worker:
    """Runs one work on a thread of its own and reports its end, however it comes."""

    def __init__(self, job_id: str, work: Work, report: Callable[[JobDone], None]) -> None:
        self.job_id = job_id
        self._work = work
        self._report = report
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="job", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """Ask only; the end is reported."""
        self._stop.set()

    def join(self, timeout_s: float) -> None:
        self._thread.join(timeout_s)

    def _run(self) -> None:
        failure: Failure | None = Failure(code=FailureCode.INTERNAL, text="the job's thread has crashed: see the log")
        try:
            self._work.run(self._stop)
            failure = None
        except AgentError as error:
            failure = Failure(code=error.code, text=error.text[:2000])
        finally:
            # Also for what nobody foresaw: that goes on to the thread's hook, and the job must not hang meanwhile.
            self._report(JobDone(self.job_id, self._stop.is_set(), dict(self._work.details()), failure))
