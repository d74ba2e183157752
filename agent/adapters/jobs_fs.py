"""Jobs on disk: one small file each, whole after any crash."""

import hashlib
import logging
from collections.abc import Sequence
from pathlib import Path

from agent.core.job import BadJob, Job, dump, load
from agent.disk import read_bounded, refusal, sealed, unsealed, write_whole

log = logging.getLogger(__name__)

_ENDING, _PARTIAL, _CORRUPT = ".job", ".partial", ".corrupt"
_MOST_BYTES = 1_000_000


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
            raise refusal(error, "jobs") from error
        return [job for job in found if job is not None]

    def save(self, job: Job) -> None:
        path = self._path(job.job_id)
        partial = path.with_suffix(_PARTIAL)
        content = dump(job)
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            write_whole(path, sealed(content), partial)
        except OSError as error:
            raise refusal(error, "jobs") from error

    def forget(self, job_id: str) -> None:
        try:
            self._path(job_id).unlink(missing_ok=True)
        except OSError as error:
            raise refusal(error, "jobs") from error

    def _path(self, job_id: str) -> Path:
        # An id may be as long as a file's name, or differ from another in case alone.
        return self._folder / f"{hashlib.sha256(job_id.encode()).hexdigest()[:40]}{_ENDING}"

    def _read(self, path: Path) -> Job | None:
        try:
            return self._checked(load(_content(path)), path)
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


def _content(path: Path) -> bytes:
    content = unsealed(read_bounded(path, _MOST_BYTES) or b"")
    if content is None:
        raise BadJob("garbled")
    return content
