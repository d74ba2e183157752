"""Files that are whole or absent, whenever the machine stops."""

import fcntl
import hashlib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_CHUNK_BYTES = 1 << 20


def write_whole(path: Path, content: bytes, *, mode: int = 0o644) -> None:
    """Replace the file in one step; it is on the disk when this returns. Errors: OSError, and the old one stands."""
    fresh = path.with_name(f".{path.name}.new")
    fresh.unlink(missing_ok=True)
    handle = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode)
    with os.fdopen(handle, "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    fresh.replace(path)
    sync_folder(path.parent)


def copy_verified(source: Path, destination: Path, sha256: str, size: int | None) -> str | None:
    """Copy a file unless it is there. Returns what is wrong with it, None where nothing is; then it is on the disk."""
    fresh = destination.with_name(f".{destination.name}.new")
    digest, count = hashlib.sha256(), 0
    with source.open("rb") as given, fresh.open("wb") as file:
        while chunk := given.read(_CHUNK_BYTES):
            digest.update(chunk)
            count += len(chunk)
            file.write(chunk)
        file.flush()
        os.fsync(file.fileno())
    if digest.hexdigest() != sha256 or size not in {None, count}:
        fresh.unlink()
        return f"{source}: {count} bytes of SHA-256 {digest.hexdigest()}, the manifest says {size} of {sha256}"
    fresh.replace(destination)
    sync_folder(destination.parent)
    return None


def link(source: Path, destination: Path) -> None:
    """A second name for the file; a name that is there already is left."""
    destination.parent.mkdir(parents=True, exist_ok=True)
    try:
        destination.hardlink_to(source)
    except FileExistsError:
        return
    sync_folder(destination.parent)


def sync_folder(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """One writer at a time, over processes too; waits for the other."""
    handle = os.open(folder / ".lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)
