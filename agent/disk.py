"""Small files that are whole after any crash, and what it means when the disk refuses. Adapters share it."""

import errno
import hashlib
import os
from pathlib import Path

from agent.errors import AgentError, Permanent, Retryable
from schemas.codes import FailureCode

_FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})


def is_full(error: OSError) -> bool:
    """No room, for this user or at all."""
    return error.errno in _FULL


def refusal(error: OSError, what: str, *, delay_s: float = 5.0) -> AgentError:
    """Retryable(DISK_FULL), or Permanent(INTERNAL) for what only a person can mend: rights, a broken disk."""
    text = f"{what}: {error.strerror or error}: {error.filename}"
    if is_full(error):
        return Retryable(FailureCode.DISK_FULL, text, delay_s=delay_s)
    return Permanent(FailureCode.INTERNAL, text)


def sealed(content: bytes, magic: bytes = b"") -> bytes:
    """`magic`, the content's SHA-256 in hex, a line's end, the content."""
    return magic + hashlib.sha256(content).hexdigest().encode() + b"\n" + content


def unsealed(raw: bytes, magic: bytes = b"") -> bytes | None:
    """None for what `sealed` did not make."""
    content = raw[len(magic) + 65 :]
    return content if raw == sealed(content, magic) else None


def read_bounded(path: Path, most_bytes: int) -> bytes | None:
    """At most one byte more than `most_bytes`; None where nothing is. Errors: OSError."""
    try:
        with path.open("rb") as file:
            return file.read(most_bytes + 1)
    except FileNotFoundError:
        return None


def write_durably(path: Path, content: bytes) -> None:
    """On the disk when it returns; gone when it raises, for a full disk wants its bytes back. Errors: OSError."""
    try:
        with path.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
    except OSError:
        path.unlink(missing_ok=True)
        raise


def write_whole(path: Path, content: bytes, partial: Path) -> None:
    """Replace the file in one step, by way of `partial` beside it; durable when it returns. Errors: OSError, and the
    old content stands.
    """
    write_durably(partial, content)
    partial.replace(path)
    sync_folder(path.parent)


def sync_folder(folder: Path) -> None:
    """Wait until the disk has the folder's entries. Errors: OSError."""
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
