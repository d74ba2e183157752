"""What all commands share: words for people, JSON for scripts, and exit codes that mean something.

Much of what is shown was said by boards, and a board may be in the wrong hands: nothing of it reaches the terminal as
anything but text.
"""

import json
import sys
from collections.abc import Sequence
from enum import IntEnum
from typing import Annotated, Any, NoReturn

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

AsJson = Annotated[bool, typer.Option("--json", help="Print JSON and nothing else; errors too, on stderr.")]
_WIDE = 4000
"""Columns where nobody watches: lines for `grep` and `awk` are not folded."""


class Exit(IntEnum):
    """2 is Typer's own for a wrong command line, 130 for Ctrl-C."""

    FAILED = 1
    NOT_FOUND = 3
    REFUSED = 4
    """By a rule: a right, a signature, a state that does not allow it."""
    UNREACHABLE = 5
    """Broker, server, upstream or board do not answer; trying again may help."""


def clean(text: object, *, keep_lines: bool = False) -> str:
    """Control characters, escape sequences and marks that turn the direction of writing are written out."""
    said = str(text)
    if keep_lines:
        return "\n".join(clean(line) for line in said.split("\n"))
    return said if said.isprintable() else "".join(map(_visible, said))


def _visible(character: str) -> str:
    return character if character.isprintable() else character.encode("unicode_escape").decode()


def console(*, stderr: bool = False) -> Console:
    made = Console(stderr=stderr, highlight=False)
    return made if made.is_terminal else Console(stderr=stderr, highlight=False, width=_WIDE)


def show(document: Any, words: str | Table, *, as_json: bool) -> None:
    """`document` is what a script reads: plain values; `words` is the same for people."""
    if as_json:
        line(document)
    elif isinstance(words, Table):
        out = console()
        if out.is_terminal:
            out.print(words)
        else:
            sys.stdout.write(_bare(out, words))
    else:
        console().print(Text(clean(words, keep_lines=True)), soft_wrap=True)


def line(document: Any) -> None:
    """One document on one line, at once. ASCII alone, so that no character of it does anything to a terminal."""
    sys.stdout.write(json.dumps(document) + "\n")
    sys.stdout.flush()


def table(title: str, columns: list[str], rows: Sequence[Sequence[object]]) -> Table:
    made = Table(title=Text(clean(title)), title_justify="left", min_width=60)
    for name in columns:
        made.add_column(Text(name), overflow="fold")
    for row in rows:
        made.add_row(*(Text(clean(cell, keep_lines=True)) for cell in row))
    return made


def _bare(out: Console, made: Table) -> str:
    made.box, made.title, made.min_width, made.pad_edge = None, None, None, False
    with out.capture() as captured:
        out.print(made)
    return "".join(f"{row.rstrip()}\n" for row in captured.get().splitlines())


def note(text: str, *, as_json: bool = False) -> None:
    """An aside for people, on stderr."""
    if not as_json:
        console(stderr=True).print(Text(clean(text, keep_lines=True)), soft_wrap=True)


def fail(text: str, code: Exit = Exit.FAILED, *, as_json: bool) -> NoReturn:
    """End the command with a reason on stderr."""
    if as_json:
        sys.stderr.write(json.dumps({"error": text, "exitCode": int(code)}) + "\n")
    else:
        console(stderr=True).print(Text(clean(text, keep_lines=True), style="red"), soft_wrap=True)
    raise typer.Exit(int(code))
