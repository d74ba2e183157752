"""Trust by signatures: a model runs only if its publisher has signed it, whoever writes the desired state."""

import hashlib
import json
import logging
import subprocess
import sys
import threading
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from agent.adapters.trust_tuf.pace import Pace
from agent.core.fetch_plan import FetchPlan, parse_manifest, plan, refuse_above, refuse_other
from agent.disk import refusal, write_durably
from agent.errors import AgentError, Permanent, Retryable
from agent.least_time import LeastTime
from agent.ports import Store
from schemas.codes import FailureCode
from schemas.registry import ModelTarget, target_path
from schemas.state import DesiredModel
from schemas.target import Target

log = logging.getLogger(__name__)

_POLL_S = 0.1
_DELAY_S = 30.0
_MOST_ROOT_BYTES = 512_000
_KINDS = {
    "expired": (FailureCode.SIGNATURE_INVALID, "the registry's metadata have expired"),
    "refused": (FailureCode.SIGNATURE_INVALID, "the registry's metadata are not to be trusted"),
    "download": (FailureCode.DOWNLOAD_FAILED, "the registry's metadata cannot be had"),
    "disk": (FailureCode.INTERNAL, "the registry's metadata cannot be kept"),
}


@dataclass(frozen=True, slots=True)
class TufOptions:
    """`root`: the root metadata that the board was provisioned with. `within_s`: for all metadata together."""

    root: Path
    metadata_url: str
    metadata_dir: Path
    max_bundle_bytes: int = 2 * 2**30
    most_targets_bytes: int = 8_000_000
    within_s: float = 180.0
    pace: Pace = field(default_factory=Pace)


class TufTrust:
    """Fits the port Trust. One call at a time.

    What an attacker on the way can cause is Retryable, for the honest registry may answer next time; Permanent is only
    what the publisher has signed. Time never goes back (`LeastTime`): with a clock behind, what had expired when the
    board last knew better is still expired.
    """

    def __init__(self, options: TufOptions, store: Store, target: Target, least: LeastTime) -> None:
        self._options = options
        self._store = store
        self._target = target
        self._least = least

    def authorise(self, desired: DesiredModel, stop: threading.Event) -> FetchPlan:
        """The plan of the bundle that was signed under this name and version; of the bundle nothing is downloaded, the
        manifest comes with the signature.

        Errors: Retryable with DOWNLOAD_FAILED, SIGNATURE_INVALID, CANCELED or those of the store; Permanent with
        CONFIG_INVALID (the pinned root), MODEL_DIGEST_MISMATCH, MODEL_WRONG_TARGET, MODEL_TOO_NEW or MODEL_INVALID.
        """
        found = self._look_up(desired, stop)
        raw = _signed_manifest(found, desired)
        manifest = parse_manifest(raw)
        refuse_other(manifest, desired.name, desired.version)
        chosen = plan(manifest, desired.manifest_sha256, self._target, len(raw))
        refuse_above(chosen, self._options.max_bundle_bytes)
        self._keep(desired.manifest_sha256, raw)
        return chosen

    def _look_up(self, desired: DesiredModel, stop: threading.Event) -> Mapping[str, Any]:
        options, now = self._options, self._least.now()
        request = {
            "metadata_dir": str(options.metadata_dir),
            "metadata_url": options.metadata_url,
            "root": _root(options.root),
            "target": target_path(desired.name, desired.version),
            "now": now.isoformat(),
            "pace": asdict(options.pace),
            "most_targets_bytes": options.most_targets_bytes,
        }
        answer = _ask(json.dumps(request) + "\n", options.within_s, stop)
        if "error" in answer:
            code, what = _KINDS[answer["error"]]
            raise Retryable(code, f"{what}: {answer['text']}{self._clock_note()}", delay_s=_DELAY_S)
        found: Mapping[str, Any] = answer["ok"]
        self._learn(found, now)
        if found["length"] is None:
            text = f"{desired.name} {desired.version} is not among the models that the registry has signed"
            raise Retryable(FailureCode.SIGNATURE_INVALID, text, delay_s=_DELAY_S)
        return found

    def _learn(self, found: Mapping[str, Any], now: datetime) -> None:
        """From what was verified; never beyond where it expires, so that a wrong clock cannot run away with us."""
        bound = datetime.fromisoformat(found["bound"])
        latest = max(now, datetime.fromisoformat(found["issued"])) if found["issued"] else now
        self._least.learn(min(latest, bound))
        if latest > bound:
            code, what = _KINDS["expired"]
            raise Retryable(code, f"{what}: on {bound.isoformat()}{self._clock_note()}", delay_s=_DELAY_S)

    def _clock_note(self) -> str:
        return " (the board's clock is behind the time that it has seen signed)" if self._least.is_clock_behind else ""

    def _keep(self, sha256: str, raw: bytes) -> None:
        if self._store.has(sha256):
            return
        partial = self._store.partial(sha256)
        try:
            write_durably(partial, raw)
        except OSError as error:
            raise refusal(error, "manifest", delay_s=_DELAY_S) from error
        self._store.add(sha256)


