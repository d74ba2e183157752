"""Jobs as control drives them: one rig, a clock that the test sets, and lanes, book and server that do as told."""

import json
import queue
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import pytest

from agent.core.frame import Frame, Layout, Order, Picture
from agent.core.job import Held, Job, Refusal, dump, execution, load, read_request
from agent.core.outgoing import Incoming, Outgoing
from agent.errors import AgentError, Permanent, Retryable
from agent.loops.jobs import JobItem, JobParts, Jobs
from agent.loops.jobs.lines import newest
from agent.loops.jobs.loop import MOST_OPEN
from agent.loops.jobs.register import EXPIRY_S, MOST_ENDED
from schemas.codes import FailureCode
from schemas.examples import EXAMPLES
from schemas.job import CollectedPicture, JobExecution
from schemas.recipe import Evaluation
from schemas.result import Defect, Fault, Result, ResultState, Summary
from schemas.topics import Topics

LONG_S = 20.0
T = datetime(2026, 1, 31, 12, tzinfo=UTC)
TOPICS = Topics("site", "node")
PICTURE = Picture(np.zeros((4, 4, 3), np.uint8), Layout.RGB)
FULL = Retryable(FailureCode.DISK_FULL, "the disk is full")
EXAMPLE = EXAMPLES["result"]
assert isinstance(EXAMPLE, Result)


class MemoryBook:
    """Holds what was saved as bytes, as a disk does; fails while told to."""

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}
        self.error: AgentError | None = None

    def load(self) -> Sequence[Job]:
        self._fail()
        return [load(content) for content in reversed(self.files.values())]

    def save(self, job: Job) -> None:
        self._fail()
        self.files[job.job_id] = dump(job)

    def forget(self, job_id: str) -> None:
        self._fail()
        self.files.pop(job_id, None)

    def _fail(self) -> None:
        if self.error is not None:
            raise self.error


class MemoryCollection:
    """Files by job; `save` waits at `gate`, and fails once `room` pictures are there."""

    def __init__(self) -> None:
        self.files: dict[str, dict[str, bytes]] = {}
        self.room = 1000
        self.gate = threading.Event()
        self.gate.set()
        self.saving = threading.Semaphore(0)

    def begin(self, job_id: str) -> Held:
        files = self.files.setdefault(job_id, {})
        return Held(sum(name.endswith(".json") for name in files), sum(map(len, files.values())))

    def save(self, job_id: str, name: str, picture: Picture, about: bytes) -> int:
        self.saving.release()
        assert self.gate.wait(LONG_S)
        if len(self.files[job_id]) // 2 >= self.room:
            raise FULL
        self.files[job_id] |= {f"{name}.png": picture.pixels.tobytes(), f"{name}.json": about}
        return len(about) + picture.pixels.nbytes

    def names(self, job_id: str) -> Sequence[str]:
        return list(self.files[job_id])

    def read(self, job_id: str, name: str) -> bytes:
        return self.files[job_id][name]

    def remove(self, job_id: str, name: str) -> None:
        del self.files[job_id][name]

    def discard(self, job_id: str) -> None:
        self.files.pop(job_id, None)


class MemoryServer:
    """Takes `takes` files, then waits for the stop and says that it was stopped, or fails with `error`."""

    def __init__(self) -> None:
        self.sent: list[str] = []
        self.takes = 1000
        self.error: AgentError | None = None
        self.blocked = threading.Event()

    def put(self, url: str, name: str, content: bytes, stop: threading.Event) -> None:
        if len(self.sent) >= self.takes:
            if self.error is not None:
                raise self.error
            self.blocked.set()
            assert stop.wait(LONG_S)
            raise Retryable(FailureCode.CANCELED, "stopped")
        self.sent.append(f"{url}/{name}")


