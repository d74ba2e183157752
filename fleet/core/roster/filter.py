"""The language that names boards: `site=plant1 and soc=rk3588 and not group=canary`. Recursive descent.

or    := and ("or" and)*
and   := not ("and" not)*
not   := "not" not | "(" or ")" | "all" | test
test  := field op value | field ["not"] "in" "(" value ("," value)* ")"
"""

import re
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from datetime import datetime
from difflib import get_close_matches

from fleet.core.roster.fields import FIELDS, LABEL, Kind, kind_of
from fleet.core.roster.node import Node
from fleet.core.roster.syntax import AGE, KEYWORDS, NUMBER, WORD, All, And, Compare, In, Not, Op, Or, Tree, Value

MOST_CHARACTERS = 4000
MOST_DEPTH = 50
_TOKENS = re.compile(rf'\s*(?:(?P<op>!=|<=|>=|=|<|>|[(),])|(?P<quoted>"(?:[^"\\]|\\.)*")|(?P<word>{WORD}))')
_NAME = re.compile(r"[A-Za-z0-9_.:-]+")
_ORDERED = frozenset({Op.LESS, Op.AT_MOST, Op.MORE, Op.AT_LEAST})


class FilterError(ValueError):
    """`at` is the place in `text`, counted in characters from 0."""

    def __init__(self, text: str, at: int, problem: str) -> None:
        super().__init__(problem)
        self.text = text
        self.at = at
        self.problem = problem

    @property
    def pointed(self) -> str:
        """The text, a caret under the spot, and what is wrong, in three lines."""
        line = re.sub(r"\s", " ", self.text)
        start = max(0, self.at - 60)
        return f"{line[start : start + 120]}\n{' ' * (self.at - start)}^ {self.problem}"


@dataclass(frozen=True, slots=True)
class Filter:
    """Written down again by `str`; what `parse` reads back is equal."""

    tree: Tree

    def __str__(self) -> str:
        return str(self.tree)

    def matches(self, node: Node, now: datetime) -> bool:
        return self.tree.holds(node, now)

    def select(self, nodes: Iterable[Node], now: datetime) -> list[Node]:
        return [node for node in nodes if self.matches(node, now)]


def parse(text: str, labels: Collection[str] = ()) -> Filter:
    """`labels` are names that may be written without `label.` before them. No text at all names every node.

    Raises FilterError.
    """
    if len(text) > MOST_CHARACTERS:
        raise FilterError(text, MOST_CHARACTERS, f"a filter has at most {MOST_CHARACTERS} characters")
    if not text.strip():
        return Filter(All())
    parser = _Parser(text, _tokens(text), labels)
    tree = parser.either(0)
    token = parser.token
    if token.kind != "end":
        raise parser.error(f"expected and, or, or the end, not {token.text!r}{_near(token.text, ('and', 'or'))}")
    return Filter(tree)


@dataclass(frozen=True, slots=True)
class _Token:
    kind: str
    text: str
    at: int

    def says(self, word: str) -> bool:
        return self.kind == "word" and self.text.lower() == word


def _tokens(text: str) -> list[_Token]:
    tokens: list[_Token] = []
    at = 0
    end = len(text.rstrip())
    while at < end:
        found = _TOKENS.match(text, at)
        if found is None or found.lastgroup is None:
            at += len(text[at:]) - len(text[at:].lstrip())
            problem = "the quotation mark is not closed" if text[at] == '"' else f"{text[at]!r} means nothing here"
            hint = "; put values with other characters in quotation marks" if text[at] not in "\"'" else ""
            raise FilterError(text, at, problem + (hint or "; use double quotation marks" * (text[at] == "'")))
        tokens.append(_Token(found.lastgroup, found[found.lastgroup], found.start(found.lastgroup)))
        at = found.end()
    tokens.append(_Token("end", "the end", end))
    return tokens


def _near(word: str, names: Iterable[str]) -> str:
    found = get_close_matches(word.lower(), list(names), n=1)
    return f"; did you mean {found[0]}?" if found else ""


