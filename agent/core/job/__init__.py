"""Jobs: one-shot work with the states, words and idempotency of AWS IoT Jobs.

The owner (one thread) keeps one `Job` an id. For each request: `job = offered(known, request, now)`; for each thing
that happens: `job = step(job, event, now)`. A job that has changed is stored, then published (`execution`), then acted
upon.
"""

from agent.core.job.machine import (
    ENDS,
    MOST_ATTEMPTS,
    MOVES,
    Began,
    Canceled,
    Event,
    Expired,
    Failed,
    IllegalMove,
    Progressed,
    Refused,
    Resumed,
    Succeeded,
    Turn,
    is_late,
    offered,
    step,
)
from agent.core.job.record import BadJob, Held, Job, dump, execution, load
from agent.core.job.request import MAX_REQUEST_BYTES, Refusal, document_of, read_request, rejected

__all__ = [
    "ENDS",
    "MAX_REQUEST_BYTES",
    "MOST_ATTEMPTS",
    "MOVES",
    "BadJob",
    "Began",
    "Canceled",
    "Event",
    "Expired",
    "Failed",
    "Held",
    "IllegalMove",
    "Job",
    "Progressed",
    "Refusal",
    "Refused",
    "Resumed",
    "Succeeded",
    "Turn",
    "document_of",
    "dump",
    "execution",
    "is_late",
    "load",
    "offered",
    "read_request",
    "rejected",
    "step",
]
