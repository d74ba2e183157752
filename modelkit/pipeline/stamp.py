"""What a step was made from and what it made, by content: the stamp that tells whether it is up to date."""

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final, Self

STAMP: Final = "stamp.json"
BEGUN: Final = "begun.json"
_CHUNK_BYTES: Final = 2**20


@dataclass(frozen=True, slots=True)
class Origin:
    """Digests of all that a step depends on: its part of the pipeline file, its code, files from outside of the work
    folder, and what the steps before it made.
    """

    parameters: str
    code: str
    files: str
    inputs: dict[str, str]

    def differs(self, older: "Origin", *, same_code: bool) -> list[str]:
        """In words, what is another than it was; `same_code` takes the code for the same."""
        changed = [
            f"its {word} changed"
            for word, mine, theirs in (
                ("parameters", self.parameters, older.parameters),
                ("code", self.code, older.code),
                ("data", self.files, older.files),
            )
            if mine != theirs and not (same_code and word == "code")
        ]
        names = sorted(self.inputs.keys() | older.inputs.keys())
        return changed + [
            f"what {name} made changed" for name in names if self.inputs.get(name) != older.inputs.get(name)
        ]


@dataclass(frozen=True, slots=True)
class Stamp:
    """`outputs` are the digests of the files by their path in the step's folder, or from the root outside of it."""

    origin: Origin
    outputs: dict[str, str]
    took_s: float

    @property
    def made(self) -> str:
        """The digest of all outputs: what the steps behind depend on."""
        return digest_of(sorted(self.outputs.items()))

    def write(self, folder: Path) -> None:
        write_json(folder / STAMP, asdict(self))

    @classmethod
    def read(cls, folder: Path) -> Self | None:
        """None where there is none, or none that can be read: the step is then run again."""
        try:
            fields = json.loads((folder / STAMP).read_text())
            return cls(Origin(**fields["origin"]), dict(fields["outputs"]), float(fields["took_s"]))
        except (OSError, ValueError, KeyError, TypeError):
            return None

    def is_whole(self, folder: Path, outside: Iterable[Path]) -> bool:
        """Whether the outputs are there as they were made."""
        try:
            return outputs(folder, outside) == self.outputs
        except OSError:
            return False


def read_begun(folder: Path) -> Origin | None:
    """What an interrupted run of the step had started from."""
    try:
        return Origin(**json.loads((folder / BEGUN).read_text()))
    except (OSError, ValueError, TypeError):
        return None


def outputs(folder: Path, outside: Iterable[Path]) -> dict[str, str]:
    """Digests of all files in the step's folder, and of those outside that it wrote too."""
    made = {path.relative_to(folder).as_posix(): digest_file(path) for path in _files(folder)}
    made = {name: digest for name, digest in made.items() if name not in {STAMP, BEGUN}}
    return made | {str(path): digest_file(path) for root in outside for path in _files(root)}


def digest_files(roots: Iterable[Path]) -> str:
    """Of the names and the content of files and of all files in folders. Errors: FileNotFoundError."""
    listed = []
    for root in roots:
        if not root.exists():
            raise FileNotFoundError(f"{root} does not exist")
        listed += [(path.relative_to(root.parent).as_posix(), digest_file(path)) for path in _files(root)]
    return digest_of(listed)


def digest_file(path: Path) -> str:
    running = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK_BYTES):
            running.update(chunk)
    return running.hexdigest()


def digest_of(value: Any) -> str:
    """Of plain values: what JSON can say."""
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()


def write_json(path: Path, value: Mapping[str, Any]) -> None:
    """Whole or not at all."""
    part = path.with_name(f"{path.name}.part")
    part.write_text(json.dumps(value, indent=1) + "\n")
    part.replace(path)


def _files(root: Path) -> list[Path]:
    if root.is_file():
        return [root]
    return sorted(path for path in root.rglob("*") if path.is_file())
