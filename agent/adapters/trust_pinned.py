"""Trust by the digest in the desired state: whoever may write it decides what the board runs.

It is what a board does without `[trust]`: for a first trial, or a line whose broker only its owner can reach, it needs
no registry, no keys and no clock. It does not protect against whoever has the broker; `trust_tuf` does.
"""

import threading

from agent.core.fetch_plan import (
    MAX_MANIFEST_BYTES,
    FetchPlan,
    manifest_wanted,
    parse_manifest,
    plan,
    refuse_above,
    refuse_other,
)
from agent.errors import Permanent
from agent.ports import Fetcher, Store
from schemas.codes import FailureCode
from schemas.state import DesiredModel
from schemas.target import Target


class PinnedTrust:
    """The manifest comes from the store, or else from the URLs of the desired state."""

    def __init__(self, fetcher: Fetcher, store: Store, target: Target, max_bundle_bytes: int = 2 * 2**30) -> None:
        self._fetcher = fetcher
        self._store = store
        self._target = target
        self._max_bundle_bytes = max_bundle_bytes

    def authorise(self, desired: DesiredModel, stop: threading.Event) -> FetchPlan:
        """Obtain the manifest that has the pinned digest and see that this board can and may take the bundle.

        Only the manifest is downloaded. Errors: those of Fetcher and Store; Permanent with MODEL_TOO_NEW,
        MODEL_WRONG_TARGET or MODEL_INVALID: not a manifest, another model or version, or too large a bundle.
        """
        raw = self._manifest(desired, stop)
        manifest = parse_manifest(raw)
        refuse_other(manifest, desired.name, desired.version)
        chosen = plan(manifest, desired.manifest_sha256, self._target, len(raw))
        refuse_above(chosen, self._max_bundle_bytes)
        return chosen

    def _manifest(self, desired: DesiredModel, stop: threading.Event) -> bytes:
        sha256 = desired.manifest_sha256
        if self._store.has(sha256):
            try:
                return self._store.read(sha256, MAX_MANIFEST_BYTES)
            except Permanent as error:
                if error.code is not FailureCode.MODEL_DIGEST_MISMATCH:
                    raise
                # Decayed on the disk; the store has put it aside and the servers still have it.
        self._fetcher.fetch(manifest_wanted(sha256), desired.urls, self._store.partial(sha256), stop)
        self._store.add(sha256)
        return self._store.read(sha256, MAX_MANIFEST_BYTES)
