"""The job's machine: words and moves of AWS IoT Jobs, and requests from hostile bytes."""

import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from agent.core.job import (
    ENDS,
    MAX_REQUEST_BYTES,
    MOST_ATTEMPTS,
    BadJob,
    Began,
    Canceled,
    Event,
    Expired,
    Failed,
    IllegalMove,
    Job,
    Progressed,
    Refusal,
    Refused,
    Resumed,
    Succeeded,
    dump,
    execution,
    is_late,
    load,
    offered,
    read_request,
    rejected,
    step,
)
from agent.core.outgoing import Incoming
from schemas.codes import FailureCode
from schemas.command import Failure
from schemas.job import JobRequest, JobStatus, JobType
from schemas.topics import Topics

NOW = datetime(2026, 1, 31, 12, tzinfo=UTC)
TOPICS = Topics("a", "b")
FAILURE = Failure(code=FailureCode.NPU_HUNG, text="hung")
DOCUMENTS: dict[JobType, dict[str, object]] = {
    JobType.INSPECT: {"camera": "top"},
    JobType.COLLECT: {"cameras": ["top"]},
    JobType.BENCHMARK: {},
    JobType.LOGS: {},
    JobType.RESTART: {},
}


def request(kind: JobType = JobType.INSPECT, **changes: object) -> JobRequest:
    fields = {"job_id": "job-1", "type": kind, "document": DOCUMENTS[kind], **changes}
    return JobRequest(**fields)  # type: ignore[arg-type]


def after(*events: Event, kind: JobType = JobType.INSPECT) -> Job:
    job = offered(None, request(kind), NOW)
    for event in events:
        job = step(job, event, NOW)
    return job


BEGAN = Began("boot-1")


@pytest.mark.parametrize(
    ("events", "status", "code"),
    [
        pytest.param([], "QUEUED", None, id="taken"),
        pytest.param([BEGAN], "IN_PROGRESS", None, id="begun"),
        pytest.param([BEGAN, Progressed({}), Succeeded()], "SUCCEEDED", None, id="done"),
        pytest.param([BEGAN, Failed(FAILURE)], "FAILED", FailureCode.NPU_HUNG, id="failed"),
        pytest.param([Failed(FAILURE)], "FAILED", FailureCode.NPU_HUNG, id="could not begin"),
        pytest.param([Refused(FAILURE)], "REJECTED", FailureCode.NPU_HUNG, id="not for this board"),
        pytest.param([Expired("late")], "TIMED_OUT", FailureCode.JOB_TIMED_OUT, id="late before it began"),
        pytest.param([BEGAN, Expired("late")], "TIMED_OUT", FailureCode.JOB_TIMED_OUT, id="late at work"),
        pytest.param([Canceled()], "CANCELED", FailureCode.CANCELED, id="canceled before it began"),
        pytest.param([BEGAN, Canceled()], "CANCELED", FailureCode.CANCELED, id="canceled at work"),
        pytest.param([BEGAN, Canceled(), Succeeded(), Expired("")], "CANCELED", FailureCode.CANCELED, id="ended stays"),
        pytest.param([Resumed("boot-2")], "QUEUED", None, id="waits over a restart"),
        pytest.param([BEGAN, Resumed("boot-2")], "IN_PROGRESS", None, id="begun again"),
        pytest.param([BEGAN, Resumed("2"), Resumed("3"), Resumed("4")], "FAILED", FailureCode.CRASH_LOOP, id="3 tries"),
        pytest.param([BEGAN, Resumed("2"), Resumed("2"), Resumed("2")], "IN_PROGRESS", None, id="the same boot"),
    ],
)
def test_a_job_ends(events: list[Event], status: str, code: FailureCode | None) -> None:
    job = after(*events)
    assert job.status.value == status
    assert (job.failure.code if job.failure else None) is code


@pytest.mark.parametrize("event", [Succeeded(), Progressed({})], ids=lambda event: type(event).__name__)
def test_what_cannot_happen_before_the_work_has_begun_is_the_callers_bug(event: Event) -> None:
    with pytest.raises(IllegalMove, match="QUEUED"):
        step(after(), event, NOW)


@pytest.mark.parametrize("event", [BEGAN, Refused(FAILURE)], ids=lambda event: type(event).__name__)
def test_what_cannot_happen_at_work_is_the_callers_bug(event: Event) -> None:
    with pytest.raises(IllegalMove, match="IN_PROGRESS"):
        step(after(BEGAN), event, NOW)


