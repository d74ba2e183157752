"""What each step of compression cost and gained against its parent, kept as JSON, for reports and the manifest."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal, Self

from pydantic import TypeAdapter, ValidationError

from schemas.manifest import Lineage

Setting = str | int | float


@dataclass(frozen=True, slots=True)
class Figures:
    """`macs` are multiplications with addition a picture; `miou` and `f1` (of regions) those of the float network, the
    `int8` ones those of the converter's simulator, None where they were not measured. All on the same unseen pictures.
    """

    parameters: int
    macs: int
    miou: float
    f1: float | None = None
    int8_miou: float | None = None
    int8_f1: float | None = None


@dataclass(frozen=True, slots=True)
class Change:
    """From `parent` to `child` by one step; `settings` say with what. `seconds` are those of the step alone."""

    step: Literal["distil", "prune", "quantise", "hybrid", "qat"]
    parent: Figures
    child: Figures
    seconds: float
    settings: dict[str, Setting] = field(default_factory=dict)

    def with_int8(self, parent: tuple[float, float | None] | None, child: tuple[float, float | None]) -> Self:
        """The same with mIoU and F of the int8 models, measured later; None leaves the parent's as they are."""
        before, after = self.parent, replace(self.child, int8_miou=child[0], int8_f1=child[1])
        if parent is not None:
            before = replace(before, int8_miou=parent[0], int8_f1=parent[1])
        return replace(self, parent=before, child=after)


_JSON = TypeAdapter(list[Change])


def write(changes: Sequence[Change], path: Path) -> None:
    """Whole or not at all."""
    part = path.with_suffix(".part")
    part.write_bytes(_JSON.dump_json(list(changes), indent=1) + b"\n")
    part.replace(path)


def read(path: Path) -> list[Change]:
    """What `write` wrote; a file that is not there is no changes. Raises ValueError for any other content."""
    if not path.exists():
        return []
    try:
        return _JSON.validate_json(path.read_bytes())
    except ValidationError as error:
        raise ValueError(f"{path} holds no list of changes: {error}") from None


def manifest_lineage(
    architecture: str, parameters: int, training: Mapping[str, Setting], changes: Sequence[Change]
) -> Lineage:
    """As the manifest states it; the changes' settings and figures go into `training`, under `STEP.NAME`."""
    flat: dict[str, Setting] = dict(training)
    for change in changes:
        flat |= {f"{change.step}.{name}": value for name, value in change.settings.items()}
        flat[f"{change.step}.seconds"] = round(change.seconds, 1)
        flat[f"{change.step}.miouBefore"] = round(change.parent.miou, 4)
        flat[f"{change.step}.miouAfter"] = round(change.child.miou, 4)
    by_step = {change.step: change for change in changes}
    told = {
        name: str(by_step[step].settings["parent"])
        for name, step in (("teacher", "distil"), ("pruned_from", "prune"))
        if step in by_step
    }
    return Lineage(
        architecture=architecture,
        parameters=parameters,
        quantisation="qat" if "qat" in by_step else "ptq",
        training=flat,
        **told,
    )


def table(changes: Sequence[Change]) -> str:
    """A Markdown table, one row a change, before and after."""
    rows = [["step", "parameters", "MACs", "mIoU", "F", "int8 mIoU", "int8 F", "seconds"], ["---"] * 8]
    for each in changes:
        before, after = each.parent, each.child
        rows.append(
            [
                each.step,
                f"{before.parameters:,} -> {after.parameters:,}",
                f"{before.macs / 1e6:,.0f} M -> {after.macs / 1e6:,.0f} M",
                *(
                    f"{_three(getattr(before, name))} -> {_three(getattr(after, name))}"
                    for name in ("miou", "f1", "int8_miou", "int8_f1")
                ),
                f"{each.seconds:.0f}",
            ]
        )
    return "\n".join("| " + " | ".join(row) + " |" for row in rows)


def _three(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"
