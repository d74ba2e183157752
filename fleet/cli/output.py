"""What all commands share: words for people, JSON for scripts, and exit codes that mean something."""

import json
import sys
from enum import IntEnum
from typing import Annotated, Any, NoReturn

import typer
from rich.console import Console
from rich.table import Table

AsJson = Annotated[bool, typer.Option("--json", help="Print JSON and nothing else; errors too, on stderr.")]


class Exit(IntEnum):
    """2 is Typer's own for a wrong command line."""

    FAILED = 1
    NOT_FOUND = 3
    REFUSED = 4
    """By a rule: a right, a signature, a state that does not allow it."""
    UNREACHABLE = 5
    """Broker, server or upstream do not answer; trying again may help."""


def show(document: Any, words: str | Table, *, as_json: bool) -> None:
    """`document` is what a script reads: plain values; `words` is the same for people."""
    if as_json:
        sys.stdout.write(json.dumps(document) + "\n")
    else:
        Console().print(words, markup=False, highlight=False, soft_wrap=isinstance(words, str))


def table(title: str, columns: list[str], rows: list[list[str]]) -> Table:
    made = Table(*columns, title=title, title_justify="left", min_width=60)
    for row in rows:
        made.add_row(*row)
    return made


def fail(text: str, code: Exit = Exit.FAILED, *, as_json: bool) -> NoReturn:
    """End the command with a reason on stderr."""
    if as_json:
        sys.stderr.write(json.dumps({"error": text, "exitCode": int(code)}) + "\n")
    else:
        Console(stderr=True).print(text, style="red", markup=False, highlight=False, soft_wrap=True)
    raise typer.Exit(int(code))