def test_a_restart_has_come_about_when_another_boot_finds_it() -> None:
    job = after(BEGAN, Resumed("boot-1"), kind=JobType.RESTART)
    assert job.status is JobStatus.IN_PROGRESS
    job = step(job, Resumed("boot-2"), NOW)
    assert (job.status, job.details) == (JobStatus.SUCCEEDED, {"bootId": "boot-2"})


def test_each_change_grows_the_version_and_is_dated() -> None:
    later = NOW + timedelta(seconds=5)
    job = step(step(after(), BEGAN, later), Progressed({"n": 1}), later + timedelta(seconds=1))
    status = execution(job)
    assert status.version_number == 3
    assert (status.queued_at, status.started_at) == (NOW, later)
    assert status.last_updated_at == later + timedelta(seconds=1)
    assert status.status_details == {"n": 1}


def test_a_failure_keeps_the_details_of_the_last_progress_unless_it_has_its_own() -> None:
    job = after(BEGAN, Progressed({"n": 1}))
    assert step(job, Failed(FAILURE), NOW).details == {"n": 1}
    assert step(job, Failed(FAILURE, {"n": 2}), NOW).details == {"n": 2}


def test_a_request_that_comes_too_late_is_timed_out_at_once() -> None:
    job = offered(None, request(deadline=NOW), NOW)
    assert job.status is JobStatus.TIMED_OUT
    assert job.failure is not None
    assert "2026-01-31T12:00:00Z" in job.failure.text


def test_a_deadline_counts_to_its_very_moment_and_for_open_jobs_alone() -> None:
    job = offered(None, request(deadline=NOW + timedelta(seconds=1)), NOW)
    assert not is_late(job, NOW)
    assert is_late(job, NOW + timedelta(seconds=1))
    assert not is_late(step(job, Canceled(), NOW), NOW + timedelta(days=1))
    assert not is_late(after(), NOW + timedelta(days=999))


def test_a_duplicate_changes_nothing_whatever_else_it_says() -> None:
    job = after(BEGAN)
    assert offered(job, request(), NOW) is job
    assert offered(job, request(JobType.RESTART, deadline=NOW), NOW) is job
    done = step(job, Succeeded(), NOW)
    assert offered(done, request(cancel=True), NOW) is done


def test_a_cancel_ends_the_job_it_names_and_no_other() -> None:
    assert offered(after(BEGAN), request(cancel=True), NOW).status is JobStatus.CANCELED
    unknown = offered(None, request(cancel=True), NOW)
    assert unknown.status is JobStatus.REJECTED
    assert unknown.failure is not None
    assert unknown.failure.code is FailureCode.COMMAND_INVALID


@pytest.mark.parametrize(
    "broken",
    [
        b"",
        b"{}",
        b"[" * 100_000,
        b"\xff",
        dump(after()).replace(b'"camera":"top"', b'"camera":7'),
        dump(after()).replace(b"rkfleet.job/1", b"rkfleet.job/2"),
        dump(after()).replace(b'"QUEUED"', b'"IN_PROGRESS"'),
        dump(after()).replace(b'"version":1', b'"version":0'),
        b" " * 300_000,
    ],
)
def test_what_was_not_written_by_us_is_no_job(broken: bytes) -> None:
    with pytest.raises(BadJob):
        load(broken)


def incoming(payload: bytes, topic: str = TOPICS.job_request("job-1"), *, retain: bool = False) -> Incoming:
    return Incoming(topic, payload, NOW, retain=retain)


def asked(**fields: object) -> bytes:
    return json.dumps({"jobId": "job-1", "type": "inspect", "document": {"camera": "top"}} | fields).encode()


def test_a_request_is_read_and_its_document_is_that_of_its_type() -> None:
    payload = asked(type="collect", document={"cameras": ["top"], "count": 5}, later=1)
    found = read_request(incoming(payload, retain=True))
    assert isinstance(found, JobRequest)
    assert found.document == {
        "cameras": ["top"], "count": 5, "seconds": 600.0, "which": "all", "band": [0.4, 0.7]
    }  # fmt: skip


def test_a_retained_request_that_was_taken_away_is_nothing() -> None:
    assert read_request(incoming(b"")) is None


def test_a_cancel_needs_no_document_and_keeps_none() -> None:
    found = read_request(incoming(asked(cancel=True, document={"what": "ever"})))
    assert isinstance(found, JobRequest)
    assert (found.cancel, found.document) == (True, {})