@dataclass
class Rig:
    """One agent's jobs. `again` is the next process on the same disk."""

    book: MemoryBook = field(default_factory=MemoryBook)
    collection: MemoryCollection = field(default_factory=MemoryCollection)
    server: MemoryServer = field(default_factory=MemoryServer)
    at: datetime = T
    boot: int = 1
    mono_s: float = 1000.0
    takes_orders: bool = True
    orders: list[tuple[str, Order]] = field(default_factory=list)
    withdrawn: list[tuple[str, str]] = field(default_factory=list)
    restarts: int = 0
    sent: list[Outgoing] = field(default_factory=list)
    events: list[FailureCode] = field(default_factory=list)
    benchmarking: threading.Event = field(default_factory=threading.Event)
    measured: "queue.Queue[Mapping[str, Any] | AgentError]" = field(default_factory=queue.Queue)
    lines: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.items: queue.Queue[JobItem] = queue.Queue()
        self.jobs = Jobs(
            JobParts(
                book=self.book,
                collection=self.collection,
                uploader=self.server,
                topics=TOPICS,
                boot_id=f"boot-{self.boot}",
                trigger=self._trigger,
                withdraw=lambda camera, job_id: self.withdrawn.append((camera, job_id)),
                cameras=lambda: ["top", "side"],
                recipes=lambda: {"strict"},
                benchmark=self._benchmark,
                log_lines=lambda count, level: self.lines[-count:],
                restart=self._restart,
                publish=self.sent.append,
                happened=lambda code, source, text: self.events.append(code),
                put=self.items.put,
                now=lambda: self.at,
                monotonic=lambda: self.mono_s,
            )
        )
        self.jobs.begin()

    def _trigger(self, camera: str, order: Order) -> bool:
        if self.takes_orders:
            self.orders.append((camera, order))
        return self.takes_orders

    def _benchmark(self, stop: threading.Event, seconds: float) -> Mapping[str, Any]:
        self.benchmarking.set()
        while not stop.is_set():
            try:
                outcome = self.measured.get(timeout=0.01)
            except queue.Empty:
                continue
            if isinstance(outcome, AgentError):
                raise outcome
            return outcome
        return {}

    def _restart(self) -> None:
        self.restarts += 1

    def ask(self, kind: str, job_id: str = "job-1", /, deadline_s: float | None = None, **document: object) -> None:
        deadline = None if deadline_s is None else (self.at + timedelta(seconds=deadline_s)).isoformat()
        self.send(job_id, {"type": kind, "deadline": deadline, "document": document})

    def send(self, job_id: str, content: Mapping[str, object] | bytes) -> None:
        payload = content if isinstance(content, bytes) else json.dumps({"jobId": job_id, **content}).encode()
        topic = TOPICS.job_request(job_id)
        self.jobs.taken(read_request(Incoming(topic, payload, self.at)), topic)

    def cancel(self, job_id: str = "job-1") -> None:
        self.send(job_id, {"type": "inspect", "cancel": True})

    def shows(self, frame: Frame, result: Result) -> None:
        self.jobs.saw(frame, result)
        self.work_off()

    def work_off(self) -> None:
        while not self.items.empty():
            self.jobs.handle(self.items.get_nowait())

    def settle(self, is_so: Callable[[], bool]) -> None:
        """Work off what the worker's thread tells until it is so."""
        for _ in range(int(LONG_S / 0.02)):
            if is_so():
                return
            try:
                self.jobs.handle(self.items.get(timeout=0.02))
            except queue.Empty:
                continue
        raise AssertionError(f"it is not so: {[status.status for status in self.statuses('job-1')]}")

    def pass_s(self, seconds: float, *, mono_s: float | None = None) -> None:
        self.at += timedelta(seconds=seconds)
        self.mono_s += seconds if mono_s is None else mono_s
        self.jobs.tick()

    def statuses(self, job_id: str = "job-1") -> list[JobExecution]:
        topic = TOPICS.job_status(job_id)
        return [JobExecution.model_validate_json(one.payload) for one in self.sent if one.topic == topic]

    def last(self, job_id: str = "job-1") -> JobExecution:
        return self.statuses(job_id)[-1]

    def words(self, job_id: str = "job-1") -> list[str]:
        return [status.status.value for status in self.statuses(job_id)]

    def again(self) -> "Rig":
        self.jobs.close()
        return Rig(self.book, self.collection, self.server, at=self.at, boot=self.boot + 1, lines=self.lines)


def frame(camera: str = "top", order: Order | None = None, number: int = 0) -> Frame:
    return Frame(PICTURE, camera, number, T, 0.0, 1.0, order)


def result(
    evaluation: Evaluation = Evaluation.OK, *scores: float, number: int = 0, fault: Fault | None = None
) -> Result:
    assert isinstance(EXAMPLE, Result)
    defect: Defect = EXAMPLE.defects[0]
    return EXAMPLE.model_copy(
        update={
            "result_id": f"r-{number}",
            "image": EXAMPLE.image.model_copy(update={"id": f"top.{number}"}),
            "result_state": ResultState.FAILED if fault else ResultState.COMPLETED,
            "result_evaluation": evaluation,
            "fault": fault,
            "defects": [defect.model_copy(update={"score": score}) for score in scores],
            "summary": Summary(defect_count=len(scores), listed_count=len(scores), max_score=0.5, total_area_px=9),
        }
    )


