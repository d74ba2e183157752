"""What a `.rknn` file says of itself, read before the runtime sees it.

Layout, little-endian: `RKNN` and four zero bytes, u64 format version, u64 bytes of the first section; that section
starts at byte 64; behind it a u64 length and that many bytes of JSON.
Source: files that rknn-toolkit2 2.5.0 exported for all six targets, format 6.
"""

import json
from dataclasses import dataclass
from typing import Any, Final

from agent.errors import Permanent
from schemas.codes import FailureCode
from schemas.target import Target

NEWEST_FORMAT: Final = 6
_PREFIX_BYTES: Final = 64
_LENGTH_BYTES: Final = 8
_MAX_JSON_BYTES: Final = 64 * 2**20  # far above any real one; a hostile length must not cost the board its memory

# One NPU, two names: a file for either runs on both.
_SAME_NPU: Final = {
    Target.RK3566: frozenset({"rk3566", "rk3568"}),
    Target.RK3568: frozenset({"rk3566", "rk3568"}),
}


@dataclass(frozen=True, slots=True)
class RknnHeader:
    """`platforms` are the chips the model was built for, in lower case; `toolkit` is the converter's version."""

    format_version: int
    platforms: tuple[str, ...]
    toolkit: str


def parse_header(file: bytes | memoryview) -> RknnHeader:
    """Read the header of a whole file.

    Errors: Permanent(MODEL_TOO_NEW) for a format above NEWEST_FORMAT, Permanent(MODEL_INVALID) for everything that is
    not a complete `.rknn` file.
    """
    view = memoryview(file).cast("B")
    if len(view) < _PREFIX_BYTES:
        raise _invalid(f"it has {len(view)} bytes, less than a header")
    if view[:4].tobytes() == b"RKCE":
        raise _invalid("it is encrypted")
    if view[:8].tobytes() != b"RKNN\0\0\0\0":
        raise _invalid("it does not start with RKNN")
    version = _u64(view, 8)
    if version > NEWEST_FORMAT:
        raise Permanent(
            FailureCode.MODEL_TOO_NEW,
            f"the model is of format {version}, this software knows up to {NEWEST_FORMAT}: update it first",
        )
    if version == 0:
        raise _invalid("its format version is 0")
    return _header(version, _json(view))


def require_target(header: RknnHeader, target: Target) -> None:
    """Errors: Permanent(MODEL_WRONG_TARGET) when the model was built for other chips."""
    if _SAME_NPU.get(target, frozenset({target.value})).isdisjoint(header.platforms):
        raise Permanent(
            FailureCode.MODEL_WRONG_TARGET,
            f"the model was built for {', '.join(header.platforms)}, this board is {target.value}",
        )


def _invalid(why: str) -> Permanent:
    return Permanent(FailureCode.MODEL_INVALID, f"not a usable .rknn file: {why}")


def _u64(view: memoryview, at: int) -> int:
    return int.from_bytes(view[at : at + _LENGTH_BYTES], "little")


def _json(view: memoryview) -> Any:
    length_at = _PREFIX_BYTES + _u64(view, 16)
    json_at = length_at + _LENGTH_BYTES
    if json_at > len(view):
        raise _invalid("it ends inside its first section")
    json_bytes = _u64(view, length_at)
    if json_bytes > min(_MAX_JSON_BYTES, len(view) - json_at):
        raise _invalid("it ends inside its JSON, or the JSON is too large")
    try:
        return json.loads(view[json_at : json_at + json_bytes].tobytes())
    except (ValueError, RecursionError) as error:
        raise _invalid(f"its JSON cannot be read ({type(error).__name__})") from error


def _header(version: int, content: Any) -> RknnHeader:
    if not isinstance(content, dict):
        raise _invalid("its JSON is not an object")
    platforms = content.get("target_platform")
    if isinstance(platforms, str):
        platforms = [platforms]
    if not isinstance(platforms, list) or not platforms or not all(isinstance(name, str) for name in platforms):
        raise _invalid("its JSON names no target_platform")
    toolkit = content.get("version")
    return RknnHeader(
        format_version=version,
        platforms=tuple(_printable(name.lower()) for name in platforms[:16]),
        toolkit=_printable(toolkit) if isinstance(toolkit, str) else "",
    )


def _printable(text: str) -> str:
    """Foreign text goes into messages: short, and without control characters."""
    return "".join(letter for letter in text[:64] if letter.isprintable())
