"""The options that say which results: the same for tail, export and stats."""

import inspect
from collections.abc import Callable
from enum import StrEnum
from functools import wraps
from typing import Annotated, Any

import typer

from fleet.cli.client import dig, moment, now
from fleet.cli.results_columns import classes, evaluation

Which = dict[str, str | None]
"""Parameters of the server's routes; a None is left out."""


class Evaluation(StrEnum):
    UNDEFINED = "UNDEFINED"
    OK = "OK"
    NOT_OK = "NOT_OK"
    NOT_DECIDABLE = "NOT_DECIDABLE"


_TEXTS = {
    "since": "From this time on: 2h (ago), 2026-03-06, 2026-03-06T16:00:00Z.",
    "until": "Before this time.",
    "site": "Of this site.",
    "node": "Of boards with this name.",
    "line": "Of this line.",
    "camera": "Of this camera.",
    "part": "Of this part.",
    "lot": "Of this lot.",
    "class": "With a defect of this class.",
}


def _options() -> list[inspect.Parameter]:
    kinds: dict[str, tuple[Any, str]] = {name: (str | None, text) for name, text in _TEXTS.items()}
    kinds["evaluation"] = (Evaluation | None, "OK, NOT_OK, NOT_DECIDABLE; UNDEFINED where nothing was judged.")
    return [
        inspect.Parameter(
            _argument(name), inspect.Parameter.KEYWORD_ONLY, default=None,
            annotation=Annotated[kind, typer.Option(f"--{name}", help=text)],
        )
        for name, (kind, text) in kinds.items()
    ]  # fmt: skip


def _argument(name: str) -> str:
    return "class_name" if name == "class" else name


def filtered(command: Callable[..., None]) -> Callable[..., None]:
    """Gives the command these options, and what they say as its argument `which`."""
    own = inspect.signature(command, eval_str=True)
    options = _options()

    @wraps(command)
    def run(**given: Any) -> None:
        said = {option.name: given.pop(option.name) for option in options}
        which: Which = {name: said[_argument(name)] for name in [*_TEXTS, "evaluation"]}
        at = now()
        which |= {"since": moment(which["since"], at), "until": moment(which["until"], at)}
        command(which=which, **given)

    rest = [parameter for parameter in own.parameters.values() if parameter.name != "which"]
    signature = own.replace(parameters=[*rest, *options])
    vars(run)["__signature__"] = signature
    # Typer reads types here, not in the signature.
    run.__annotations__ = {parameter.name: parameter.annotation for parameter in signature.parameters.values()}
    return run


def matches(result: dict[str, Any], which: Which) -> bool:
    """As the server would choose, for what it sends without a filter: the live view."""
    said = {name: value for name, value in which.items() if value is not None}
    fields = {
        **{name: dig(result, "station", name) for name in ("site", "node", "line", "camera")},
        "part": dig(result, "partId"),
        "lot": dig(result, "lotId"),
        "evaluation": evaluation(result),
    }
    at = dig(result, "creationTime")
    if at < said.pop("since", "") or ("until" in said and at >= said.pop("until")):
        return False
    if "class" in said and said.pop("class") not in classes(result):
        return False
    return all(fields[name] == value for name, value in said.items())
