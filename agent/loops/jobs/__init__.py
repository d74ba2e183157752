"""One-shot work: inspect, collect, benchmark, logs, restart."""

from agent.loops.jobs.loop import Jobs
from agent.loops.jobs.parts import JobDone, JobItem, JobParts, JobProgress, JobSaw
from agent.loops.jobs.ports import Collection, JobBook, Uploader

__all__ = [
    "Collection",
    "JobBook",
    "JobDone",
    "JobItem",
    "JobParts",
    "JobProgress",
    "JobSaw",
    "Jobs",
    "Uploader",
]
