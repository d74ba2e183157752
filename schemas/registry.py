"""What the model registry says about a bundle: the target's path, and the `custom` that its publisher signs.

Below the registry's URL: `metadata/` is the TUF repository, `bundles/{sha256 of the manifest}/{path}` the files of a
bundle under the names of its manifest, `files/{sha256}` the same files by digest. The content of the last two never
changes.
"""

from typing import Annotated, Literal

from pydantic import Field

from schemas.base import Id, Strict, UtcTime

MAX_SIGNED_MANIFEST_BYTES = 262_144
"""The manifest rides in metadata that each board reads whole."""
ISSUED_FIELD = "x-rkfleet-issued"
"""In root and targets metadata: when it was signed. Their keys are offline, so a board may learn the time from it."""


class ModelTarget(Strict):
    """`custom` of a target. `manifest` is manifest.json as it is, so that its digest is the target's own."""

    schema_id: Literal["rkfleet.target/1"] = Field(default="rkfleet.target/1", alias="schema")
    manifest: Annotated[str, Field(max_length=MAX_SIGNED_MANIFEST_BYTES)]
    published_at: UtcTime


def target_path(name: Id, version: Id) -> str:
    return f"{name}/{version}/manifest.json"


def bundle_path(manifest_sha256: str) -> str:
    """Behind the registry's URL it is one of `urls` of `desired/model`."""
    return f"bundles/{manifest_sha256}"
