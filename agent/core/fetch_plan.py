"""Which files of a bundle a board needs, with digests and sizes: decided from the manifest before they are downloaded.

A board takes the manifest, the model files of its own target and the golden frames; the other targets' files stay
where they are.
"""

import json
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from pydantic import ValidationError

from agent.errors import Permanent
from schemas.codes import FailureCode
from schemas.manifest import Manifest, Variant
from schemas.target import Target

MANIFEST: Final = "manifest.json"
MAX_MANIFEST_BYTES: Final = 4_000_000
_SCHEMA: Final = "rkfleet.manifest/"
_SCHEMA_VERSION: Final = 1
_LONGEST_NAME_BYTES: Final = 255  # of one part of a path; ext4, f2fs, tmpfs
_GOLDEN_LEAST_BYTES: Final = 65_536
_GOLDEN_MOST_BYTES: Final = 32 * 2**20
_CHANNELS: Final = 4


@dataclass(frozen=True, slots=True)
class Wanted:
    """One file. `path` is relative to the bundle; `bytes` is None where nothing announces the size, `max_bytes` then
    is the most that is taken (else it equals `bytes`).
    """

    path: str
    sha256: str
    bytes: int | None
    max_bytes: int


@dataclass(frozen=True, slots=True)
class FetchPlan:
    """All files that make the bundle whole for one target, the manifest first, the paths all different.

    Two paths may have one digest: they are one file in a store and two in a bundle's folder.
    """

    manifest: Manifest
    variant: Variant
    files: tuple[Wanted, ...]

    @property
    def manifest_sha256(self) -> str:
        return self.files[0].sha256

    @property
    def digests(self) -> frozenset[str]:
        return frozenset(file.sha256 for file in self.files)

    @property
    def max_bytes(self) -> int:
        """The most that the files can take on a disk, each digest counted once."""
        return most_bytes(self.files)


def most_bytes(files: Iterable[Wanted]) -> int:
    most: dict[str, int] = {}
    for file in files:
        most[file.sha256] = max(file.max_bytes, most.get(file.sha256, 0))
    return sum(most.values())


def manifest_wanted(manifest_sha256: str) -> Wanted:
    """What is downloaded first, while only its digest is known."""
    return Wanted(MANIFEST, manifest_sha256, None, MAX_MANIFEST_BYTES)


def parse_manifest(raw: bytes) -> Manifest:
    """Errors: Permanent(MODEL_TOO_NEW) for a later format, Permanent(MODEL_INVALID) with the field otherwise."""
    if len(raw) > MAX_MANIFEST_BYTES:
        raise _invalid(f"more than {MAX_MANIFEST_BYTES} bytes, not a manifest")
    try:
        document = json.loads(raw)
    except (ValueError, RecursionError) as error:
        raise _invalid(f"not JSON: {error}") from error
    _refuse_later(document)
    try:
        return Manifest.model_validate(document)
    except ValidationError as error:
        problem = error.errors(include_url=False, include_input=False)[0]
        place = ".".join(str(part) for part in problem["loc"]) or "manifest"
        raise _invalid(f"{place}: {problem['msg']}") from error


def plan(manifest: Manifest, manifest_sha256: str, target: Target, manifest_bytes: int | None = None) -> FetchPlan:
    """Choose the files for `target`.

    Errors: Permanent(MODEL_WRONG_TARGET) without a variant for it; Permanent(MODEL_INVALID) for paths that cannot all
    be files of one folder, and for a golden file without a digest or with two.
    """
    variant = manifest.variant(target)
    if variant is None:
        offered = ", ".join(v.target for v in manifest.variants)
        raise Permanent(
            FailureCode.MODEL_WRONG_TARGET,
            f"{manifest.name} {manifest.version} has no variant for {target.value}, only for {offered}",
        )
    ceiling = MAX_MANIFEST_BYTES if manifest_bytes is None else manifest_bytes
    files = {MANIFEST: Wanted(MANIFEST, manifest_sha256, manifest_bytes, ceiling)}
    for file in variant.files():
        _add(files, Wanted(file.file, file.sha256, file.bytes, file.bytes))
    ceiling = golden_ceiling_bytes(manifest)
    for path, sha256 in _golden_files(manifest):
        _add(files, Wanted(path, sha256, None, ceiling))
    _refuse_nested(files)
    return FetchPlan(manifest, variant, tuple(files.values()))


def refuse_other(manifest: Manifest, name: str, version: str) -> None:
    """Errors: Permanent(MODEL_INVALID) when it is the manifest of another model or version."""
    found, meant = f"{manifest.name} {manifest.version}", f"{name} {version}"
    if found != meant:
        raise _invalid(f"the manifest is that of {found}, desired is {meant}")


def refuse_above(chosen: FetchPlan, max_bytes: int) -> None:
    """Errors: Permanent(MODEL_INVALID) when the bundle announces more than a board may ever take."""
    if chosen.max_bytes > max_bytes:
        raise _invalid(
            f"{chosen.manifest.name} {chosen.manifest.version} announces up to {chosen.max_bytes} bytes for "
            f"{chosen.variant.target.value}, the most allowed is {max_bytes}"
        )


def golden_ceiling_bytes(manifest: Manifest) -> int:
    """The manifest gives no sizes for golden files, but they are PNGs at the model's input size, 8 bits a channel: a
    PNG that does not compress at all is hardly larger than its pixels.
    """
    pixels = max(height * width for each in manifest.inputs for height, width in each.shapes)
    return max(_GOLDEN_LEAST_BYTES, min(_GOLDEN_MOST_BYTES, pixels * _CHANNELS * 9 // 8))


def _golden_files(manifest: Manifest) -> Iterable[tuple[str, str]]:
    for number, frame in enumerate(manifest.golden.frames):
        for path in (*frame.inputs, frame.class_map):
            if path not in frame.sha256:
                raise _invalid(f"golden.frames.{number}.sha256 has no digest of {path!r}")
            yield path, frame.sha256[path]


def _add(files: dict[str, Wanted], file: Wanted) -> None:
    _refuse_name(file.path)
    known = files.setdefault(file.path, file)
    if known.sha256 != file.sha256 or (known is not file and file.path == MANIFEST):
        raise _invalid(f"{file.path!r} stands for two different files")


def _refuse_name(path: str) -> None:
    """The schema holds a path inside the folder; here it must also be one that a disk, a URL and a log can hold."""
    if not path.isprintable():
        raise _invalid(f"the path {path!r} has characters that no file name should have")
    if any(len(part.encode()) > _LONGEST_NAME_BYTES for part in path.split("/")):
        raise _invalid(f"a part of the path {path!r} is longer than {_LONGEST_NAME_BYTES} bytes")


def _refuse_nested(files: dict[str, Wanted]) -> None:
    for path in files:
        parts = path.split("/")
        for depth in range(1, len(parts)):
            if (folder := "/".join(parts[:depth])) in files:
                raise _invalid(f"{folder!r} is a file and the folder of {path!r}")


def _refuse_later(document: object) -> None:
    schema = document.get("schema") if isinstance(document, dict) else None
    if not isinstance(schema, str) or not schema.startswith(_SCHEMA):
        return
    version = schema.removeprefix(_SCHEMA)
    if version.isascii() and version.isdigit() and len(version) < 9 and int(version) > _SCHEMA_VERSION:
        raise Permanent(
            FailureCode.MODEL_TOO_NEW,
            f"the manifest is of format {version}, this software knows up to {_SCHEMA_VERSION}: update it first",
        )


def _invalid(text: str) -> Permanent:
    return Permanent(FailureCode.MODEL_INVALID, text)
