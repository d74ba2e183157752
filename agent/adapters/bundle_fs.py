"""Model bundles in folders."""

import hashlib
from pathlib import Path

from agent.core.bundle import Bundle
from agent.core.fetch_plan import MANIFEST, MAX_MANIFEST_BYTES, parse_manifest
from agent.errors import Permanent
from agent.model_file import verify
from schemas.codes import FailureCode
from schemas.manifest import Manifest
from schemas.target import Target


def choose_bundle(folder: Path, target: Target) -> Bundle:
    """Read the manifest and choose the variant for `target`; its files are there and have the right size, but their
    content was not looked at: whoever loads them must.

    Errors: Permanent with MODEL_MISSING, MODEL_INVALID, MODEL_TOO_NEW, MODEL_WRONG_TARGET or MODEL_DIGEST_MISMATCH
    and what to do.
    """
    manifest, manifest_sha256 = read_manifest(folder)
    variant = manifest.variant(target)
    if variant is None:
        offered = ", ".join(v.target for v in manifest.variants)
        raise Permanent(
            FailureCode.MODEL_WRONG_TARGET,
            f"{folder}: {manifest.name} {manifest.version} has no variant for {target.value}, only for {offered}",
        )
    for file in variant.files():
        _require_size(folder / file.file, file.bytes)
    return Bundle(manifest, variant, str(folder / variant.file), str(folder), manifest_sha256)


def read_bundle(folder: Path, target: Target) -> Bundle:
    """`choose_bundle`, and the files verified by their SHA-256. Errors: the same."""
    bundle = choose_bundle(folder, target)
    for file in bundle.variant.files():
        verify(folder / file.file, file.sha256)
    return bundle


def read_manifest(folder: Path) -> tuple[Manifest, str]:
    """The manifest and its SHA-256; no other file is looked at. Errors: Permanent(MODEL_MISSING) and those of
    `parse_manifest`.
    """
    path = folder / MANIFEST
    raw = _read(path)
    try:
        return parse_manifest(raw), hashlib.sha256(raw).hexdigest()
    except Permanent as error:
        raise Permanent(error.code, f"{path}: {error.text}") from error


def _require_size(path: Path, size_bytes: int) -> None:
    try:
        found_bytes = path.stat().st_size
    except OSError as error:
        raise Permanent(FailureCode.MODEL_MISSING, f"{path}: {error.strerror or error}") from error
    if found_bytes != size_bytes:
        raise Permanent(
            FailureCode.MODEL_DIGEST_MISMATCH,
            f"{path} has {found_bytes} bytes, its manifest says {size_bytes}: copy the bundle again",
        )


def _read(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            return file.read(MAX_MANIFEST_BYTES + 1)
    except OSError as error:
        raise Permanent(FailureCode.MODEL_MISSING, f"{path}: {error.strerror or error}") from error