def code(status: JobExecution) -> FailureCode | None:
    return status.failure.code if status.failure else None


def why(status: JobExecution) -> str:
    return status.failure.text if status.failure else ""


# inspect


def test_an_inspection_is_ordered_and_answered_with_its_result() -> None:
    rig = Rig()
    rig.ask("inspect", camera="top", partId="SN-7", lotId="L", recipe="strict")
    ((camera, order),) = rig.orders
    assert (camera, order) == ("top", Order("job-1", part_id="SN-7", lot_id="L", recipe="strict"))
    rig.shows(frame(), result(number=1))  # not the one that was ordered
    assert rig.words() == ["QUEUED", "IN_PROGRESS"]
    rig.shows(frame(order=order), result(Evaluation.NOT_OK, 0.9, 0.8, number=2))
    assert rig.words() == ["QUEUED", "IN_PROGRESS", "SUCCEEDED"]
    assert [status.version_number for status in rig.statuses()] == [1, 2, 3]
    assert rig.last().status_details == {
        "resultId": "r-2", "camera": "top", "evaluation": "NOT_OK", "defectCount": 2
    }  # fmt: skip
    message = rig.sent[-1]
    assert (message.retain, message.expiry_s, message.qos) == (True, 604_800, 1)
    rig.pass_s(3600)
    assert rig.last().status == "SUCCEEDED"


def test_an_inspection_that_judged_nothing_has_failed_with_its_fault() -> None:
    rig = Rig()
    rig.ask("inspect", camera="top")
    fault = Fault(code=FailureCode.NPU_HUNG, text="hung")
    rig.shows(frame(order=rig.orders[0][1]), result(Evaluation.UNDEFINED, fault=fault))
    assert (rig.last().status, code(rig.last())) == ("FAILED", FailureCode.NPU_HUNG)
    assert rig.last().status_details["resultId"] == "r-0"


def test_an_inspection_without_a_result_is_timed_out_and_its_order_withdrawn() -> None:
    rig = Rig()
    rig.ask("inspect", camera="top")
    rig.pass_s(29.0)
    assert rig.last().status == "IN_PROGRESS"
    rig.pass_s(1.5)
    assert (rig.last().status, code(rig.last())) == ("TIMED_OUT", FailureCode.JOB_TIMED_OUT)
    assert "alarms" in why(rig.last())
    assert rig.withdrawn == [("top", "job-1")]
    rig.shows(frame(order=rig.orders[0][1]), result())
    assert rig.last().status == "TIMED_OUT"


def test_an_inspection_is_ordered_anew_from_what_takes_its_cameras_place() -> None:
    rig = Rig()
    rig.ask("inspect", camera="top")
    rig.ask("inspect", "job-2", camera="side")
    rig.jobs.camera_gone("top")
    assert [(camera, order.job_id) for camera, order in rig.orders] == [
        ("top", "job-1"), ("side", "job-2"), ("top", "job-1"),
    ]  # fmt: skip
    rig.shows(frame(order=rig.orders[2][1]), result())
    assert rig.last("job-1").status == "SUCCEEDED"
    assert rig.withdrawn == [("top", "job-1")], "its first picture may have been the answer"
    assert rig.last("job-2").status == "IN_PROGRESS"


def test_a_camera_that_went_and_took_no_order_is_asked_as_before() -> None:
    rig = Rig(takes_orders=False)
    rig.ask("inspect", camera="top")
    rig.jobs.camera_gone("top")
    rig.takes_orders = True
    rig.pass_s(1.0)
    assert [order.job_id for _, order in rig.orders] == ["job-1"]
    rig.shows(frame(order=rig.orders[0][1]), result())
    assert rig.withdrawn == []


def test_a_jump_of_the_wall_clock_is_no_time_that_an_inspection_has_used() -> None:
    rig = Rig()
    rig.ask("inspect", camera="top")
    rig.pass_s(86_400.0, mono_s=1.0)
    assert rig.last().status == "IN_PROGRESS"


def test_a_camera_that_takes_no_order_now_is_asked_again_until_the_time_is_over() -> None:
    rig = Rig(takes_orders=False)
    rig.ask("inspect", camera="top")
    rig.ask("inspect", "job-2", camera="top")
    assert rig.words() == ["QUEUED"]
    rig.pass_s(20.0)
    rig.takes_orders = True
    rig.pass_s(1.0)
    assert [order.job_id for _, order in rig.orders] == ["job-1", "job-2"]
    assert rig.words() == ["QUEUED", "IN_PROGRESS"]
    rig.takes_orders = False
    rig.ask("inspect", "job-3", camera="top")
    rig.pass_s(31.0)
    assert rig.words("job-3") == ["QUEUED", "TIMED_OUT"]


