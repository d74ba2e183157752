"""The tree of a filter: how it is written down and what it is true of."""

import re
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from fnmatch import fnmatchcase

from fleet.core.roster.fields import Kind, kind_of, value_of
from fleet.core.roster.node import Node

WORD = r"[A-Za-z0-9_.:*?/+-]+"
_PLAIN = re.compile(WORD)
KEYWORDS = frozenset({"and", "or", "not", "in", "all"})
UNITS_S = {"s": 1, "m": 60, "h": 3600, "d": 86_400}
AGE = re.compile(r"(\d{1,9}(?:\.\d{1,9})?)([smhd])")
NUMBER = re.compile(r"\d{1,18}")


class Op(StrEnum):
    EQUAL = "="
    DIFFERENT = "!="
    LESS = "<"
    AT_MOST = "<="
    MORE = ">"
    AT_LEAST = ">="


@dataclass(frozen=True, slots=True)
class Value:
    """`*` and `?` stand for any characters and any one, unless the value is written in quotes."""

    text: str
    is_glob: bool = False

    def __str__(self) -> str:
        if self.is_glob or (_PLAIN.fullmatch(self.text) and not set("*?") & set(self.text) and not _is_keyword(self)):
            return self.text
        escaped = self.text.replace("\\", "\\\\").replace('"', '\\"')
        return f'"{escaped}"'

    def matches(self, text: str, kind: Kind) -> bool:
        if self.is_glob:
            return bool(text) and fnmatchcase(text, self.text)
        if not text or not self.text:
            return text == self.text
        return text == self.text or (kind is not Kind.TEXT and rank(text, kind) == rank(self.text, kind))


def _is_keyword(value: Value) -> bool:
    return value.text.lower() in KEYWORDS


@dataclass(frozen=True, slots=True)
class All:
    """Every node."""

    def __str__(self) -> str:
        return "all"

    def holds(self, node: Node, now: datetime) -> bool:  # noqa: ARG002  # one signature for every kind of tree
        return True


@dataclass(frozen=True, slots=True)
class Compare:
    """A node that does not have the field is different from everything, and neither more nor less than anything."""

    field: str
    op: Op
    value: Value

    def __str__(self) -> str:
        return f"{self.field}{self.op}{self.value}"

    def holds(self, node: Node, now: datetime) -> bool:
        kind, text = kind_of(self.field), value_of(self.field, node, now)
        if self.op in {Op.EQUAL, Op.DIFFERENT}:
            return self.value.matches(text, kind) == (self.op is Op.EQUAL)
        if not text:
            return False
        left, right = rank(text, kind), rank(self.value.text, kind)
        return {
            Op.LESS: left < right,
            Op.AT_MOST: left <= right,
            Op.MORE: left > right,
            Op.AT_LEAST: left >= right,
        }[self.op]


@dataclass(frozen=True, slots=True)
class In:
    field: str
    values: tuple[Value, ...]

    def __str__(self) -> str:
        return f"{self.field} in ({', '.join(map(str, self.values))})"

    def holds(self, node: Node, now: datetime) -> bool:
        kind, text = kind_of(self.field), value_of(self.field, node, now)
        return any(value.matches(text, kind) for value in self.values)


@dataclass(frozen=True, slots=True)
class Not:
    inner: "Tree"

    def __str__(self) -> str:
        if isinstance(self.inner, In):
            return f"{self.inner.field} not in ({', '.join(map(str, self.inner.values))})"
        return f"not {_within(self.inner, And, Or)}"

    def holds(self, node: Node, now: datetime) -> bool:
        return not self.inner.holds(node, now)


@dataclass(frozen=True, slots=True)
class And:
    """Two or more."""

    parts: tuple["Tree", ...]

    def __str__(self) -> str:
        return " and ".join(_within(part, And, Or) for part in self.parts)

    def holds(self, node: Node, now: datetime) -> bool:
        return all(part.holds(node, now) for part in self.parts)


@dataclass(frozen=True, slots=True)
class Or:
    """Two or more."""

    parts: tuple["Tree", ...]

    def __str__(self) -> str:
        return " or ".join(_within(part, Or) for part in self.parts)

    def holds(self, node: Node, now: datetime) -> bool:
        return any(part.holds(node, now) for part in self.parts)


Tree = All | Compare | In | Not | And | Or


def _within(part: Tree, *loose: type[And | Or]) -> str:
    return f"({part})" if isinstance(part, loose) else str(part)


Rank = tuple[tuple[int, int, str], ...]


def rank(text: str, kind: Kind) -> Rank:
    """Sorts as the kind does: numbers by value, ages in seconds, versions part by part.

    In a version a number is later than a word (1.2 is later than 1.2-rc1), and 1.2 equals 1.2.0.
    """
    if kind is Kind.AGE:
        found = AGE.fullmatch(text)
        seconds = float(found[1]) * UNITS_S[found[2]] if found else float(text)
        return ((1, round(seconds * 1e6), ""),)
    if kind is Kind.NUMBER:
        return ((1, int(text), ""),)
    parts = [_part(part) for part in re.findall(r"[0-9]+|[A-Za-z]+", text)]
    while parts and parts[-1] == (2, 0, ""):
        parts.pop()
    return (*parts, (1, 0, ""))


def _part(part: str) -> tuple[int, int, str]:
    return (2, int(part[:18]), "") if part[0].isdigit() else (0, 0, part.lower())
