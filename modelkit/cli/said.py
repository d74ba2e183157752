"""How commands speak: words or JSON on stdout, all else on stderr; errors in a sentence; exit codes."""

import contextlib
import functools
import json
import os
import sys
from collections.abc import Callable, Iterator
from enum import IntEnum
from typing import Annotated, Any, Final, ParamSpec, TypeVar

import typer
from rich.console import Console

PROGRAM: Final = os.environ.get("RKFLEET_MODEL_PROGRAM", "python -m modelkit")
"""How the commands are called where they are called from; for help and advice."""
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON and nothing else on stdout; errors too, on stderr.")]
P = ParamSpec("P")
R = TypeVar("R")


class Exit(IntEnum):
    """2 is Typer's own for a wrong command line, 130 what a shell takes Ctrl-C for."""

    FAILED = 1
    STOPPED = 130


class Failed(Exception):
    """Ends a command with this text and exit code 1."""


def command(function: Callable[P, R]) -> Callable[P, R]:
    """Foreseen errors end the command with a sentence, Ctrl-C without a trace."""

    @functools.wraps(function)
    def told(*args: P.args, **kwargs: P.kwargs) -> R:
        as_json = bool(kwargs.get("as_json"))
        try:
            return function(*args, **kwargs)
        except KeyboardInterrupt:
            _say(function.__name__, "stopped", Exit.STOPPED, as_json=as_json)
            raise typer.Exit(int(Exit.STOPPED)) from None
        except ModuleNotFoundError as error:
            text = f"{error.name} is needed, and is not installed here: pip install 'rkfleet[modelkit]'"
            _say(function.__name__, text, Exit.FAILED, as_json=as_json)
        except foreseen() as error:
            _say(function.__name__, str(error), Exit.FAILED, as_json=as_json)
        raise typer.Exit(int(Exit.FAILED))

    return told


def foreseen() -> tuple[type[Exception], ...]:
    """All that the kit raises for what is wrong with the world, and not with the kit. Only what has been imported can
    have raised, and nothing is imported for this.
    """
    places = {
        "modelkit.build": ("StepMissing",),
        "modelkit.convert_rknn": ("ConversionFailed",),
        "modelkit.pipeline.gates": ("GateFailed",),
        "modelkit.pipeline.engine": ("WorkBusy",),
        "agent.core.vision.refine": ("LibraryMissing",),
    }
    own = [
        getattr(sys.modules[place], name) for place, names in places.items() if place in sys.modules for name in names
    ]
    return (Failed, OSError, ValueError, *own)


def _say(name: str, text: str, code: Exit, *, as_json: bool) -> None:
    words = name.strip("_").replace("_", "-")
    if as_json:
        sys.stderr.write(json.dumps({"error": text, "command": words, "exitCode": int(code)}) + "\n")
    else:
        console = Console(stderr=True)
        console.print(f"{PROGRAM} {words}: {text}", style="red", markup=False, highlight=False, soft_wrap=True)


def show(document: Any, words: Any, *, as_json: bool) -> None:
    """`document` is what a script reads: plain values; `words` text or a Rich table for people."""
    if as_json:
        sys.stdout.write(json.dumps(document) + "\n")
    else:
        Console().print(words, markup=False, highlight=False, soft_wrap=isinstance(words, str))


@contextlib.contextmanager
def aside(*, as_json: bool) -> Iterator[None]:
    """What the steps print goes to stderr, so that stdout is JSON alone."""
    if not as_json:
        yield
        return
    with contextlib.redirect_stdout(sys.stderr):
        yield


def examples(*lines: str) -> str:
    """The end of a command's help; `{p}` is the program."""
    return "Examples:\n\n" + "\n\n".join(f"  {line.format(p=PROGRAM)}" for line in lines)
