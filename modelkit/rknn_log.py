"""What the RKNN toolkit tells in its log alone: why it gave up, and which layers the NPU does not compute."""

import re
from collections.abc import Iterable, Sequence
from typing import Final

from modelkit.rknn_job import Fallback

MARK: Final = "==== target "
"""The worker begins each target's part of the log with this and the target's name."""
REFUSED: Final = "refused: "
"""So the worker's own reasons begin."""
_COLOUR: Final = re.compile(r"\x1b\[[0-9;]*m")
_ERROR: Final = re.compile(r"^\s*E\s+(?:RKNN: \[[\d:.]+\]\s*)?(?P<text>.+)$")
_RAISED: Final = re.compile(r"^(?:[\w.]*(?:Error|Exception)|[\w.]*pybind11_state\.\w+): (?P<text>.+)$")
"""The last line of a trace, where the toolkit tells no more than the trace."""
_NOISE: Final = ("rknn-toolkit2 version", "Traceback", "WARN(")
_ROW: Final = re.compile(r"^D RKNN: \[[\d:.]+\]\s+\d+\s+(?P<operator>\S+)\s+(?P<dtype>[A-Z]+\d*)\s+CPU\s+(?P<rest>.*)$")
_BUILDING: Final = "rknn building ..."
_EDGES: Final = frozenset({"InputOperator", "OutputOperator"})


def plain(log: str) -> str:
    return _COLOUR.sub("", log)


def errors(log: str) -> list[str]:
    """The toolkit's own words, each once, in order."""
    found: dict[str, None] = {}
    for line in plain(log).splitlines():
        told = _ERROR.match(line) or _RAISED.match(line)
        if told and not any(noise in told["text"] for noise in _NOISE):
            found[told["text"].strip()] = None
    return list(found)


def fallbacks(log: str, nodes: Sequence[tuple[str, str]]) -> dict[str, tuple[Fallback, ...]]:
    """By target, what the last model built for it leaves to the CPU. `nodes` are operator and name of the ONNX model's:
    the toolkit cuts names short, and these tell the rest.
    """
    return {target: _of_part(part, nodes) for target, part in _parts(plain(log)).items()}


def _parts(log: str) -> dict[str, str]:
    pieces = re.split(rf"^{MARK}(\S+)$", log, flags=re.MULTILINE)
    return dict(zip(pieces[1::2], pieces[2::2], strict=True))


def _of_part(part: str, nodes: Iterable[tuple[str, str]]) -> tuple[Fallback, ...]:
    found: dict[Fallback, None] = {}
    for line in part.rpartition(_BUILDING)[2].splitlines():
        row = _ROW.match(line)
        if row and row["operator"] not in _EDGES:
            shown = row["rest"].split()[-1] if row["rest"].split() else ""
            name = shown.partition(":")[2] or shown
            found[Fallback(row["operator"], _whole(name, row["operator"], nodes), row["dtype"])] = None
    return tuple(found)


def _whole(name: str, operator: str, nodes: Iterable[tuple[str, str]]) -> str:
    """The one node of that operator whose name begins so, else the name as the toolkit shows it."""
    begun = [whole for kind, whole in nodes if kind == operator and whole.startswith(name)]
    return begun[0] if len(begun) == 1 else name
