"""What jobs ask of the world. Each Protocol has its contract suite in tests/contract."""

import threading
from collections.abc import Sequence
from typing import Protocol

from agent.core.frame import Picture
from agent.core.job import Held, Job


class JobBook(Protocol):
    """Jobs that must outlive the process. Owned by one thread.

    Errors: Retryable(DISK_FULL), and the job stands in the book as it was; Permanent(INTERNAL) for all else that the
    system refuses. What cannot be read as a job is set aside and left out.
    """

    def load(self) -> Sequence[Job]:
        """All, in no order."""

    def save(self, job: Job) -> None:
        """Durable when it returns; takes the place of what was saved under this id."""

    def forget(self, job_id: str) -> None:
        """An unknown id changes nothing."""


class Collection(Protocol):
    """Pictures that were collected for training, by job: a PNG each, and what was made of it as JSON.

    Owned by one thread at a time. Errors: Retryable(DISK_FULL) where the collection's bound or the disk's reserve would
    be passed, and nothing is then kept of the picture; Permanent(INTERNAL) for all else that the system refuses.
    """

    def begin(self, job_id: str) -> Held:
        """What an earlier process left of this job; pictures that it did not finish are removed."""

    def save(self, job_id: str, name: str, picture: Picture, about: bytes) -> int:
        """Write `{name}.png`, without loss, and `{name}.json`, and return their size in bytes. NV12 is kept as RGB."""

    def names(self, job_id: str) -> Sequence[str]:
        """Files, each picture before what was made of it."""

    def read(self, job_id: str, name: str) -> bytes: ...

    def remove(self, job_id: str, name: str) -> None: ...

    def discard(self, job_id: str) -> None:
        """Remove all that there is of this job."""


class Uploader(Protocol):
    """Sends files by HTTP PUT, and tries again where that may help.

    Errors: Retryable(CANCELED) when `stop` was set, Retryable(UPLOAD_FAILED) where the server did not take the file
    after all attempts, Permanent(NOT_AUTHORIZED), Permanent(COMMAND_INVALID) for what is no URL,
    Permanent(UPLOAD_FAILED) where the server refuses. Their texts never show user info or the query of a URL.
    """

    def put(self, url: str, name: str, content: bytes, stop: threading.Event) -> None:
        """Send to `{url}/{name}`; a query of the URL stays behind the name. Durable at the server when it returns."""