class _Parser:
    def __init__(self, text: str, tokens: list[_Token], labels: Collection[str]) -> None:
        self._text = text
        self._tokens = tokens
        self._labels = labels
        self._next = 0

    @property
    def token(self) -> _Token:
        return self._tokens[self._next]

    def error(self, problem: str, at: int | None = None) -> FilterError:
        return FilterError(self._text, self.token.at if at is None else at, problem)

    def _take(self) -> _Token:
        token = self.token
        self._next = min(self._next + 1, len(self._tokens) - 1)
        return token

    def _expect(self, sign: str, problem: str) -> None:
        if self.token.kind != "op" or self.token.text != sign:
            raise self.error(f"{problem}, not {self.token.text!r}")
        self._take()

    def either(self, depth: int) -> Tree:
        parts = self._parts(depth, "or")
        return parts[0] if len(parts) == 1 else Or(tuple(parts))

    def _both(self, depth: int) -> Tree:
        parts = self._parts(depth, "and")
        return parts[0] if len(parts) == 1 else And(tuple(parts))

    def _parts(self, depth: int, word: str) -> list[Tree]:
        read = self._both if word == "or" else self._negated
        parts = [read(depth)]
        while self.token.says(word):
            self._take()
            parts.append(read(depth))
        return parts

    def _negated(self, depth: int) -> Tree:
        if depth > MOST_DEPTH:
            raise self.error(f"nested deeper than {MOST_DEPTH}")
        if self.token.says("not"):
            self._take()
            return Not(self._negated(depth + 1))
        if self.token.kind == "op" and self.token.text == "(":
            self._take()
            tree = self.either(depth + 1)
            self._expect(")", "expected and, or, or a closing parenthesis")
            return tree
        if self.token.says("all"):
            self._take()
            return All()
        return self._test()

    def _test(self) -> Tree:
        field = self._field()
        if self.token.says("in"):
            self._take()
            return In(field, self._values(field))
        if self.token.says("not"):
            self._take()
            if not self.token.says("in"):
                raise self.error(f"expected in, not {self.token.text!r}")
            self._take()
            return Not(In(field, self._values(field)))
        return self._comparison(field)

    def _field(self) -> str:
        token = self.token
        if token.kind != "word" or token.text.lower() in KEYWORDS:
            raise self.error(f"expected a field, for example site or soc, not {token.text!r}")
        name = token.text
        is_label = name.startswith(LABEL) and len(name) > len(LABEL)
        if name not in FIELDS and not is_label and name in self._labels:
            name, is_label = LABEL + name, True
        if name not in FIELDS and not (is_label and _NAME.fullmatch(name)):
            near = _near(name, [*FIELDS, *self._labels]) or f"; a label is written {LABEL}{name}"
            raise self.error(f"there is no field {name!r}{near}")
        self._take()
        return name

    def _comparison(self, field: str) -> Tree:
        token = self.token
        if token.kind != "op" or token.text in {"(", ")", ","}:
            raise self.error(f"expected =, !=, <, <=, >, >= or in after {field}, not {token.text!r}")
        op, kind = Op(token.text), kind_of(field)
        if op in _ORDERED and kind is Kind.TEXT:
            raise self.error(f"{field} is text: it can be compared with = and != only")
        if op not in _ORDERED and kind is Kind.AGE:
            raise self.error(f"{field} is an age: compare it with < or >, for example {field}<10m")
        self._take()
        return Compare(field, op, self._value(field, is_ordered=op in _ORDERED))

    def _values(self, field: str) -> tuple[Value, ...]:
        if kind_of(field) is Kind.AGE:
            raise self.error(f"{field} is an age: compare it with < or >, for example {field}<10m")
        self._expect("(", "expected an opening parenthesis after in")
        values = [self._value(field, is_ordered=False)]
        while self.token.kind == "op" and self.token.text == ",":
            self._take()
            values.append(self._value(field, is_ordered=False))
        self._expect(")", "expected a comma or a closing parenthesis")
        return tuple(values)

    def _value(self, field: str, *, is_ordered: bool) -> Value:
        token, kind = self.token, kind_of(field)
        if token.kind not in {"word", "quoted"} or (token.kind == "word" and token.text.lower() in KEYWORDS):
            raise self.error(f"expected a value for {field}, not {token.text!r}")
        is_quoted = token.kind == "quoted"
        text = re.sub(r"\\(.)", r"\1", token.text[1:-1], flags=re.DOTALL) if is_quoted else token.text
        value = Value(text, is_glob=not is_quoted and bool(set("*?") & set(text)))
        if kind is Kind.AGE and not AGE.fullmatch(text):
            raise self.error(f"{field} is an age: a number with s, m, h or d, for example 10m, not {text!r}")
        if kind is Kind.NUMBER and not NUMBER.fullmatch(text):
            raise self.error(f"{field} is a number, not {text!r}")
        if is_ordered and value.is_glob:
            raise self.error(f"{text!r} with * or ? can be compared with = and != only")
        self._take()
        return value
