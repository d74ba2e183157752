"""Who this process is: a name that outlives a crash, so that a restart takes up its own session and its own lease.

Processes that share a data folder take a slot each; the operating system frees it with the process, however that ends.
"""

import fcntl
import os
import secrets
import socket
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Self

from fleet.errors import ErrorCode, Permanent

_MOST_SLOTS = 64


@dataclass(frozen=True, slots=True)
class Instance:
    """`name` is also part of MQTT client ids. The slot is held until `release`."""

    name: str
    slot: int
    _held: IO[str]

    def release(self) -> None:
        self._held.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exc: object) -> None:
        self.release()


def claim(folder: Path) -> Instance:
    """The first free slot. Errors: Permanent(INVALID) where the folder cannot be used or all slots are taken."""
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        token = _token(folder / "instance")
        for slot in range(_MOST_SLOTS):
            held = (folder / f"instance-{slot}.lock").open("w")
            try:
                fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                held.close()
                continue
            host = "".join(each if each.isalnum() else "-" for each in socket.gethostname())[:40]
            return Instance(f"{host}-{token}-{slot}", slot, held)
    except OSError as error:
        raise Permanent(ErrorCode.INVALID, f"{folder}: {error.strerror or error}") from error
    raise Permanent(ErrorCode.INVALID, f"{folder}: {_MOST_SLOTS} processes use this folder already")


def _token(path: Path) -> str:
    """Made once; two processes that start at once agree on one."""
    made = path.with_name(f"{path.name}.{os.getpid()}.{secrets.token_hex(4)}")
    made.write_text(secrets.token_hex(4))
    try:
        os.link(made, path)
    except FileExistsError:
        return path.read_text().strip()
    finally:
        made.unlink()
    return path.read_text().strip()
