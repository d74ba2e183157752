"""Model bundles in folders."""

import hashlib
import json
from pathlib import Path

from pydantic import ValidationError

from agent.core.bundle import Bundle
from agent.errors import Permanent
from schemas.codes import FailureCode
from schemas.manifest import Manifest
from schemas.target import Target

MAX_MANIFEST_BYTES = 4_000_000
_CHUNK_BYTES = 1 << 20


def read_bundle(folder: Path, target: Target) -> Bundle:
    """Read the manifest, choose the variant for `target` and verify its file by size and SHA-256.

    Errors: Permanent with MODEL_MISSING, MODEL_INVALID, MODEL_WRONG_TARGET or MODEL_DIGEST_MISMATCH and what to do.
    """
    manifest = _manifest(folder / "manifest.json")
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
    return Bundle(manifest, variant, str(path))


def _manifest(path: Path) -> Manifest:
    try:
        with path.open("rb") as file:
            raw = file.read(MAX_MANIFEST_BYTES + 1)
    except OSError as error:
        raise Permanent(FailureCode.MODEL_MISSING, f"{path}: {error.strerror or error}") from error
    if len(raw) > MAX_MANIFEST_BYTES:
        raise Permanent(FailureCode.MODEL_INVALID, f"{path}: more than {MAX_MANIFEST_BYTES} bytes, not a manifest")
    try:
        return Manifest.model_validate(json.loads(raw))
    except ValidationError as error:
        problem = error.errors()[0]
        place = ".".join(str(part) for part in problem["loc"]) or "manifest"
        raise Permanent(FailureCode.MODEL_INVALID, f"{path}: {place}: {problem['msg']}") from error
    except (ValueError, RecursionError) as error:
        raise Permanent(FailureCode.MODEL_INVALID, f"{path}: not JSON: {error}") from error


def _sha256(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK_BYTES):
            digest.update(chunk)
    return digest.hexdigest()
