"""The models of a simulated board for its workshop, and whom it believes: all that is real is what crosses the wire."""

import threading
import time
from collections.abc import Collection, Sequence
from dataclasses import replace
from pathlib import Path

from agent.adapters.bundle_fs import choose_bundle
from agent.core.bundle import Bundle, GoldenFrame
from agent.core.fetch_plan import FetchPlan, Wanted
from agent.core.update import ModelRef
from agent.errors import AgentError, Permanent
from agent.loops.inspect import Loaded
from agent.ports import Store, Trust
from agent.simulate.bundle import BUNDLE, GOLDEN, GoldenSegmenter
from agent.simulate.config import Badness
from agent.simulate.manner import Character
from schemas.codes import FailureCode
from schemas.state import DesiredModel
from schemas.status import ModelInfo
from schemas.target import Target

_FOUND_HOLDS_S = 60.0
_FAILED_HOLDS_S = 5.0
INSTALLED = ModelRef("simulated", "1", "0" * 64)


class SimulatedModels:
    """Fits `Models` of the workshop. Where the files of bundles are downloaded, `are_whole`, they are verified as on a
    board, and only not loaded.
    """

    def __init__(self, character: Character, store: Store, *, are_whole: bool) -> None:
        self._character = character
        self._store = store
        self._are_whole = are_whole

    def has(self, ref: ModelRef) -> bool:
        try:
            return self._store.has(ref.manifest_sha256)
        except AgentError:
            return False

    def open(self, ref: ModelRef) -> Bundle:
        if not self._are_whole or ref == INSTALLED:
            return BUNDLE
        return choose_bundle(self._store.open_bundle(ref.manifest_sha256), self._character.target)

    def examine(self, bundle: Bundle) -> None:
        """A simulated board takes every format."""

    def load(self, lane: str, ref: ModelRef, bundle: Bundle) -> Loaded:
        del lane, bundle
        is_blind = self._character.badness_of(ref) is Badness.SELF_TEST
        return Loaded(GoldenSegmenter(is_blind=is_blind), ref, self.info(ref), BUNDLE, {})

    def golden(self, bundle: Bundle) -> Sequence[GoldenFrame]:
        del bundle
        return [GOLDEN]

    def has_room(self, bundle: Bundle, lanes: int) -> bool:
        del bundle, lanes
        return True

    def info(self, ref: ModelRef) -> ModelInfo:
        target = self._character.target
        return ModelInfo(
            name=ref.name,
            version=ref.version,
            sha256=ref.manifest_sha256,
            generation=ref.generation,
            runtime="onnx" if target is Target.CPU else "rknn",
            runtime_version="simulated",
            target=target,
        )


class NoStore:
    """Fits the port Store, for boards that download nothing: what the journal names counts as there."""

    def has(self, sha256: str) -> bool:
        del sha256
        return True

    def missing(self, chosen: FetchPlan) -> tuple[Wanted, ...]:
        del chosen
        return ()

    def partial(self, sha256: str) -> Path:
        raise Permanent(FailureCode.INTERNAL, f"{sha256}: this board downloads nothing")

    def add(self, sha256: str) -> None:
        raise Permanent(FailureCode.INTERNAL, f"{sha256}: this board downloads nothing")

    def read(self, sha256: str, max_bytes: int) -> bytes:
        raise Permanent(FailureCode.MODEL_MISSING, f"{sha256}: not among the {max_bytes} bytes that there are")

    def open_bundle(self, manifest_sha256: str) -> Path:
        raise Permanent(FailureCode.MODEL_MISSING, f"{manifest_sha256}: this board downloads nothing")

    def make_room(self, chosen: FetchPlan, pinned: Collection[str]) -> None:
        """There is room."""

    def prune(self, pinned: Collection[str]) -> None:
        """There is nothing."""


class WordTrust:
    """Fits the port Trust: whoever writes the desired state is believed, and nothing is downloaded."""

    def __init__(self, target: Target) -> None:
        self._target = target

    def authorise(self, desired: DesiredModel, stop: threading.Event) -> FetchPlan:
        del stop
        files = (Wanted("manifest.json", desired.manifest_sha256, 0, 0),)
        variant = BUNDLE.manifest.variant(self._target) or BUNDLE.variant
        return FetchPlan(BUNDLE.manifest, variant, files)


class ManifestAlone:
    """Fits the port Trust: what another one authorises, of which only the manifest is downloaded."""

    def __init__(self, trust: Trust) -> None:
        self._trust = trust

    def authorise(self, desired: DesiredModel, stop: threading.Event) -> FetchPlan:
        chosen = self._trust.authorise(desired, stop)
        return replace(chosen, files=chosen.files[:1])


class SharedTrust:
    """Fits the port Trust. Any thread may call: one look-up in the registry for all boards of a target that ask for
    the same within a minute. What failed is asked for again after some seconds.
    """

    def __init__(self, trust: Trust) -> None:
        self._trust = trust
        self._lock = threading.Lock()
        self._known: dict[tuple[str, str, str], tuple[float, FetchPlan | AgentError]] = {}

    def authorise(self, desired: DesiredModel, stop: threading.Event) -> FetchPlan:
        key = (desired.name, desired.version, desired.manifest_sha256)
        with self._lock:
            until_s, answer = self._known.get(key, (0.0, None))
            if answer is None or time.monotonic() >= until_s:
                answer = self._asked(desired, stop)
                holds_s = _FAILED_HOLDS_S if isinstance(answer, AgentError) else _FOUND_HOLDS_S
                self._known[key] = (time.monotonic() + holds_s, answer)
        if isinstance(answer, AgentError):
            raise answer
        return answer

    def _asked(self, desired: DesiredModel, stop: threading.Event) -> FetchPlan | AgentError:
        try:
            return self._trust.authorise(desired, stop)
        except AgentError as error:
            return error
