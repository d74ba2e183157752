"""Which files a bundle has, by its manifest: all variants, and the golden frames."""

import json
from dataclasses import dataclass

from pydantic import ValidationError

from schemas.manifest import Manifest
from schemas.registry import MAX_SIGNED_MANIFEST_BYTES

MANIFEST = "manifest.json"


class BadBundle(ValueError):
    """It cannot be published; the text says why."""


@dataclass(frozen=True, slots=True)
class BundleFile:
    """`path` is relative to the bundle. `bytes` is None where the manifest does not tell."""

    path: str
    sha256: str
    bytes: int | None


def parse_manifest(raw: bytes) -> Manifest:
    """Errors: BadBundle for what a board would refuse or could not be told of in signed metadata."""
    if len(raw) > MAX_SIGNED_MANIFEST_BYTES:
        raise BadBundle(f"{MANIFEST} has {len(raw)} bytes, the most that can be signed is {MAX_SIGNED_MANIFEST_BYTES}")
    try:
        return Manifest.model_validate(json.loads(raw.decode()))
    except ValidationError as error:
        problem = error.errors(include_url=False, include_input=False)[0]
        place = ".".join(str(part) for part in problem["loc"])
        raise BadBundle(f"{MANIFEST}: {place}: {problem['msg']}") from error
    except (ValueError, RecursionError) as error:
        raise BadBundle(f"{MANIFEST}: not JSON in UTF-8: {error}") from error


def files_of(manifest: Manifest) -> tuple[BundleFile, ...]:
    """All but the manifest itself, the paths all different.

    Errors: BadBundle where one path stands for two files, or a golden file has no digest.
    """
    files: dict[str, BundleFile] = {}
    for variant in manifest.variants:
        for file in variant.files():
            _add(files, BundleFile(file.file, file.sha256, file.bytes))
    for number, frame in enumerate(manifest.golden.frames):
        for path in (*frame.inputs, frame.class_map):
            if path not in frame.sha256:
                raise BadBundle(f"golden.frames.{number}.sha256 has no digest of {path!r}")
            _add(files, BundleFile(path, frame.sha256[path], None))
    return tuple(files.values())


def _add(files: dict[str, BundleFile], file: BundleFile) -> None:
    known = files.get(file.path)
    if file.path == MANIFEST or (known is not None and known.sha256 != file.sha256):
        raise BadBundle(f"{file.path!r} stands for two different files")
    if known is None or known.bytes is None:
        files[file.path] = file
