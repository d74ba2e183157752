"""Reading a request's body: bounded in size and time, and then as JSON or YAML in which nothing unusual can hide."""

import asyncio
import math
from typing import Any

import yaml
from pydantic_core import from_json
from starlette.requests import Request
from starlette.types import Receive, Scope

from fleet.web.problem import ApiError, ProblemCode

MOST_DEPTH = 32
MOST_NUMBER = 2**63 - 1
MOST_YAML_BYTES = 256 << 10
JSON = "application/json"
YAML = frozenset({"application/yaml", "application/x-yaml", "text/yaml"})
_NULL = "tag:yaml.org,2002:null"
_Loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


class Read(Request):
    """A request whose body has been read."""

    def __init__(self, scope: Scope, receive: Receive, content: bytes, document: Any) -> None:
        super().__init__(scope, receive)
        self.content = content
        self._document = document

    async def body(self) -> bytes:
        return self.content

    async def json(self) -> Any:
        return self._document


def media_type(request: Request) -> str:
    return request.headers.get("content-type", "").partition(";")[0].strip().lower()


async def read(request: Request, most_bytes: int, timeout_s: float) -> bytes:
    """Raises ApiError for what is too large or does not come to an end."""
    parts: list[bytes] = []
    size = 0
    try:
        async with asyncio.timeout(timeout_s):
            async for chunk in request.stream():
                size += len(chunk)
                if size > most_bytes:
                    raise too_large(most_bytes)
                parts.append(chunk)
    except TimeoutError:
        raise ApiError(408, ProblemCode.TOO_SLOW, f"the body did not come within {timeout_s:g} s") from None
    return b"".join(parts)


def too_large(most_bytes: int) -> ApiError:
    text = f"a body has at most {most_bytes} bytes"
    return ApiError(413, ProblemCode.TOO_LARGE, text, headers={"Connection": "close"})


def parse_json(content: bytes) -> Any:
    """Raises ApiError."""
    try:
        document = from_json(content, allow_inf_nan=False)
    except ValueError as error:
        raise _malformed(f"not JSON: {error}") from None
    _check(document, 0)
    return document


def parse_yaml(content: bytes) -> Any:
    """Plain data: no aliases (a few lines of them stand for gigabytes), no tags, no key twice. All but null stays text,
    for the fields to read: `22:00` and `1.20` are what they look like.

    Raises ApiError.
    """
    if len(content) > MOST_YAML_BYTES:
        raise _malformed(f"YAML has at most {MOST_YAML_BYTES} bytes here")
    try:
        text = content.decode()
        _bounded(text)
        root = yaml.compose(text, Loader=_Loader)
        document = None if root is None else _value(root)
    except UnicodeDecodeError:
        raise _malformed("not UTF-8") from None
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f" at line {mark.line + 1}, column {mark.column + 1}" if mark else ""
        raise _malformed(f"not YAML: {getattr(error, 'problem', None) or 'it cannot be read'}{where}") from None
    _check(document, 0)
    return document


def _malformed(text: str) -> ApiError:
    return ApiError(400, ProblemCode.MALFORMED, text.encode("utf-8", "replace").decode()[:500])


def _bounded(text: str) -> None:
    """Looked at event by event, before anything is built."""
    depth = 0
    for event in yaml.parse(text, Loader=_Loader):
        line = _line(event)
        if isinstance(event, yaml.AliasEvent) or getattr(event, "anchor", None):
            raise _malformed(f"line {line}: anchors and aliases (& and *) are not taken here")
        if getattr(event, "tag", None):
            raise _malformed(f"line {line}: tags (!) are not taken here")
        depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
        if depth > MOST_DEPTH:
            raise _malformed(f"line {line}: nested deeper than {MOST_DEPTH}")


def _line(what: yaml.Event | yaml.Node) -> int:
    return what.start_mark.line + 1 if what.start_mark else 0


def _value(node: yaml.Node) -> Any:
    if isinstance(node, yaml.SequenceNode):
        return [_value(each) for each in node.value]
    if isinstance(node, yaml.MappingNode):
        return _mapping(node)
    # Whether 1.20 is a version or a number is for the field to say: it reads both from text.
    return None if node.tag == _NULL else node.value


def _mapping(node: yaml.MappingNode) -> dict[str, Any]:
    made: dict[str, Any] = {}
    for key, value in node.value:
        line = _line(key)
        if not isinstance(key, yaml.ScalarNode):
            raise _malformed(f"line {line}: a key is text")
        if key.value in made:
            raise _malformed(f"line {line}: {key.value[:100]!r} stands here twice")
        made[key.value] = _value(value)
    return made


def _check(value: Any, depth: int) -> None:
    """What JSON and YAML can say and no field of ours, and hardly a database, can take."""
    if depth > MOST_DEPTH:
        raise _malformed(f"nested deeper than {MOST_DEPTH}")
    match value:
        case dict():
            for key, each in value.items():
                _check(key, depth + 1)
                _check(each, depth + 1)
        case list():
            for each in value:
                _check(each, depth + 1)
        case str() if "\0" in value:
            raise _malformed("a text holds NUL")
        case bool():
            pass
        case int() if abs(value) > MOST_NUMBER:
            raise _malformed("a number is beyond 64 bits")
        case float() if not math.isfinite(value):
            raise _malformed("a number is beyond what a float can hold")
