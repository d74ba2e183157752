"""The version of the code behind a step: the digest of its module and of all of the project that it imports."""

import ast
import hashlib
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Final

_ROOT: Final = Path(__file__).resolve().parents[2]
_OURS: Final = ("modelkit", "agent", "schemas")
_NAME: Final = re.compile(r"(modelkit|agent|schemas)(\.[a-z_0-9]+)+")
_PARTS: Final = ("engine", "spec", "spec_data", "load", "stamp", "code")
_ENGINE: Final = frozenset({"modelkit.pipeline", *(f"modelkit.pipeline.{each}" for each in _PARTS)})
"""It decides when a step runs, not what it makes."""


@cache
def code_digest(*modules: str) -> str:
    """Imports inside of functions count too, and modules whose whole name stands in the code as a text."""
    running = hashlib.sha256()
    for name, path in sorted({name: path for module in modules for name, path in closure(module).items()}.items()):
        running.update(f"{name} {hashlib.sha256(path.read_bytes()).hexdigest()}\n".encode())
    return running.hexdigest()


def closure(module: str) -> dict[str, Path]:
    """The module and all of the project that it needs, by name. Empty for a module from outside of the project."""
    found: dict[str, Path] = {}
    waiting = [module]
    while waiting:
        name = waiting.pop()
        path = _path(name)
        if name in found or path is None or name in _ENGINE:
            continue
        found[name] = path
        waiting += _imports(path)
    return found


def _path(name: str) -> Path | None:
    if name.split(".", maxsplit=1)[0] not in _OURS:
        return None
    stem = _ROOT.joinpath(*name.split("."))
    return next((path for path in (stem.with_suffix(".py"), stem / "__init__.py") if path.is_file()), None)


def _imports(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_bytes())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and _NAME.fullmatch(node.value):
            yield node.value
