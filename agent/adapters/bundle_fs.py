"""Model bundles in folders."""

import hashlib
from pathlib import Path

from agent.core.bundle import Bundle
from agent.core.fetch_plan import MANIFEST, MAX_MANIFEST_BYTES, parse_manifest
from agent.errors import Permanent
from schemas.codes import FailureCode
from schemas.manifest import Manifest
from schemas.target import Target

_CHUNK_BYTES = 1 << 20


def read_bundle(folder: Path, target: Target) -> Bundle:
    """Read the manifest, choose the variant for `target` and verify its file by size and SHA-256.

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
    path = folder / variant.file
    try:
        size = path.stat().st_size
        digest = _sha256(path) if size == variant.bytes else ""
    except OSError as error:
        raise Permanent(FailureCode.MODEL_MISSING, f"{path}: {error.strerror or error}") from error
    if size != variant.bytes:
        raise Permanent(
            FailureCode.MODEL_DIGEST_MISMATCH,
            f"{path} has {size} bytes, its manifest says {variant.bytes}: copy the bundle again",
        )
    if digest != variant.sha256:
        raise Permanent(
            FailureCode.MODEL_DIGEST_MISMATCH,
            f"{path} has SHA-256 {digest}, its manifest says {variant.sha256}: copy the bundle again",
        )
    return Bundle(manifest, variant, str(path), str(folder), manifest_sha256)


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


def _read(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            return file.read(MAX_MANIFEST_BYTES + 1)
    except OSError as error:
        raise Permanent(FailureCode.MODEL_MISSING, f"{path}: {error.strerror or error}") from error


def _sha256(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK_BYTES):
            digest.update(chunk)
    return digest.hexdigest()
