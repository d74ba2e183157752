"""A model's file, verified where it is loaded: in the process, and at the time, that hands it to the runtime.

Adapters share it. It is light: the children that run models import it.
"""

import contextlib
import hashlib
import importlib
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, TypeVar

from agent.errors import Permanent
from schemas.codes import FailureCode

_CHUNK_BYTES = 1 << 20
Made = TypeVar("Made")


@dataclass(frozen=True, slots=True)
class VerifiedFactory(Generic[Made]):
    """`made` gets its file only when its SHA-256 is right. Picklable, as `made` is.

    `library` names the module of the runtime. To read a large file and to import a runtime both take long, and neither
    holds the other up: hashing leaves the interpreter to others. A library that cannot be imported is told by `made`.

    Errors: those of `verify` and of `made`.
    """

    made: Callable[[], Made]
    path: str
    sha256: str
    library: str

    def __call__(self) -> Made:
        with ThreadPoolExecutor(1, "digest") as beside:
            found = beside.submit(verify, Path(self.path), self.sha256)
            with contextlib.suppress(ImportError):
                importlib.import_module(self.library)
            found.result()
        return self.made()


def verify(path: Path, sha256: str) -> None:
    """Errors: Permanent(MODEL_MISSING), Permanent(MODEL_DIGEST_MISMATCH)."""
    digest = hashlib.sha256()
    try:
        with path.open("rb") as file:
            while chunk := file.read(_CHUNK_BYTES):
                digest.update(chunk)
    except OSError as error:
        raise Permanent(FailureCode.MODEL_MISSING, f"{path}: {error.strerror or error}") from error
    if digest.hexdigest() != sha256:
        raise Permanent(
            FailureCode.MODEL_DIGEST_MISMATCH,
            f"{path} has SHA-256 {digest.hexdigest()}, its manifest says {sha256}: copy the bundle again",
        )
