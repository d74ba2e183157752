"""Reads a pipeline file. What is wrong is told with the line, the field, and what to do."""

import difflib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Final, get_args

import yaml
from pydantic import BaseModel, ValidationError

from modelkit.pipeline.spec import Pipeline

_MOST_BYTES: Final = 2**20
_MOST_NODES: Final = 10_000
_MOST_DEPTH: Final = 24
Loc = tuple[str | int, ...]


class PipelineError(ValueError):
    """The pipeline file cannot be used; each line of the text names a place in it and says what to do."""


def load(path: Path, overrides: Sequence[str] = ()) -> Pipeline:
    """`overrides` are `field.of.field=value`, the value as YAML has it. Paths in the file are relative to its folder.
    Errors: PipelineError.
    """
    document, lines = _parsed(path)
    for text in overrides:
        _override(document, text)
    try:
        spec = Pipeline.model_validate(document, context={"folder": path.resolve().parent})
    except ValidationError as error:
        raise PipelineError("\n".join(_in_words(path, lines, each) for each in error.errors())) from None
    return spec


def _parsed(path: Path) -> tuple[dict[str, Any], dict[Loc, int]]:
    try:
        raw = path.read_bytes()
    except OSError as error:
        raise PipelineError(f"{path}: {error.strerror or error}") from None
    if len(raw) > _MOST_BYTES:
        raise PipelineError(f"{path} has {len(raw)} bytes; a pipeline has at most {_MOST_BYTES}")
    try:
        text = raw.decode()
        root = yaml.compose(text, Loader=yaml.SafeLoader)
        lines = dict(_lines(root, ()))
        document = yaml.safe_load(text)
    except UnicodeDecodeError:
        raise PipelineError(f"{path} is not UTF-8 text") from None
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f"{path}:{mark.line + 1}" if mark else str(path)
        raise PipelineError(f"{where}: this is not YAML: {getattr(error, 'problem', None) or error}") from None
    except _Refused as error:
        raise PipelineError(f"{path}:{error}") from None
    if not isinstance(document, dict):
        raise PipelineError(f"{path}: a pipeline is a mapping that begins with `schema: rkfleet.pipeline/1`")
    return document, lines


class _Refused(Exception):
    pass


def _lines(node: yaml.Node | None, at: Loc) -> Iterator[tuple[Loc, int]]:
    """Where each field begins. Errors: _Refused for twice the same key, and for what is far beyond any pipeline."""
    waiting: list[tuple[yaml.Node, Loc]] = [] if node is None else [(node, at)]
    seen = 0
    while waiting:
        here, place = waiting.pop()
        seen += 1
        line = here.start_mark.line + 1
        if seen > _MOST_NODES or len(place) > _MOST_DEPTH:
            raise _Refused(f"{line}: the file is nested or repeated beyond what a pipeline needs")
        yield place, line
        if isinstance(here, yaml.MappingNode):
            keys = set()
            for key, value in here.value:
                if key.value in keys:
                    raise _Refused(f"{key.start_mark.line + 1}: {key.value} stands here twice: remove one")
                keys.add(key.value)
                waiting.append((value, (*place, key.value)))
                yield (*place, key.value), key.start_mark.line + 1
        elif isinstance(here, yaml.SequenceNode):
            waiting += [(value, (*place, index)) for index, value in enumerate(here.value)]


def _override(document: dict[str, Any], text: str) -> None:
    name, equals, value = text.partition("=")
    if not equals or not name.strip("."):
        raise PipelineError(f"--set {text}: write field=value, for example --set training.steps=200")
    *path, last = name.split(".")
    here: Any = document
    for part in path:
        here = here.setdefault(part, {}) if isinstance(here, dict) else None
    if not isinstance(here, dict):
        raise PipelineError(f"--set {text}: {'.'.join(path)} has no fields")
    try:
        here[last] = yaml.safe_load(value)
    except yaml.YAMLError as error:
        raise PipelineError(f"--set {text}: the value is not YAML: {error}") from None


def _in_words(path: Path, lines: dict[Loc, int], error: Any) -> str:
    """One line: file, line, field, what is wrong and what to do."""
    loc = _in_file(error["loc"])
    name = ".".join(str(part) for part in loc) or "the file"
    place = next((lines[loc[:length]] for length in range(len(loc), -1, -1) if loc[:length] in lines), 1)
    return f"{path}:{place}: {name}: {_advice(error, loc)}"


def _in_file(loc: Loc) -> Loc:
    """Without the kind that pydantic puts behind `data`, whose kinds have fields of their own: the file has no such
    field.
    """
    has_kind = len(loc) > 1 and loc[0] == "data" and loc[1] in _kinds(Pipeline)
    return (*loc[:1], *loc[2:]) if has_kind else loc


def _advice(error: Any, loc: Loc) -> str:
    match error["type"]:
        case "missing":
            return "is missing: write it"
        case "extra_forbidden":
            near = difflib.get_close_matches(str(loc[-1]), sorted(_names(Pipeline)), 1)
            return f"there is no such field{f'; is {near[0]} meant?' if near else ': remove it'}"
        case "value_error" | "assertion_error":
            return str(error["ctx"]["error"]) if "ctx" in error else str(error["msg"])
        case _:
            given = repr(error["input"])
            short = given if len(given) <= 60 else given[:57] + "..."
            return f"{error['msg'][:1].lower()}{error['msg'][1:]}, not {short}"


def _models(model: type[BaseModel]) -> Iterator[type[BaseModel]]:
    yield model
    for field in model.model_fields.values():
        waiting: list[Any] = [field.annotation]
        while waiting:
            each = waiting.pop()
            waiting += get_args(each)
            if isinstance(each, type) and issubclass(each, BaseModel):
                yield from _models(each)


def _names(model: type[BaseModel]) -> set[str]:
    return {field.alias or name for each in _models(model) for name, field in each.model_fields.items()}


def _kinds(model: type[BaseModel]) -> set[str]:
    """The values of `kind`, by which a union's members differ."""
    fields = [each.model_fields["kind"] for each in _models(model) if "kind" in each.model_fields]
    return {str(value) for field in fields for value in get_args(field.annotation)}