def _root(path: Path) -> str:
    try:
        with path.open("rb") as file:
            raw = file.read(_MOST_ROOT_BYTES + 1)
        if len(raw) > _MOST_ROOT_BYTES:
            raise Permanent(FailureCode.CONFIG_INVALID, f"trust.root: {path}: no root metadata, it is too large")
        return raw.decode()
    except (OSError, UnicodeDecodeError) as error:
        raise Permanent(FailureCode.CONFIG_INVALID, f"trust.root: {path}: {error}") from error


def _signed_manifest(found: Mapping[str, Any], desired: DesiredModel) -> bytes:
    sha256 = desired.manifest_sha256
    if found["sha256"] != sha256:
        text = f"{desired.name} {desired.version} was signed with another manifest than {sha256}"
        raise Permanent(FailureCode.MODEL_DIGEST_MISMATCH, text)
    try:
        raw = ModelTarget.model_validate(found["custom"]).manifest.encode()
    except (ValidationError, UnicodeEncodeError) as error:
        text = f"what was signed for {desired.name} {desired.version} is no rkfleet.target/1: {error}"
        raise Permanent(FailureCode.MODEL_INVALID, text[:500]) from error
    if len(raw) != found["length"] or hashlib.sha256(raw).hexdigest() != sha256:
        raise Permanent(FailureCode.MODEL_INVALID, "the manifest in the signature is not the one that was signed")
    return raw


def _ask(request: str, within_s: float, stop: threading.Event) -> Mapping[str, Any]:
    """One child, ended when it takes too long or is no longer wanted."""
    command = [sys.executable, "-P", "-m", "agent.adapters.trust_tuf.child"]
    deadline_s = time.monotonic() + within_s
    try:
        child = subprocess.Popen(  # noqa: S603  our own interpreter and module
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
    except OSError as error:
        raise Retryable(FailureCode.INTERNAL, f"no process for the registry: {error}", delay_s=_DELAY_S) from error
    with child:
        unsent: str | None = request
        while True:
            try:
                said, complaint = child.communicate(unsent, timeout=_POLL_S)
                break
            except subprocess.TimeoutExpired:
                unsent = None  # it is on its way, and may not be given twice
                if stop.is_set() or time.monotonic() > deadline_s:
                    child.kill()
                    raise _given_up(within_s, is_stopped=stop.is_set()) from None
    if child.returncode != 0 or not said:
        log.error("the registry's child ended with %s: %s", child.returncode, complaint[-2000:])
        raise Retryable(FailureCode.INTERNAL, "the process that reads the registry crashed", delay_s=_DELAY_S)
    answer: Mapping[str, Any] = json.loads(said)
    return answer


def _given_up(within_s: float, *, is_stopped: bool) -> AgentError:
    if is_stopped:
        return Retryable(FailureCode.CANCELED, "the look-up in the registry was stopped", delay_s=0.0)
    text = f"the registry's metadata did not come within {within_s:g} s"
    return Retryable(FailureCode.DOWNLOAD_FAILED, text, delay_s=_DELAY_S)