@pytest.mark.parametrize(
    ("payload", "code", "text"),
    [
        (b"nonsense", FailureCode.MESSAGE_MALFORMED, "not JSON"),
        (b" " * (MAX_REQUEST_BYTES + 1), FailureCode.MESSAGE_TOO_LARGE, str(MAX_REQUEST_BYTES)),
        (b"null", FailureCode.COMMAND_INVALID, "request"),
        (asked(jobId="another"), FailureCode.COMMAND_INVALID, "another"),
        (asked(type="fly"), FailureCode.COMMAND_INVALID, "type"),
        (asked(deadline="tomorrow"), FailureCode.COMMAND_INVALID, "deadline"),
        (asked(deadline="2026-01-31T12:00:00"), FailureCode.COMMAND_INVALID, "zone"),
        (asked(deadline="0001-01-01T00:00:00+14:00"), FailureCode.COMMAND_INVALID, "deadline"),
        (asked(deadline="0010-01-01T00:00:00Z"), FailureCode.COMMAND_INVALID, "deadline"),
        (asked(document={}), FailureCode.COMMAND_INVALID, "document.camera"),
        (asked(document={"camera": "top", "partID": "x"}), FailureCode.COMMAND_INVALID, "partID"),
        (asked(document={"camera": "../../etc"}), FailureCode.COMMAND_INVALID, "document.camera"),
        (asked(type="collect", document={"cameras": []}), FailureCode.COMMAND_INVALID, "document.cameras"),
        (
            asked(type="collect", document={"cameras": ["a"], "upload": "file:///etc/passwd"}),
            FailureCode.COMMAND_INVALID,
            "document.upload",
        ),
        (
            asked(type="collect", document={"cameras": ["a"], "band": [0.9, 0.1]}),
            FailureCode.COMMAND_INVALID,
            "band",
        ),
        (
            b'{"jobId": "job-1", "type": "benchmark", "document": {"seconds": NaN}}',
            FailureCode.COMMAND_INVALID,
            "document.seconds",
        ),
        (asked(type="logs", document={"lines": 10**30}), FailureCode.COMMAND_INVALID, "document.lines"),
        (asked(type="restart", document={"now": True}), FailureCode.COMMAND_INVALID, "document.now"),
    ],
)
def test_what_is_no_request_is_refused_with_the_place_of_the_mistake(
    payload: bytes, code: FailureCode, text: str
) -> None:
    refusal = read_request(incoming(payload))
    assert isinstance(refusal, Refusal)
    assert (refusal.code, refusal.job_id) == (code, "job-1")
    assert text in refusal.text
    status = rejected(refusal, "job-1", NOW)
    assert (status.status, status.version_number) == (JobStatus.REJECTED, 1)


@pytest.mark.parametrize(
    ("topic", "code", "job_id"),
    [
        ("elsewhere", FailureCode.MESSAGE_MALFORMED, None),
        (TOPICS.command("ping"), FailureCode.COMMAND_UNKNOWN, None),
        (TOPICS.job_status("job-1"), FailureCode.COMMAND_UNKNOWN, None),
        (TOPICS.job_request(".."), FailureCode.COMMAND_INVALID, ".."),
        ("rkfleet/v1/a/b/job/job-1/request/x", FailureCode.MESSAGE_MALFORMED, None),
        ("rkfleet/v1/a/b/job//request", FailureCode.MESSAGE_MALFORMED, None),
    ],
)
def test_a_request_comes_on_a_jobs_topic(topic: str, code: FailureCode, job_id: str | None) -> None:
    refusal = read_request(incoming(asked(), topic))
    assert isinstance(refusal, Refusal)
    assert (refusal.code, refusal.job_id) == (code, job_id)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=10), inner, max_size=3),
    max_leaves=8,
)
FIELDS = st.sampled_from(
    ["camera", "cameras", "count", "seconds", "which", "band", "upload", "lines", "level", "recipe", "partId"]
)


