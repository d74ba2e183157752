"""Which layers lose most by int8, from the toolkit's accuracy analysis, and how they are told to stay float16."""

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

_LAYER: Final = re.compile(r"^\[(?P<operator>\w+)\]\s+(?P<tensor>\S+)\s*(?P<figures>.*)$")
_FIGURE: Final = r"(\d+\.\d{5}|nan)"
_FIGURES: Final = re.compile(rf"^{_FIGURE} \| {_FIGURE}\s*{_FIGURE} \| {_FIGURE}")
"""Five places each: a wide number touches the next column."""
_NOT_LAYERS: Final = frozenset({"Input", "exDataConvert"})
_NONE_YET: Final = re.compile(r"^custom_quantize_layers: \{\}$", re.MULTILINE)


class UnknownLayer(ValueError):
    """The quantisation configuration has no such tensor."""


@dataclass(frozen=True, slots=True)
class Loss:
    """Of one layer: cosine and Euclidean distance between float and int8, with all layers before it in int8
    (`entire`) and by itself (`single`). `tensors` are what it gives, and what was fused into it.
    """

    operator: str
    tensors: tuple[str, ...]
    entire_cosine: float
    single_cosine: float
    single_distance: float


def parse(analysis: str) -> list[Loss]:
    """The layers in the order of `error_analysis.txt`. Raises ValueError where it has none."""
    found: list[Loss] = []
    waiting: list[str] = []
    for line in analysis.splitlines():
        layer = _LAYER.match(line)
        if not layer:
            continue
        told = _FIGURES.match(layer["figures"])
        if told is None:
            waiting.append(layer["tensor"])
            continue
        entire, _, single, distance = (0.0 if each == "nan" else float(each) for each in told.groups())
        tensors = (*waiting, layer["tensor"])
        waiting.clear()
        found.append(Loss(layer["operator"], tensors, entire, single, distance))
    if not found:
        raise ValueError("the accuracy analysis tells of no layer")
    return found


def ranked(losses: Sequence[Loss]) -> list[Loss]:
    """Layers that can stay float16, the greatest loss of their own first."""
    layers = [each for each in losses if each.operator not in _NOT_LAYERS]
    return sorted(layers, key=lambda each: (each.single_cosine, -each.single_distance))


def final_cosine(losses: Sequence[Loss]) -> float:
    """Of what the model gives, all layers counted."""
    return losses[-1].entire_cosine


def kept_float(config: str, layers: Sequence[Loss]) -> str:
    """The toolkit's `.quantization.cfg` with these layers told to be float16.

    Raises UnknownLayer for a tensor that the configuration has not, ValueError where it is none.
    """
    if not _NONE_YET.search(config):
        raise ValueError("the quantisation configuration names layers already, or is none")
    known = set(re.findall(r"^    ['\"]?([^\s'\"].*?)['\"]?:$", config, re.MULTILINE))
    names: list[str] = []
    for layer in layers:
        in_config = [each for each in layer.tensors if each in known]
        if not in_config:
            raise UnknownLayer(f"the quantisation configuration has no {' or '.join(layer.tensors)}")
        names += in_config
    told = "".join(f"\n    {json.dumps(name)}: float16" for name in names)
    return _NONE_YET.sub(lambda _: f"custom_quantize_layers:{told}" if told else "custom_quantize_layers: {}", config)