# all jobs


@pytest.mark.parametrize(
    ("kind", "document", "text"),
    [
        ("inspect", {"camera": "roof"}, "roof"),
        ("inspect", {"camera": "top", "recipe": "lax"}, "lax"),
        ("collect", {"cameras": ["top", "roof"]}, "roof"),
    ],
)
def test_what_this_board_does_not_have_is_rejected(kind: str, document: dict[str, Any], text: str) -> None:
    rig = Rig()
    rig.ask(kind, **document)
    assert rig.words() == ["REJECTED"]
    assert text in why(rig.last())
    assert not rig.orders


def test_a_duplicate_gets_the_status_again_and_starts_nothing() -> None:
    rig = Rig()
    rig.ask("inspect", camera="top")
    rig.ask("inspect", camera="side")
    rig.ask("restart")
    assert [status.version_number for status in rig.statuses()] == [1, 2, 2, 2]
    assert len(rig.orders) == 1
    assert not rig.restarts
    rig = rig.again()
    rig.shows(frame(order=rig.orders[0][1]), result())
    before = rig.last()
    rig.pass_s(60)
    rig.ask("inspect", camera="top")
    assert rig.last() == before


def test_a_refused_message_is_told_under_its_topics_id_and_harms_no_job() -> None:
    rig = Rig()
    rig.send("job-1", b"nonsense")
    assert (rig.words(), code(rig.last())) == (["REJECTED"], FailureCode.MESSAGE_MALFORMED)
    rig.ask("inspect", camera="top")
    rig.send("job-1", b"nonsense")
    assert rig.words() == ["REJECTED", "QUEUED", "IN_PROGRESS", "IN_PROGRESS"]
    rig.jobs.taken(Refusal(FailureCode.COMMAND_UNKNOWN, "no job"), "a/topic")
    assert rig.events[-1] is FailureCode.COMMAND_UNKNOWN


def test_a_retained_request_that_is_taken_away_changes_nothing() -> None:
    rig = Rig()
    rig.ask("inspect", camera="top")
    rig.send("job-1", b"")
    assert rig.words() == ["QUEUED", "IN_PROGRESS"]
    assert not rig.events


@pytest.mark.parametrize(
    ("deadline_s", "steps", "words"),
    [
        pytest.param(-1, [], ["TIMED_OUT"], id="came too late"),
        pytest.param(5, [4.0], ["QUEUED", "IN_PROGRESS"], id="not yet"),
        pytest.param(5, [4.0, 1.0], ["QUEUED", "IN_PROGRESS", "TIMED_OUT"], id="passed"),
        pytest.param(5, [-9.0, 10.0], ["QUEUED", "IN_PROGRESS"], id="the clock went back"),
    ],
)
def test_a_deadline_is_judged_by_the_wall_clock(deadline_s: float, steps: list[float], words: list[str]) -> None:
    rig = Rig()
    rig.ask("inspect", deadline_s=deadline_s, camera="top")
    for step in steps:
        rig.pass_s(step, mono_s=0.1)
    assert rig.words() == words


def test_a_cancel_ends_a_known_job_and_is_rejected_for_another() -> None:
    rig = Rig()
    rig.ask("inspect", camera="top")
    rig.cancel()
    rig.cancel()
    assert rig.words() == ["QUEUED", "IN_PROGRESS", "CANCELED", "CANCELED"]
    assert rig.last().version_number == 3
    assert rig.withdrawn == [("top", "job-1")]
    rig.cancel("never-there")
    assert rig.words("never-there") == ["REJECTED"]


def test_a_job_that_cannot_be_stored_is_not_taken_and_may_be_offered_again() -> None:
    rig = Rig()
    rig.book.error = FULL
    with pytest.raises(Retryable):
        rig.ask("inspect", camera="top")
    assert not rig.sent
    assert not rig.orders
    rig.book.error = None
    rig.ask("inspect", camera="top")
    assert rig.words() == ["QUEUED", "IN_PROGRESS"]


def test_a_change_that_cannot_be_stored_is_told_and_stored_later() -> None:
    rig = Rig()
    rig.ask("inspect", camera="top")
    rig.book.error = FULL
    rig.shows(frame(order=rig.orders[0][1]), result())
    rig.pass_s(1)
    assert rig.last().status == "SUCCEEDED"
    assert rig.events == [FailureCode.DISK_FULL]
    rig.book.error = None
    rig.pass_s(1)
    assert load(rig.book.files["job-1"]).status == "SUCCEEDED"


