"""All jobs of one agent: taken, begun, answered."""

from collections.abc import Iterable

from agent.core.frame import Frame
from agent.core.job import (
    Began,
    Canceled,
    Expired,
    Failed,
    Job,
    Progressed,
    Refusal,
    Refused,
    Resumed,
    Succeeded,
    document_of,
    is_late,
    offered,
    rejected,
    step,
)
from agent.core.outgoing import Outgoing
from agent.errors import AgentError
from agent.loops.jobs.collecting import Collecting
from agent.loops.jobs.inspections import Inspections, answer_of
from agent.loops.jobs.lines import newest
from agent.loops.jobs.parts import JobDone, JobItem, JobParts, JobProgress, JobSaw
from agent.loops.jobs.register import Register
from agent.loops.jobs.worker import Benchmarking, Work, Worker
from schemas.codes import FailureCode
from schemas.command import Failure
from schemas.job import (
    BenchmarkDocument,
    CollectDocument,
    InspectDocument,
    JobRequest,
    JobStatus,
    JobType,
    LogsDocument,
)
from schemas.result import Result

MOST_OPEN = 200
_STOP_WITHIN_S = 1.0


class Jobs:
    """Owned by control; `saw` alone may be called from other threads.

    `collect` and `benchmark` run one at a time, in the order in which they came; the others begin at once.
    """

    def __init__(self, parts: JobParts) -> None:
        self._parts = parts
        self._register = Register(parts)
        self._inspections = Inspections(parts, self._register)
        self._worker: Worker | None = None
        self._collecting: Collecting | None = None
        self._is_closed = False

    def begin(self) -> None:
        """Take up what an earlier process left. Call it once, before all else."""
        try:
            self._register.load()
        except AgentError as error:
            self._parts.happened(error.code, "jobs", f"earlier jobs cannot be read: {error.text}")
        for job in self._register.open():
            self._register.move(job, Resumed(self._parts.boot_id))
        self.tick()

    def taken(self, request: JobRequest | Refusal | None, topic: str) -> None:
        """A message on a job's topic, as `read_request` gives it.

        Errors: those of the book, for a job that is new; it is then not taken, and may be offered again.
        """
        if isinstance(request, Refusal):
            self._refuse(request, topic)
        elif request is not None:
            self._take(request)

    def tick(self) -> None:
        """Deadlines, and what waits for its turn. Call it once a second or more often."""
        if self._is_closed:
            return
        now = self._parts.now()
        for job in self._register.open():
            if is_late(job, now):
                self._end(job, Expired(f"not done by the deadline of {job.request.deadline:%Y-%m-%dT%H:%M:%SZ}"))
        self._register.retry()
        self._go_on()

    def handle(self, item: JobItem) -> None:
        match item:
            case JobSaw():
                self._inspections.saw(item)
                self._go_on()
            case JobProgress():
                self._progressed(item)
            case JobDone():
                self._done(item)

    def camera_gone(self, camera: str) -> None:
        """It was taken away or replaced, and its orders with it."""
        for job in self._register.open():
            if job.request.type is JobType.INSPECT and job.request.document["camera"] == camera:
                self._inspections.camera_gone(job)
        self._go_on()

    def saw(self, frame: Frame, result: Result) -> None:
        """A result is committed. For the lanes' threads: quick, and never waits."""
        answer = answer_of(frame, result)
        if answer is not None:
            self._parts.put(answer)
        collecting = self._collecting
        if collecting is not None:
            collecting.offer(frame, result)

    def statuses(self) -> Iterable[Outgoing]:
        """All that should stand retained at the broker."""
        return self._register.statuses()

    def close(self) -> None:
        """End what runs; it goes on in the next process."""
        self._is_closed = True
        self._collecting = None
        if self._worker is not None:
            self._worker.stop()
            self._worker.join(_STOP_WITHIN_S)

    def _refuse(self, refusal: Refusal, topic: str) -> None:
        """Nothing is kept of what is no request: a better one may come under the same id."""
        self._parts.happened(refusal.code, "broker", f"{topic[:200]}: {refusal.text}")
        if refusal.job_id is None:
            return
        known = self._register.get(refusal.job_id)
        if known is not None:
            self._register.tell(known)
        else:
            self._register.publish(rejected(refusal, refusal.job_id, self._parts.now()))

    def _take(self, request: JobRequest) -> None:
        now = self._parts.now()
        known = self._register.get(request.job_id)
        job = offered(known, request, now)
        if known is None:
            failure = self._unfit(request) if job.status is JobStatus.QUEUED else None
            self._register.add(job if failure is None else step(job, Refused(failure), now))
        elif job is known:
            self._register.tell(known)
        else:
            self._end(known, Canceled())
        self._go_on()

    def _unfit(self, request: JobRequest) -> Failure | None:
        """Why this board will not do it, as far as that can be said at once."""
        document = document_of(request)
        cameras: list[str] = []
        text = ""
        if isinstance(document, InspectDocument):
            cameras = [document.camera]
            if document.recipe is not None and document.recipe not in self._parts.recipes():
                text = f"document.recipe: there is no recipe {document.recipe}"
        elif isinstance(document, CollectDocument):
            cameras = document.cameras
        unknown = [camera for camera in cameras if camera not in self._parts.cameras()]
        if unknown:
            text = f"there is no camera {', '.join(unknown)}; there are {', '.join(sorted(self._parts.cameras()))}"
        if len(self._register.open()) >= MOST_OPEN:
            text = f"{MOST_OPEN} jobs wait already: ask again, under a new id"
        return Failure(code=FailureCode.COMMAND_INVALID, text=text[:2000]) if text else None

    def _end(self, job: Job, event: Expired | Canceled) -> None:
        self._register.move(job, event)
        self._inspections.release(job)
        if self._worker is not None and self._worker.job_id == job.job_id:
            if self._collecting is not None and isinstance(event, Canceled):
                self._collecting.forsake()
            self._worker.stop()

    def _go_on(self) -> None:
        """Begin what can begin. What had begun before a restart comes first."""
        if self._is_closed:
            return
        for job in sorted(self._register.open(), key=lambda job: job.status is JobStatus.QUEUED):
            match job.request.type:
                case JobType.INSPECT:
                    self._inspections.go_on(job)
                case JobType.LOGS:
                    self._logs(job)
                case JobType.RESTART:
                    self._restart(job)
                case JobType.COLLECT | JobType.BENCHMARK:
                    self._labour(job)

    def _logs(self, job: Job) -> None:
        document = document_of(job.request)
        assert isinstance(document, LogsDocument)  # noqa: S101  the type's document
        if job.status is JobStatus.QUEUED:
            job = self._register.move(job, Began(self._parts.boot_id))
        output = newest(self._parts.log_lines(document.lines, document.level))
        self._register.move(job, Succeeded(output.model_dump(mode="json", by_alias=True)))

    def _restart(self, job: Job) -> None:
        if job.status is not JobStatus.QUEUED:
            return  # under way
        try:
            # Unless it is stored that this was done, it would be done again at every start.
            self._register.commit(job, Began(self._parts.boot_id))
        except AgentError as error:
            self._register.move(job, Failed(Failure(code=error.code, text=error.text[:2000])))
            return
        self._parts.restart()

    def _labour(self, job: Job) -> None:
        if self._worker is not None:
            return
        if job.status is JobStatus.QUEUED:
            job = self._register.move(job, Began(self._parts.boot_id))
        document = document_of(job.request)
        if isinstance(document, CollectDocument):
            self._collecting = Collecting(job, document, self._parts)
            work: Work = self._collecting
        else:
            assert isinstance(document, BenchmarkDocument)  # noqa: S101  the type's document
            work = Benchmarking(self._parts.benchmark, document.seconds)
        self._worker = Worker(job.job_id, work, self._parts.put)
        self._worker.start()

    def _progressed(self, item: JobProgress) -> None:
        job = self._register.get(item.job_id)
        if job is not None:
            self._register.move(job, Progressed(item.details))
        item.stored.set()

    def _done(self, item: JobDone) -> None:
        self._worker = self._collecting = None
        job = self._register.get(item.job_id)
        if job is not None and not item.was_stopped:
            failed = item.failure
            self._register.move(job, Succeeded(item.details) if failed is None else Failed(failed, item.details))
        self._go_on()
