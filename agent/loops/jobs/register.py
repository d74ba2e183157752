"""All jobs that are remembered: in memory, in the book, and as retained statuses."""

import logging
from collections.abc import Iterator

from agent.core.job import ENDS, Event, Job, execution, step
from agent.core.outgoing import Outgoing
from agent.errors import AgentError
from agent.loops.jobs.parts import JobParts
from schemas.job import JobExecution

log = logging.getLogger(__name__)

MOST_ENDED = 200
"""Older ones are forgotten: their request would be taken for a new one."""
EXPIRY_S = 7 * 86_400


class Register:
    """Owned by control. A change is stored, then published."""

    def __init__(self, parts: JobParts) -> None:
        self._parts = parts
        self._jobs: dict[str, Job] = {}  # ended ones in the order in which they ended, open ones in that of their queue
        self._unsaved: set[str] = set()

    def load(self) -> None:
        """Errors: those of the book."""
        jobs = self._parts.book.load()
        ended = sorted((job for job in jobs if job.status in ENDS), key=lambda job: job.last_updated_at)
        waiting = sorted((job for job in jobs if job.status not in ENDS), key=lambda job: job.queued_at)
        self._jobs = {job.job_id: job for job in [*ended, *waiting]}
        self._prune()

    def get(self, job_id: str) -> Job | None:
        return self._jobs.get(job_id)

    def open(self) -> list[Job]:
        """In the order of their queue."""
        return [job for job in self._jobs.values() if job.status not in ENDS]

    def add(self, job: Job) -> None:
        """Errors: those of the book; the job is then unknown."""
        self._parts.book.save(job)
        self._enter(job)

    def commit(self, job: Job, event: Event) -> Job:
        """Errors: those of the book; nothing has then changed."""
        later = step(job, event, self._parts.now())
        if later is not job:
            self._parts.book.save(later)
            self._enter(later)
        return later

    def move(self, job: Job, event: Event) -> Job:
        """As `commit`, but what cannot be stored now is stored later."""
        try:
            return self.commit(job, event)
        except AgentError as error:
            if not self._unsaved:
                self._parts.happened(error.code, "jobs", f"job {job.job_id} is not stored: {error.text}")
            self._unsaved.add(job.job_id)
            later = step(job, event, self._parts.now())
            self._enter(later, is_saved=False)
            return later

    def retry(self) -> None:
        """Store what could not be stored before."""
        for job_id in list(self._unsaved):
            try:
                self._parts.book.save(self._jobs[job_id])
            except AgentError as error:
                log.debug("job %s is still not stored: %s", job_id, error.text)
                return
            self._unsaved.discard(job_id)

    def tell(self, job: Job) -> None:
        self.publish(execution(job))

    def publish(self, status: JobExecution) -> None:
        self._parts.publish(self._message(status, EXPIRY_S))

    def statuses(self) -> Iterator[Outgoing]:
        """What should stand retained at the broker, for as long as it still should."""
        now = self._parts.now()
        for job in list(self._jobs.values()):
            age_s = max(0.0, (now - job.last_updated_at).total_seconds()) if job.status in ENDS else 0.0
            if age_s < EXPIRY_S:
                yield self._message(execution(job), max(1, int(EXPIRY_S - age_s)))

    def _message(self, status: JobExecution, expiry_s: int) -> Outgoing:
        topic = self._parts.topics.job_status(status.job_id)
        return Outgoing(topic, status.to_json(), retain=True, expiry_s=expiry_s)

    def _enter(self, job: Job, *, is_saved: bool = True) -> None:
        if job.status in ENDS:
            self._jobs.pop(job.job_id, None)
        self._jobs[job.job_id] = job
        if is_saved:
            self._unsaved.discard(job.job_id)
        self.tell(job)
        self._prune()

    def _prune(self) -> None:
        ended = [job.job_id for job in self._jobs.values() if job.status in ENDS]
        for job_id in ended[: max(0, len(ended) - MOST_ENDED)]:
            try:
                self._parts.book.forget(job_id)
            except AgentError as error:
                log.warning("job %s cannot be forgotten: %s", job_id, error.text)
            del self._jobs[job_id]
            self._unsaved.discard(job_id)