@settings(max_examples=300)
@given(
    st.sampled_from([TOPICS.job_request("job-1"), TOPICS.job_request("x"), TOPICS.command("ping"), "\0", "a/#", ""]),
    st.binary(max_size=300)
    | st.builds(
        lambda kind, deadline, document: json.dumps(
            {"jobId": "job-1", "type": kind, "deadline": deadline, "document": document}
        ).encode(),
        st.sampled_from([*JobType, "x"]),
        st.none() | st.text(max_size=30) | st.datetimes().map(lambda when: f"{when.isoformat()}+14:00"),
        st.dictionaries(FIELDS, JSON, max_size=4) | JSON,
    ),
)
def test_any_bytes_are_read_or_refused_and_what_is_read_can_be_kept(topic: str, payload: bytes) -> None:
    found = read_request(incoming(payload, topic))
    if isinstance(found, JobRequest):
        job = offered(None, found, NOW)
        assert load(dump(job)) == replace(job, request=load(dump(job)).request)
        assert execution(job).to_json()
    else:
        assert found is None or (found.text and rejected(found, "x", NOW).to_json())


class Play(RuleBasedStateMachine):
    """Requests, duplicates, cancels, deadlines, work and restarts in any order, with the record written and read."""

    def __init__(self) -> None:
        super().__init__()
        self.now = NOW
        self.boot = 1
        self.job: Job | None = None
        self.history: list[Job] = []
        self.begun = 0

    def become(self, later: Job) -> None:
        self.job = later
        if not self.history or later is not self.history[-1]:
            self.history.append(later)

    def happens(self, event: Event) -> None:
        assert self.job is not None
        self.become(step(self.job, event, self.now))

    @rule(kind=st.sampled_from(JobType), seconds=st.none() | st.integers(-5, 60), cancel=st.booleans())
    def request_comes(self, kind: JobType, seconds: int | None, cancel: bool) -> None:
        deadline = None if seconds is None else self.now + timedelta(seconds=seconds)
        asked = request(kind, deadline=deadline, cancel=cancel)
        before = self.job
        later = offered(before, asked, self.now)
        if before is not None and (not cancel or before.status in ENDS):
            assert later is before, "a duplicate starts and changes nothing"
        if before is None and cancel:
            assert later.status is JobStatus.REJECTED
        if before is None and deadline is not None and deadline <= self.now and not cancel:
            assert later.status is JobStatus.TIMED_OUT
        self.become(later)

    @precondition(lambda self: self.job is not None)
    @rule(seconds=st.integers(-3600, 3600))
    def time_passes(self, seconds: int) -> None:
        self.now += timedelta(seconds=seconds)
        assert self.job is not None
        if is_late(self.job, self.now):
            self.happens(Expired("the deadline has passed"))
            assert self.job.status is JobStatus.TIMED_OUT

    @precondition(lambda self: self.job is not None and self.job.status is JobStatus.QUEUED)
    @rule()
    def work_begins(self) -> None:
        self.begun += 1
        self.happens(Began(f"boot-{self.boot}"))

    @precondition(lambda self: self.job is not None and self.job.status is not JobStatus.QUEUED)
    @rule(event=st.sampled_from([Progressed({"n": 1}), Succeeded({"n": 2}), Failed(FAILURE)]))
    def outcome_comes(self, event: Event) -> None:
        self.happens(event)

    @precondition(lambda self: self.job is not None)
    @rule()
    def agent_restarts(self) -> None:
        assert self.job is not None
        self.boot += 1
        before = load(dump(self.job))
        assert before == self.job
        later = step(before, Resumed(f"boot-{self.boot}"), self.now)
        if before.status is JobStatus.IN_PROGRESS:
            if before.request.type is JobType.RESTART:
                assert later.status is JobStatus.SUCCEEDED
            elif later.status is JobStatus.IN_PROGRESS:
                self.begun += 1
            else:
                assert self.begun == MOST_ATTEMPTS
        else:
            assert later == before
        self.job = before
        self.become(later if later != before else before)

    @invariant()
    def what_has_ended_never_changes(self) -> None:
        ended = next((job for job in self.history if job.status in ENDS), None)
        assert ended is None or self.history[-1] == ended

    @invariant()
    def versions_grow_and_the_request_stays(self) -> None:
        for before, later in zip(self.history, self.history[1:], strict=False):
            assert later == before or later.version == before.version + 1
            assert later.request == before.request

    @invariant()
    def it_is_begun_at_most_so_often(self) -> None:
        assert self.begun <= MOST_ATTEMPTS
        assert self.job is None or self.job.attempts <= MOST_ATTEMPTS

    @invariant()
    def what_did_not_succeed_says_why(self) -> None:
        if self.job is not None and self.job.status in ENDS:
            assert (self.job.failure is None) == (self.job.status is JobStatus.SUCCEEDED)


TestPlay = Play.TestCase
TestPlay.settings = settings(max_examples=80, stateful_step_count=25, deadline=None)
