"""Jobs on disk: one small file each, whole after any crash."""

import errno
import hashlib
import logging
import os
from collections.abc import Sequence
from pathlib import Path

from agent.core.job import BadJob, Job, dump, load
from agent.errors import AgentError, Permanent, Retryable
from schemas.codes import FailureCode

log = logging.getLogger(__name__)

_ENDING, _PARTIAL, _CORRUPT = ".job", ".partial", ".corrupt"
_MOST_BYTES = 1_000_000
_HEAD_BYTES = 65
_FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})


class FolderJobBook:
    """See the port `JobBook`. Each file is the SHA-256 of the job, a line's end, and the job.

    A file that cannot be read as a job is renamed to `NAME.corrupt`, in the place of an older one of this name, and is
    listed in `corrupt_files`; all other jobs stand.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.corrupt_files: list[Path] = []

    def load(self) -> Sequence[Job]:
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            for partial in self._folder.glob(f"*{_PARTIAL}"):
                partial.unlink()
            found = [self._read(path) for path in sorted(self._folder.glob(f"*{_ENDING}"))]
        except OSError as error:
            raise _typed(error) from error
        return [job for job in found if job is not None]

    def save(self, job: Job) -> None:
        path = self._path(job.job_id)
        partial = path.with_suffix(_PARTIAL)
        content = dump(job)
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            try:
                with partial.open("wb") as file:
                    file.write(hashlib.sha256(content).hexdigest().encode() + b"\n" + content)
                    file.flush()
                    os.fsync(file.fileno())
                partial.replace(path)
            except OSError:
                partial.unlink(missing_ok=True)  # a full disk wants its bytes back
                raise
            self._sync()
        except OSError as error:
            raise _typed(error) from error

    def forget(self, job_id: str) -> None:
        try:
            self._path(job_id).unlink(missing_ok=True)
        except OSError as error:
            raise _typed(error) from error

    def _path(self, job_id: str) -> Path:
        # An id may be as long as a file's name, or differ from another in case alone.
        return self._folder / f"{hashlib.sha256(job_id.encode()).hexdigest()[:40]}{_ENDING}"

    def _read(self, path: Path) -> Job | None:
        try:
            with path.open("rb") as file:
                raw = file.read(_MOST_BYTES + 1)
            return self._checked(load(_unwrapped(raw)), path)
        except (BadJob, IsADirectoryError) as error:
            aside = path.with_name(f"{path.name}{_CORRUPT}")
            path.replace(aside)
            self.corrupt_files.append(aside)
            log.error("%s is no job (%s): moved to %s", path, error, aside.name)
            return None

    def _checked(self, job: Job, path: Path) -> Job:
        if self._path(job.job_id) != path:
            raise BadJob(f"the file of another job than {job.job_id}")
        return job

    def _sync(self) -> None:
        handle = os.open(self._folder, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def _unwrapped(raw: bytes) -> bytes:
    content = raw[_HEAD_BYTES:]
    if raw[:_HEAD_BYTES] != hashlib.sha256(content).hexdigest().encode() + b"\n":
        raise BadJob("garbled")
    return content


def _typed(error: OSError) -> AgentError:
    text = f"jobs: {error.strerror or error}: {error.filename}"
    if error.errno in _FULL:
        return Retryable(FailureCode.DISK_FULL, text, delay_s=5.0)
    return Permanent(FailureCode.INTERNAL, text)