def test_a_book_that_cannot_be_read_is_told_and_new_jobs_are_done() -> None:
    book = MemoryBook()
    book.error = Permanent(FailureCode.INTERNAL, "broken")
    rig = Rig(book)
    assert rig.events == [FailureCode.INTERNAL]
    book.error = None
    rig.ask("logs")
    assert rig.last().status == "SUCCEEDED"


def test_only_so_many_ended_jobs_are_remembered() -> None:
    rig = Rig()
    rig.ask("inspect", "waits", camera="top")
    for number in range(MOST_ENDED + 5):
        rig.ask("logs", f"job-{number}")
    assert len(rig.book.files) == MOST_ENDED + 1
    assert {"waits", f"job-{MOST_ENDED + 4}", "job-5"} <= set(rig.book.files)
    assert "job-4" not in rig.book.files
    assert len(list(rig.again().jobs.statuses())) == MOST_ENDED + 1


def test_too_many_open_jobs_are_rejected() -> None:
    rig = Rig(takes_orders=False)
    for number in range(MOST_OPEN + 1):
        rig.ask("inspect", f"job-{number}", camera="top")
    assert rig.words(f"job-{MOST_OPEN - 1}") == ["QUEUED"]
    assert rig.words(f"job-{MOST_OPEN}") == ["REJECTED"]


def test_statuses_are_announced_for_as_long_as_they_should_stand() -> None:
    rig = Rig()
    rig.ask("logs", "old")
    rig.pass_s(86_400 * 6)
    rig.ask("logs", "new")
    rig.ask("benchmark", "open")
    rig.pass_s(86_400 - 60)
    told = {message.topic: message.expiry_s for message in rig.jobs.statuses()}
    assert told == {
        TOPICS.job_status("old"): 60,
        TOPICS.job_status("new"): EXPIRY_S - 86_400 + 60,
        TOPICS.job_status("open"): EXPIRY_S,
    }
    rig.pass_s(61)
    assert TOPICS.job_status("old") not in {message.topic for message in rig.jobs.statuses()}
    rig.jobs.close()


# restarts


def test_an_inspection_is_ordered_again_after_a_restart_at_most_twice() -> None:
    rig = Rig()
    rig.ask("inspect", camera="top")
    for _ in range(2):
        rig = rig.again()
        assert rig.words() == ["IN_PROGRESS"]
        assert [order.job_id for _, order in rig.orders] == ["job-1"]
    rig = rig.again()
    assert (rig.words(), code(rig.last())) == (["FAILED"], FailureCode.CRASH_LOOP)
    assert rig.last().version_number == 5
    assert not rig.orders


def test_a_deadline_that_passed_while_the_agent_was_away_ends_the_job() -> None:
    rig = Rig()
    rig.ask("inspect", deadline_s=10, camera="top")
    rig.at += timedelta(seconds=11)
    assert rig.again().words()[-1] == "TIMED_OUT"


def test_a_restart_has_succeeded_when_the_next_process_runs() -> None:
    rig = Rig()
    rig.ask("restart")
    rig.pass_s(1)
    assert rig.words() == ["QUEUED", "IN_PROGRESS"]
    assert rig.restarts == 1
    rig = rig.again()
    assert rig.words() == ["SUCCEEDED"]
    assert rig.last().status_details == {"bootId": "boot-2"}
    rig.ask("restart")
    assert rig.restarts == 0


def test_a_restart_that_cannot_be_stored_is_not_done() -> None:
    rig = Rig()
    real = rig.book.save

    def save(job: Job) -> None:
        if job.status == "IN_PROGRESS":
            raise FULL
        real(job)

    rig.book.save = save  # type: ignore[method-assign]
    rig.ask("restart")
    assert rig.restarts == 0
    assert (rig.last().status, code(rig.last())) == ("FAILED", FailureCode.DISK_FULL)


# logs


def test_logs_are_answered_at_once() -> None:
    rig = Rig(lines=[f"line {number}" for number in range(50)])
    rig.ask("logs", lines=3)
    assert rig.words() == ["QUEUED", "IN_PROGRESS", "SUCCEEDED"]
    assert rig.last().status_details == {"lines": ["line 47", "line 48", "line 49"], "isPartial": False}


