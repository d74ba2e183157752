"""Reading job requests: hostile bytes in, a request or a typed refusal out."""

from dataclasses import dataclass
from datetime import datetime

from pydantic import ValidationError

from agent.core.outgoing import Incoming
from schemas.codes import FailureCode
from schemas.command import Failure
from schemas.job import DOCUMENTS, Document, JobExecution, JobRequest, JobStatus
from schemas.topics import BadTopic, parse

MAX_REQUEST_BYTES = 65_536
_FIRST_YEAR = 1970


@dataclass(frozen=True, slots=True)
class Refusal:
    """`job_id` is the topic's; None where the topic is none of a job's request."""

    code: FailureCode
    text: str
    job_id: str | None = None


def read_request(message: Incoming) -> JobRequest | Refusal | None:
    """Never raises, whatever the topic and the payload are. None for an empty payload: somebody has taken a retained
    request away, which changes nothing.

    The request's document is that of its type, read and written again; that of a cancel is left out.
    """
    job_id = _job_id(message.topic)
    if isinstance(job_id, Refusal):
        return job_id
    if not message.payload:
        return None
    if len(message.payload) > MAX_REQUEST_BYTES:
        text = f"{len(message.payload)} bytes; a request has at most {MAX_REQUEST_BYTES}"
        return Refusal(FailureCode.MESSAGE_TOO_LARGE, text, job_id)
    try:
        request = JobRequest.model_validate_json(message.payload)
    except ValidationError as error:
        return _malformed(error, "request", job_id)
    return _checked(request, job_id)


def _checked(request: JobRequest, job_id: str) -> JobRequest | Refusal:
    if request.job_id != job_id:
        text = f"jobId {request.job_id} on the topic of job {job_id}"
        return Refusal(FailureCode.COMMAND_INVALID, text, job_id)
    if request.deadline is not None and request.deadline.year < _FIRST_YEAR:
        return Refusal(FailureCode.COMMAND_INVALID, f"deadline: before the year {_FIRST_YEAR}", job_id)
    if request.cancel:
        return request.model_copy(update={"document": {}})
    try:
        document = document_of(request)
    except ValidationError as error:
        return _malformed(error, "document", job_id)
    written = document.model_dump(mode="json", by_alias=True, exclude_none=True)
    return request.model_copy(update={"document": written})


def document_of(request: JobRequest) -> Document:
    """Raises pydantic's ValidationError for a request that did not come from `read_request`."""
    return DOCUMENTS[request.type].model_validate(request.document)


def rejected(refusal: Refusal, job_id: str, now: datetime) -> JobExecution:
    """The status of a request that never became a job."""
    failure = Failure(code=refusal.code, text=refusal.text[:2000])
    return JobExecution(
        job_id=job_id,
        status=JobStatus.REJECTED,
        failure=failure,
        queued_at=now,
        last_updated_at=now,
        version_number=1,
    )


def _job_id(topic: str) -> str | Refusal:
    try:
        parsed = parse(topic)
    except BadTopic as error:
        return Refusal(FailureCode.MESSAGE_MALFORMED, str(error)[:500])
    if parsed.family != "job" or parsed.tail != "request":
        text = f"no job is asked for on {parsed.family}/{parsed.name}/{parsed.tail}"
        return Refusal(FailureCode.COMMAND_UNKNOWN, text)
    if not parsed.name.strip("."):
        return Refusal(FailureCode.COMMAND_INVALID, "a job's id has more than dots", parsed.name)
    return parsed.name


def _malformed(error: ValidationError, what: str, job_id: str) -> Refusal:
    problem = error.errors(include_url=False, include_input=False, include_context=False)[0]
    if problem["type"] == "json_invalid":
        return Refusal(FailureCode.MESSAGE_MALFORMED, f"not JSON: {problem['msg']}"[:500], job_id)
    place = ".".join([*(["document"] if what == "document" else []), *(str(part) for part in problem["loc"])]) or what
    return Refusal(FailureCode.COMMAND_INVALID, f"{place}: {problem['msg']}"[:500], job_id)
