"""Files and folders that survive a power cut, and are never reached through a symlink."""

import errno
import hashlib
import os
import shutil
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from agent.disk import is_full
from agent.errors import Permanent, Retryable
from schemas.codes import FailureCode

_CHUNK_BYTES = 1 << 20
_NO_LINKS = (errno.EPERM, errno.EOPNOTSUPP, errno.EXDEV, errno.ENOSYS)
_DELAY_S = 60.0


@contextmanager
def faults_of(folder: Path) -> Iterator[None]:
    """Turn what the disk raises into Retryable(DISK_FULL) or Retryable(INTERNAL)."""
    try:
        yield
    except OSError as error:
        code = FailureCode.DISK_FULL if is_full(error) else FailureCode.INTERNAL
        text = f"{error.filename or folder}: {error.strerror or error}"
        raise Retryable(code, text, delay_s=_DELAY_S) from error


def kind_of(path: Path) -> int | None:
    """The file type bits of what is there, links not followed; None for nothing."""
    try:
        return stat.S_IFMT(path.lstat().st_mode)
    except FileNotFoundError:
        return None


def is_file(path: Path) -> bool:
    return kind_of(path) == stat.S_IFREG


def size_of(path: Path) -> int:
    """0 for what is no file."""
    about = path.lstat() if is_file(path) else None
    return about.st_size if about else 0


def free_bytes(folder: Path) -> int:
    about = os.statvfs(folder)
    return about.f_bavail * about.f_frsize


def remove(path: Path) -> None:
    """Whatever is there; a link goes, not what it points to."""
    kind = kind_of(path)
    if kind == stat.S_IFDIR:
        shutil.rmtree(path)
    elif kind is not None:
        path.unlink()


def remove_unless_file(path: Path) -> None:
    if not is_file(path):
        remove(path)


def sync(path: Path) -> None:
    """Wait until the disk has the content of a file, or the entries of a folder."""
    handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def move(source: Path, destination: Path) -> None:
    """Rename and make both folders durable; the destination is replaced."""
    source.replace(destination)
    for folder in {source.parent, destination.parent}:
        sync(folder)


def read_file(path: Path, most_bytes: int) -> bytes:
    """At most `most_bytes` + 1, so that the caller sees when there is more."""
    with os.fdopen(os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC), "rb") as file:
        return file.read(most_bytes + 1)


def digest_of(path: Path) -> str:
    """SHA-256; empty when the medium cannot give back what was written."""
    digest = hashlib.sha256()
    try:
        with os.fdopen(os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC), "rb") as file:
            while chunk := file.read(_CHUNK_BYTES):
                digest.update(chunk)
    except OSError as error:
        if error.errno != errno.EIO:
            raise
        return ""
    return digest.hexdigest()


def link(source: Path, destination: Path) -> None:
    """Errors: Permanent(CONFIG_INVALID) on a file system without hard links."""
    try:
        os.link(source, destination, follow_symlinks=False)
    except OSError as error:
        if error.errno in _NO_LINKS:
            text = f"{destination.parent}: hard links are needed (ext4, f2fs, btrfs): {error.strerror}"
            raise Permanent(FailureCode.CONFIG_INVALID, text) from error
        raise
