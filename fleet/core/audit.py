"""The audit's hash chain: each record holds the digest of the one before it, so that none can be changed or taken out
without breaking all that follow.
"""

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

FIRST = "0" * 64
"""What the first record has in the place of a digest before it."""


@dataclass(frozen=True, slots=True)
class Entry:
    """Who did what to what. `detail` is JSON; secrets never go there."""

    at: datetime
    actor: str
    action: str
    subject: str
    detail: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Record:
    """As it is kept: `detail` is JSON text, so that what was hashed is what is stored. `at_ms` is Unix time."""

    number: int
    at_ms: int
    actor: str
    action: str
    subject: str
    detail: str
    before: str
    digest: str


@dataclass(frozen=True, slots=True)
class Broken:
    """The first record that does not fit."""

    number: int
    text: str


def seal(entry: Entry, number: int, before: str) -> Record:
    """The record that follows the one with the digest `before`."""
    detail = json.dumps(entry.detail, sort_keys=True, separators=(",", ":"), default=str)
    actor, action, subject = (_storable(text) for text in (entry.actor, entry.action, entry.subject))
    at_ms = int(entry.at.timestamp() * 1000)
    digest = _digest(number, at_ms, actor, action, subject, detail, before)
    return Record(number, at_ms, actor, action, subject, detail, before, digest)


def verify(records: Iterable[Record], before: str = FIRST, number: int = 1) -> Broken | None:
    """In order; `before` and `number` are of the place where they begin."""
    for record in records:
        if record.number != number:
            return Broken(number, f"record {number} is missing, {record.number} stands in its place")
        if record.before != before:
            return Broken(number, "it does not follow the record before it")
        parts = (record.actor, record.action, record.subject, record.detail, record.before)
        if record.digest != _digest(record.number, record.at_ms, *parts):
            return Broken(number, "its content was changed")
        before, number = record.digest, number + 1
    return None


def _storable(text: str) -> str:
    """NUL and halves of surrogate pairs cannot be kept in every database."""
    return text.encode("utf-8", "replace").decode().replace("\0", "?")


def _digest(*parts: object) -> str:
    """Each part with its length before it: no two records have the same bytes."""
    encoded = [str(part).encode() for part in parts]
    return hashlib.sha256(b"".join(b"%d:%s" % (len(part), part) for part in encoded)).hexdigest()