def test_the_newest_lines_that_fit_are_sent() -> None:
    rig = Rig(lines=[f"{number} " + 'ü"\n\ud800' * 100 for number in range(500)])
    rig.ask("logs", lines=500)
    details = rig.last().status_details
    assert details["isPartial"]
    assert details["lines"][-1].startswith("499 ")
    assert 10_000 < len(rig.sent[-1].payload) <= 16_384
    assert newest([]).lines == []


# benchmark


def test_a_benchmark_runs_beside_and_its_figures_are_the_answer() -> None:
    rig = Rig()
    rig.ask("benchmark", seconds=2)
    assert rig.benchmarking.wait(LONG_S)
    assert rig.words() == ["QUEUED", "IN_PROGRESS"]
    rig.measured.put({"p50Ms": 1.5})
    rig.settle(lambda: rig.last().status == "SUCCEEDED")
    assert rig.last().status_details == {"p50Ms": 1.5}


def test_a_benchmark_that_fails_says_why() -> None:
    rig = Rig()
    rig.measured.put(Permanent(FailureCode.NPU_OUT_OF_MEMORY, "no room"))
    rig.ask("benchmark")
    rig.settle(lambda: rig.last().status == "FAILED")
    assert code(rig.last()) is FailureCode.NPU_OUT_OF_MEMORY


