"""The models of this board: where their files are, and how they are loaded with the settings of the moment."""

import threading
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from agent.adapters.bundle_fs import choose_bundle, read_manifest
from agent.adapters.golden_fs import read_golden
from agent.build import Place, camera_plans, segmenter_of
from agent.config import Settings
from agent.core.batch import Batcher, Room
from agent.core.bundle import Bundle, GoldenFrame
from agent.core.rknn_header import parse_header, require_target
from agent.core.update import ModelRef
from agent.errors import AgentError, Permanent
from agent.loops.inspect import Loaded, Plans
from agent.model_file import verify
from agent.ports import Host, Store
from schemas.target import Target
from schemas.topics import Topics

_NOTHING = ModelRef("none", "0", "0" * 64)
_MOST_RKNN_BYTES = 2 * 2**30
_FREE_SHARE_KEPT = 0.2
_PLANS_KEPT = 3
"""Of the model that inspects, the one before it, and one that is tried."""


class Library:
    """The installed bundle lies in the folder of the settings file, all others in the store. Any thread may call."""

    def __init__(self, settings: Settings, target: Target, topics: Topics, store: Store, host: Host) -> None:
        self._settings = settings
        self._target = target
        self._topics = topics
        self._store = store
        self._host = host
        self.installed = self._installed()
        self._bundles: dict[str, Bundle] = {}
        self._plans: dict[str, Plans] = {}
        self._planning = threading.Lock()

    def use(self, settings: Settings, current: ModelRef) -> None:
        """Cameras and recipes have changed. Errors: Permanent(CONFIG_INVALID) where they do not fit the current model,
        and nothing has changed then.
        """
        bundle = self._bundles.get(current.manifest_sha256)
        with self._planning:
            plans = camera_plans(settings, bundle, self._topics) if bundle else None
            self._settings = settings
            self._plans = {bundle.manifest_sha256: plans} if bundle and plans else {}

    def has(self, ref: ModelRef) -> bool:
        try:
            return self._store.has(ref.manifest_sha256)
        except AgentError:
            return False

    def open(self, ref: ModelRef) -> Bundle:
        """The model's file is verified when it is loaded. Errors: those of the store and of `choose_bundle`."""
        folder = self._settings.model.bundle
        if ref != self.installed:
            folder = Path(self._store.open_bundle(ref.manifest_sha256))
        return choose_bundle(folder, self._target)

    def examine(self, bundle: Bundle) -> None:
        """Errors: Permanent with MODEL_INVALID, MODEL_WRONG_TARGET, MODEL_TOO_NEW, MODEL_DIGEST_MISMATCH or
        CONFIG_INVALID.
        """
        for part in bundle.parts:
            verify(Path(part.path), part.sha256)
            if part.runtime == "rknn":
                with Path(part.path).open("rb") as file:
                    require_target(parse_header(file.read(_MOST_RKNN_BYTES)), self._target)
        self.plans(bundle)

    def plans(self, bundle: Bundle) -> Plans:
        """The same for all lanes: they agree on a camera's input shape, and keep one copy of its reference. Errors:
        Permanent(CONFIG_INVALID) where the settings do not fit the model.
        """
        with self._planning:
            plans = self._plans.get(bundle.manifest_sha256)
            if plans is None:
                plans = camera_plans(self._settings, bundle, self._topics)
                latest = list(self._plans.items())[1 - _PLANS_KEPT :]
                self._plans = {**dict(latest), bundle.manifest_sha256: plans}
            return plans

    def load(self, lane: str, ref: ModelRef, bundle: Bundle) -> Loaded:
        """On the core that the lane is named after. Errors: AgentError."""
        plans = self.plans(bundle)
        core = int(lane.removeprefix("core-"))
        segmenter = segmenter_of(bundle, self._settings, Place(self._target, core, lane))
        runtime = segmenter.runtime
        self._bundles = {**self._bundles, ref.manifest_sha256: bundle}
        return Loaded(
            segmenter,
            ref,
            bundle.info(ref.generation, runtime.version, runtime.driver),
            bundle,
            plans,
            Batcher(segmenter.batch, time.monotonic),
            partial(self._room, bundle),
        )

    def _room(self, bundle: Bundle) -> Room:
        """What is known of a picture's memory is that of the whole model with a full call: more than it takes."""
        needed = bundle.variant.memory_bytes
        if bundle.variant.batch == 1 or needed is None:
            return Room()
        return Room(self._host.memory_free_bytes(), needed // bundle.variant.batch)

    def golden(self, bundle: Bundle) -> Sequence[GoldenFrame]:
        return read_golden(bundle)

    def has_room(self, bundle: Bundle, lanes: int) -> bool:
        """A fifth of the free memory is left to others."""
        needed, free = bundle.variant.memory_bytes, self._host.memory_free_bytes()
        return needed is None or free is None or needed * lanes <= free * (1 - _FREE_SHARE_KEPT)

    def _installed(self) -> ModelRef:
        """What the settings name; a placeholder that will never load where there is no manifest."""
        try:
            manifest, sha256 = read_manifest(self._settings.model.bundle)
        except Permanent:
            return _NOTHING  # a lane will tell why when it tries to load it
        return ModelRef(manifest.name, manifest.version, sha256)
