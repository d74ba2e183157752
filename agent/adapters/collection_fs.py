"""Pictures collected for training, in a folder for each job."""

import os
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2

from agent.core import vision
from agent.core.frame import Picture
from agent.core.job import Held
from agent.disk import refusal
from agent.errors import AgentError, Permanent, Retryable
from schemas.codes import FailureCode

_PICTURE, _ABOUT, _PARTIAL = ".png", ".json", ".partial"
# Level 1 is three times as quick as the default and some percent larger.
_PNG = (cv2.IMWRITE_PNG_COMPRESSION, 1)


@dataclass(frozen=True, slots=True)
class CollectionLimits:
    """`max_bytes` are those of all jobs together; `reserve_bytes` stay free on the disk for results and updates."""

    max_bytes: int = 2_000_000_000
    reserve_bytes: int = 500_000_000


class FolderCollection:
    """See the port `Collection`. A picture is there when its JSON file is; both are written whole or not at all.

    What was collected stays until it was sent or somebody deletes it.
    """

    def __init__(self, folder: Path, limits: CollectionLimits | None = None) -> None:
        self._folder = folder
        self._limits = limits or CollectionLimits()
        self._used_bytes = 0

    def begin(self, job_id: str) -> Held:
        folder = self._of(job_id)
        try:
            folder.mkdir(parents=True, exist_ok=True)
            for path in folder.iterdir():
                is_alone = path.suffix == _PICTURE and not path.with_suffix(_ABOUT).exists()
                if is_alone or path.suffix == _PARTIAL:
                    path.unlink()
            self._used_bytes = _size(self._folder)
            pictures = sum(path.suffix == _ABOUT for path in folder.iterdir())
            return Held(pictures, _size(folder))
        except OSError as error:
            raise _refusal(error) from error

    def save(self, job_id: str, name: str, picture: Picture, about: bytes) -> int:
        bgr = cv2.cvtColor(vision.to_rgb(picture), cv2.COLOR_RGB2BGR)
        _, encoded = cv2.imencode(_PICTURE, bgr, _PNG)
        content = encoded.tobytes()
        size_bytes = len(content) + len(about)
        folder = self._of(job_id)
        picture_path = folder / f"{name}{_PICTURE}"
        try:
            self._check_room(size_bytes)
            _write(picture_path, content)
            try:
                _write(folder / f"{name}{_ABOUT}", about)
            except OSError:
                picture_path.unlink(missing_ok=True)
                raise
        except OSError as error:
            raise _refusal(error) from error
        self._used_bytes += size_bytes
        return size_bytes

    def names(self, job_id: str) -> Sequence[str]:
        try:
            paths = [path for path in self._of(job_id).iterdir() if path.suffix in {_PICTURE, _ABOUT}]
        except OSError as error:
            raise _refusal(error) from error
        return [path.name for path in sorted(paths, key=lambda path: (path.stem, path.suffix != _PICTURE))]

    def read(self, job_id: str, name: str) -> bytes:
        try:
            return (self._of(job_id) / name).read_bytes()
        except OSError as error:
            raise _refusal(error) from error

    def remove(self, job_id: str, name: str) -> None:
        try:
            (self._of(job_id) / name).unlink(missing_ok=True)
        except OSError as error:
            raise _refusal(error) from error

    def discard(self, job_id: str) -> None:
        try:
            shutil.rmtree(self._of(job_id))
        except FileNotFoundError:
            return
        except OSError as error:
            raise _refusal(error) from error

    def _of(self, job_id: str) -> Path:
        if not job_id.strip("."):
            raise Permanent(FailureCode.COMMAND_INVALID, f"{job_id!r} names no folder of its own")
        return self._folder / job_id

    def _check_room(self, size_bytes: int) -> None:
        limits, held = self._limits, self._used_bytes
        if held + size_bytes > limits.max_bytes:
            text = (
                f"{self._folder} holds {held} of {limits.max_bytes} bytes: fetch and delete what jobs have left there"
            )
            raise Retryable(FailureCode.DISK_FULL, text, delay_s=60.0)
        free_bytes = shutil.disk_usage(self._folder).free
        if free_bytes - size_bytes < limits.reserve_bytes:
            text = f"{free_bytes} bytes of disk are free, and {limits.reserve_bytes} are kept for results and updates"
            raise Retryable(FailureCode.DISK_FULL, text, delay_s=60.0)


def _size(folder: Path) -> int:
    return sum(os.lstat(Path(root) / name).st_size for root, _, names in os.walk(folder) for name in names)


def _write(path: Path, content: bytes) -> None:
    partial = path.with_name(f"{path.name}{_PARTIAL}")
    try:
        partial.write_bytes(content)
        partial.replace(path)
    except OSError:
        partial.unlink(missing_ok=True)
        raise


def _refusal(error: OSError) -> AgentError:
    return refusal(error, "collected pictures", delay_s=60.0)
