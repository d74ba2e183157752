"""`inspect`: a picture is ordered, and its result is the answer."""

from dataclasses import dataclass

from agent.core.frame import Frame, Order
from agent.core.job import Began, Expired, Failed, Job, Succeeded, document_of
from agent.loops.jobs.parts import JobParts, JobSaw
from agent.loops.jobs.register import Register
from schemas.command import Failure
from schemas.job import InspectDocument, InspectOutput, JobStatus, JobType
from schemas.result import Result

BUDGET_S = 30.0
"""From the request, or the restart of the agent, to the result."""


@dataclass(slots=True)
class _Wish:
    since_s: float
    is_ordered: bool = False
    is_repeated: bool = False


class Inspections:
    """Owned by control. Orders that a camera does not take now are tried again at each `go_on`."""

    def __init__(self, parts: JobParts, register: Register) -> None:
        self._parts = parts
        self._register = register
        self._wishes: dict[str, _Wish] = {}

    def go_on(self, job: Job) -> None:
        """Order the picture where it is not, and give up when the time is over."""
        document = document_of(job.request)
        assert isinstance(document, InspectDocument)  # noqa: S101  the type's document
        now_s = self._parts.monotonic()
        wish = self._wishes.setdefault(job.job_id, _Wish(now_s))
        if not wish.is_ordered and self._parts.trigger(document.camera, _order(job.job_id, document)):
            wish.is_ordered = True
            if job.status is JobStatus.QUEUED:
                job = self._register.move(job, Began(self._parts.boot_id))
        if now_s - wish.since_s >= BUDGET_S:
            what = "no result" if wish.is_ordered else "no order was taken by the camera"
            text = f"{what} within {BUDGET_S:g} s of camera {document.camera}: see its alarms and whether a model "
            self._register.move(job, Expired(f"{text}inspects, then ask again under a new id"))
            self.release(job)

    def saw(self, item: JobSaw) -> None:
        job = self._register.get(item.job_id)
        if job is None or job.request.type is not JobType.INSPECT or job.status is not JobStatus.IN_PROGRESS:
            return  # it has ended before its picture came
        wish = self._wishes.pop(item.job_id, None)
        if wish is not None and wish.is_repeated:
            self._withdraw(job)  # its first picture was under way after all
        answer = Succeeded(item.details) if item.fault is None else Failed(item.fault, item.details)
        self._register.move(job, answer)

    def release(self, job: Job) -> None:
        """It has ended without a result."""
        if self._wishes.pop(job.job_id, None) is not None:
            self._withdraw(job)

    def camera_gone(self, job: Job) -> None:
        """The camera's orders went with it: what takes its place is to be asked anew."""
        wish = self._wishes.get(job.job_id)
        if wish is not None and wish.is_ordered:
            wish.is_ordered, wish.is_repeated = False, True

    def _withdraw(self, job: Job) -> None:
        self._parts.withdraw(str(job.request.document["camera"]), job.job_id)


def answer_of(frame: Frame, result: Result) -> JobSaw | None:
    """What a result says to the job that ordered its picture; None where none did."""
    if frame.order is None:
        return None
    output = InspectOutput(
        result_id=result.result_id,
        camera=frame.camera,
        evaluation=result.result_evaluation.name,
        defect_count=result.summary.defect_count,
    )
    fault = Failure(code=result.fault.code, text=result.fault.text) if result.fault else None
    return JobSaw(frame.order.job_id, output.model_dump(mode="json", by_alias=True), fault)


def _order(job_id: str, document: InspectDocument) -> Order:
    return Order(
        job_id, document.part_id, document.product_id, document.lot_id, document.work_order_id, document.recipe
    )
