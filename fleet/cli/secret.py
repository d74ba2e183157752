"""Passwords and tokens come from a prompt, the environment or stdin; never from the command line, which others see."""

import os
import sys
from typing import Annotated

import typer

FromStdin = Annotated[bool, typer.Option("--password-stdin", help="Read the password from stdin, for scripts.")]
_MOST = 4096


def asked(of: str, *, from_stdin: bool, variable: str, is_new: bool = False) -> str:
    """One from stdin loses the end of its line. A new one is asked for twice."""
    if from_stdin:
        return first_line()
    if (given := os.environ.get(variable)) is not None:
        return given
    return str(typer.prompt(f"Password of {of}", hide_input=True, confirmation_prompt=is_new, err=True))


def first_line() -> str:
    """Of stdin. Raises typer.BadParameter where there is none."""
    said = sys.stdin.readline(_MOST).rstrip("\r\n")
    if not said:
        raise typer.BadParameter("nothing on stdin")
    return said