@pytest.mark.parametrize("measured", [3, {"p50Ms": np.float32(1)}, {"p50Ms": float("nan")}])
def test_what_nobody_foresaw_fails_the_job_and_the_next_one_runs(
    measured: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    crashed = threading.Event()
    monkeypatch.setattr(threading, "excepthook", lambda _args: crashed.set())
    rig = Rig()
    rig.measured.put(measured)
    rig.ask("benchmark")
    rig.settle(lambda: rig.last().status == "FAILED")
    assert code(rig.last()) is FailureCode.INTERNAL
    assert crashed.wait(LONG_S)
    rig.measured.put({})
    rig.ask("benchmark", "job-2")
    rig.settle(lambda: rig.last("job-2").status == "SUCCEEDED")


def test_heavy_jobs_take_turns_and_light_ones_do_not_wait_for_them() -> None:
    rig = Rig()
    rig.ask("benchmark", "a")
    rig.ask("benchmark", "b")
    rig.ask("collect", "c", cameras=["top"])
    rig.ask("logs", "d")
    assert [rig.last(job).status for job in "abcd"] == ["IN_PROGRESS", "QUEUED", "QUEUED", "SUCCEEDED"]
    rig.cancel("b")
    rig.measured.put({})
    rig.settle(lambda: rig.last("c").status == "IN_PROGRESS")
    assert [rig.last(job).status for job in "ab"] == ["SUCCEEDED", "CANCELED"]
    rig.jobs.close()


def test_a_canceled_benchmark_is_stopped_and_makes_room_when_it_has_ended() -> None:
    rig = Rig()
    rig.ask("benchmark", "a")
    rig.ask("benchmark", "b", deadline_s=3600)
    rig.cancel("a")
    assert rig.last("b").status == "QUEUED", "the first still runs"
    rig.settle(lambda: rig.last("b").status == "IN_PROGRESS")
    rig.pass_s(3601)
    assert rig.last("b").status == "TIMED_OUT"
    assert rig.words("a")[-1] == "CANCELED"


def test_a_heavy_job_that_had_begun_goes_on_first_after_a_restart() -> None:
    rig = Rig()
    rig.at += timedelta(seconds=60)
    rig.ask("benchmark", "begun")
    rig.at -= timedelta(seconds=120)
    rig.ask("benchmark", "queued")
    rig = rig.again()
    assert rig.last("begun").status == "IN_PROGRESS"
    assert not rig.statuses("queued")
    rig.measured.put({})
    rig.measured.put({})
    rig.settle(lambda: bool(rig.statuses("queued")) and rig.last("queued").status == "SUCCEEDED")


# collect


def collect(rig: Rig, **document: Any) -> None:
    """Return when it takes pictures."""
    before = len(rig.statuses())
    rig.ask("collect", **{"cameras": ["top"], **document})
    assert len(rig.statuses()) > before
    open_for_pictures(rig)


def open_for_pictures(rig: Rig) -> None:
    collecting = rig.jobs._collecting
    assert collecting is not None
    rig.settle(lambda: collecting._is_open)


def test_pictures_are_collected_until_there_are_enough() -> None:
    rig = Rig()
    collect(rig, count=2)
    for number in range(3):
        rig.shows(frame("side", number=number), result(number=90 + number))
        rig.shows(frame(number=number), result(Evaluation.NOT_OK, 0.9, number=number))
    rig.settle(lambda: rig.last().status == "SUCCEEDED")
    files = rig.collection.files["job-1"]
    assert sorted(files) == ["top.0.json", "top.0.png", "top.1.json", "top.1.png"]
    about = CollectedPicture.model_validate_json(files["top.1.json"])
    assert (about.result_id, about.evaluation, about.job_id) == ("r-1", "NOT_OK", "job-1")
    assert [(one.class_name, one.score) for one in about.defects] == [("short", 0.9)]
    details = rig.last().status_details
    assert (details["stage"], details["collected"], details["dropped"]) == ("done", 2, 0)
    assert details["collectedBytes"] == sum(map(len, files.values()))


@pytest.mark.parametrize(
    ("evaluation", "scores", "is_kept"),
    [
        (Evaluation.NOT_DECIDABLE, [], True),
        (Evaluation.OK, [], False),
        (Evaluation.NOT_OK, [0.9], False),
        (Evaluation.NOT_OK, [0.9, 0.5], True),
        (Evaluation.OK, [0.4], True),
        (Evaluation.OK, [0.7], True),
        (Evaluation.OK, [0.39], False),
        (Evaluation.UNDEFINED, [], False),
    ],
)
def test_only_the_uncertain_are_kept_where_they_are_asked_for(
    evaluation: Evaluation, scores: list[float], is_kept: bool
) -> None:
    rig = Rig()
    collect(rig, which="uncertain", count=1)
    rig.shows(frame(), result(evaluation, *scores, number=1))
    rig.shows(frame(), result(Evaluation.NOT_DECIDABLE, number=2))
    rig.settle(lambda: rig.last().status == "SUCCEEDED")
    assert ("top.1.json" in rig.collection.files["job-1"]) is is_kept


def test_what_comes_faster_than_it_can_be_written_is_dropped_and_counted() -> None:
    rig = Rig()
    rig.collection.gate.clear()
    collect(rig, count=5)
    rig.shows(frame(), result(number=0))
    assert rig.collection.saving.acquire(timeout=LONG_S)
    for number in range(1, 8):
        rig.shows(frame(number=number), result(number=number))
    rig.collection.gate.set()
    rig.settle(lambda: rig.last().status == "SUCCEEDED")
    assert (rig.last().status_details["collected"], rig.last().status_details["dropped"]) == (5, 3)


def test_the_time_is_measured_without_the_wall_clock_and_what_is_there_is_a_success() -> None:
    rig = Rig()
    collect(rig, seconds=60, count=99)
    rig.shows(frame(), result())
    rig.settle(lambda: len(rig.collection.files["job-1"]) == 2)
    rig.pass_s(86_400.0, mono_s=1.0)
    assert rig.last().status == "IN_PROGRESS"
    rig.pass_s(1.0, mono_s=60.0)
    rig.settle(lambda: rig.last().status == "SUCCEEDED")
    assert rig.last().status_details["collected"] == 1


@pytest.mark.parametrize(("which", "status"), [("all", "FAILED"), ("uncertain", "SUCCEEDED")])
def test_no_picture_at_all_is_a_failure_and_no_uncertain_one_is_none(which: str, status: str) -> None:
    rig = Rig()
    collect(rig, which=which, seconds=60)
    rig.pass_s(61)
    rig.settle(lambda: rig.last().status == status)
    assert code(rig.last()) is (FailureCode.CAMERA_LOST if status == "FAILED" else None)


def test_a_full_disk_fails_the_job_and_says_how_far_it_came() -> None:
    rig = Rig()
    rig.collection.room = 1
    collect(rig, count=5)
    for number in range(2):
        rig.shows(frame(number=number), result(number=number))
    rig.settle(lambda: rig.last().status == "FAILED")
    assert code(rig.last()) is FailureCode.DISK_FULL
    assert rig.last().status_details["collected"] == 1


def test_progress_is_told_from_time_to_time() -> None:
    rig = Rig()
    collect(rig, count=40)
    for number in range(39):
        rig.mono_s += 1.0
        rig.shows(frame(number=number), result(number=number))
        rig.settle(lambda: rig.collection.saving.acquire(blocking=False))
    rig.settle(lambda: len(rig.collection.files["job-1"]) == 78)
    rig.work_off()
    told = [status.status_details["collected"] for status in rig.statuses() if status.status_details]
    assert 5 <= len(told) <= 8
    assert told == sorted(told)
    rig.jobs.close()


def test_a_canceled_collection_leaves_nothing_and_one_that_is_late_leaves_what_it_has() -> None:
    rig = Rig()
    for job_id in ("canceled", "late"):
        rig.ask("collect", job_id, cameras=["top"], deadline_s=100)
        open_for_pictures(rig)
        rig.shows(frame(), result(number=1))
        rig.settle(lambda job_id=job_id: len(rig.collection.files[job_id]) == 2)  # type: ignore[misc]
        if job_id == "canceled":
            rig.cancel(job_id)
        else:
            rig.pass_s(101)
        rig.settle(lambda: rig.jobs._worker is None)
    assert (rig.last("canceled").status, rig.last("late").status) == ("CANCELED", "TIMED_OUT")
    assert set(rig.collection.files) == {"late"}


def test_a_collection_goes_on_after_a_restart_with_what_it_has() -> None:
    rig = Rig()
    collect(rig, count=2)
    rig.shows(frame(), result(number=1))
    rig.settle(lambda: len(rig.collection.files["job-1"]) == 2)
    rig = rig.again()
    open_for_pictures(rig)
    rig.shows(frame(), result(number=2))
    rig.settle(lambda: rig.last().status == "SUCCEEDED")
    assert rig.last().status_details["collected"] == 2


def test_collected_files_are_sent_and_then_removed() -> None:
    rig = Rig()
    collect(rig, count=2, upload="http://me:secret@host/x")
    for number in (1, 2):
        rig.shows(frame(), result(number=number))
    rig.settle(lambda: rig.last().status == "SUCCEEDED")
    assert rig.server.sent == [
        f"http://me:secret@host/x/top.{number}.{kind}" for number in (1, 2) for kind in ("png", "json")
    ]
    assert rig.collection.files == {}
    assert (rig.last().status_details["collected"], rig.last().status_details["uploaded"]) == (2, 2)
    assert not any(b"secret" in message.payload for message in rig.sent)


@pytest.mark.parametrize("takes", [0, 1, 2, 3])
def test_a_restart_in_the_middle_of_sending_sends_the_rest_alone(takes: int) -> None:
    rig = Rig()
    rig.server.takes = takes
    collect(rig, count=2, upload="http://host")
    for number in (1, 2):
        rig.shows(frame(), result(number=number))
    rig.settle(rig.server.blocked.is_set)
    rig.server.takes = 1000
    rig = rig.again()
    rig.settle(lambda: rig.last().status == "SUCCEEDED")
    assert len(rig.server.sent) == len(set(rig.server.sent)) == 4
    details = rig.last().status_details
    assert (details["collected"], details["uploaded"], details["stage"]) == (2, 2, "done")


def test_a_server_that_does_not_take_the_files_fails_the_job_and_they_stay() -> None:
    rig = Rig()
    rig.server.takes, rig.server.error = 2, Retryable(FailureCode.INTERNAL, "host: answers 500, 5 times")
    collect(rig, count=2, upload="http://host")
    for number in (1, 2):
        rig.shows(frame(), result(number=number))
    rig.settle(lambda: rig.last().status == "FAILED")
    assert rig.last().status_details["uploaded"] == 1
    assert sorted(rig.collection.files["job-1"]) == ["top.2.json", "top.2.png"]


def test_nothing_begins_any_more_when_jobs_are_closed() -> None:
    rig = Rig()
    rig.ask("benchmark", "a")
    rig.ask("benchmark", "b")
    rig.jobs.close()
    rig.settle(lambda: rig.jobs._worker is None)
    rig.jobs.tick()
    assert (rig.last("a").status, rig.last("b").status) == ("IN_PROGRESS", "QUEUED")


def test_lanes_may_show_results_from_any_thread_at_any_time() -> None:
    rig = Rig()
    rig.collection.gate.clear()
    collect(rig, count=1)
    orders = 50
    for number in range(orders):
        rig.ask("inspect", f"i-{number}", camera="top")
    wanted = [order for _, order in rig.orders]

    def lane(start: int) -> None:
        for number in range(start, orders, 2):
            rig.jobs.saw(frame(order=wanted[number], number=number), result(number=number))

    lanes = [threading.Thread(target=lane, args=(start,)) for start in range(2)]
    for thread in lanes:
        thread.start()
    for thread in lanes:
        thread.join()
    rig.collection.gate.set()
    rig.settle(lambda: rig.last().status == "SUCCEEDED")
    rig.work_off()
    for number in range(orders):
        last = rig.last(f"i-{number}")
        assert (last.status, last.status_details["resultId"]) == ("SUCCEEDED", f"r-{number}")


def test_what_is_told_is_what_is_stored() -> None:
    rig = Rig()
    rig.ask("inspect", camera="top")
    assert execution(load(rig.book.files["job-1"])) == rig.last()
