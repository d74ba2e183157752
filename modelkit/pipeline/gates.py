"""Whether a model may become a bundle: figures against the pipeline's gates. Pure."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from modelkit.pipeline.spec import Gate


@dataclass(frozen=True, slots=True)
class Checked:
    """One gate and what it met; `missed_by` is 0 where the gate holds, None where the figure is not known."""

    gate: Gate
    value: float | None
    missed_by: float | None

    @property
    def holds(self) -> bool:
        return self.missed_by == 0

    @property
    def text(self) -> str:
        low, high = self.gate.at_least, self.gate.at_most
        wanted = f"at least {_number(low)}" if low is not None else f"at most {_number(high)}"
        if self.value is None or self.missed_by is None:
            return f"{self.gate.figure}: {wanted} is asked, and it was not measured"
        said = f"{self.gate.figure} is {_number(self.value)}, {wanted} is asked"
        return said if self.holds else f"{said}: it misses by {_number(self.missed_by)}"


class GateFailed(Exception):
    """At least one gate does not hold; the text says which figures miss, and by how much."""

    def __init__(self, checked: Sequence[Checked]) -> None:
        self.checked = tuple(checked)
        missed = [each.text for each in checked if not each.holds]
        super().__init__("no bundle: " + "; ".join(missed))


def check(gates: Sequence[Gate], figures: Mapping[str, float]) -> list[Checked]:
    """In the order of the gates. A figure that was not measured holds no gate."""
    return [_checked(gate, figures.get(gate.figure)) for gate in gates]


def _checked(gate: Gate, value: float | None) -> Checked:
    if value is None or math.isnan(value):
        return Checked(gate, None, None)
    short = 0.0
    if gate.at_least is not None:
        short = max(0.0, gate.at_least - value)
    elif gate.at_most is not None:
        short = max(0.0, value - gate.at_most)
    return Checked(gate, value, short)


def _number(value: float | None) -> str:
    if value is None:
        return "-"
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.4g}"
