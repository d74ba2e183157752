"""Reading `desired/config`: hostile bytes in, the message or a typed refusal out."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from pydantic import TypeAdapter, ValidationError

from agent.core.command import Refusal, malformed
from agent.core.outgoing import Incoming
from schemas.codes import FailureCode
from schemas.state import DesiredConfig

MAX_BYTES = 262_144
"""Of the message, and of its configuration as the journal writes it: three of them fit in a journal."""

_MOST_LEVELS = 16
"""Settings have five. A journal nests what it holds deeper than the message did, and must be readable again."""

_DOCUMENT: TypeAdapter[dict[str, Any]] = TypeAdapter(dict[str, Any])


def read(message: Incoming) -> DesiredConfig | Refusal:
    """Never raises, whatever the payload is. Which fields may be set, and to what, is not looked at here."""
    size = len(message.payload)
    if size > MAX_BYTES:
        return Refusal(FailureCode.MESSAGE_TOO_LARGE, f"{size} bytes; desired/config has at most {MAX_BYTES}")
    try:
        desired = DesiredConfig.model_validate_json(message.payload)
    except ValidationError as error:
        return _refused(error)
    if _is_deeper(desired.config, _MOST_LEVELS):
        return Refusal(FailureCode.CONFIG_INVALID, f"config: nested more than {_MOST_LEVELS} levels deep")
    if not _is_finite(desired.config):
        return Refusal(FailureCode.CONFIG_INVALID, "config: NaN and Infinity are no JSON")
    size = len(_DOCUMENT.dump_json(desired.config))
    if size > MAX_BYTES:  # numbers may be written shorter than they are read
        return Refusal(FailureCode.MESSAGE_TOO_LARGE, f"config: {size} bytes; it has at most {MAX_BYTES}")
    return desired


def fingerprint(config: Mapping[str, Any]) -> str:
    """SHA-256 of the configuration as JSON in UTF-8 with sorted keys and no spaces: `sha256` of `reported/config`."""
    canonical = json.dumps(config, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    return hashlib.sha256(canonical.encode()).hexdigest()


def _refused(error: ValidationError) -> Refusal:
    refusal = malformed(error)
    if refusal.code is not FailureCode.COMMAND_INVALID:
        return refusal
    is_whole = not error.errors(include_url=False, include_input=False)[0]["loc"]
    text = "the message is no JSON object" if is_whole else refusal.text
    return replace(refusal, code=FailureCode.CONFIG_INVALID, text=text)


def _is_deeper(value: Any, levels: int) -> bool:
    if not isinstance(value, dict | list):
        return False
    inner = value.values() if isinstance(value, dict) else value
    return levels == 0 or any(_is_deeper(each, levels - 1) for each in inner)


def _is_finite(config: Mapping[str, Any]) -> bool:
    try:
        json.dumps(config, allow_nan=False)
    except ValueError:
        return False
    return True
