"""Plots of measurements as PNG bytes."""

import io
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from modelkit.confusion import Figures
from modelkit.report.document import FLOAT, INT8, Document, Run
from schemas.target import Target

_DPI: Final = 110
_INK, _FAINT = "#1f2933", "#d5dbe1"
_COLOURS: Final = ("#2f6fb0", "#e07b39", "#3f9c6b")


@dataclass(frozen=True, slots=True)
class Point:
    """A model in the comparison. `size_bytes` is its largest file for one board, of the CPU where there is no other."""

    name: str
    miou: float
    size_bytes: int
    latency_ms: float | None

    @classmethod
    def of(cls, document: Document) -> "Point":
        sizes = {name: size for name, size in document.sizes_bytes.items() if name != Target.CPU.value}
        timed = [run.latency_ms for run in document.runs.values() if run.latency_ms is not None]
        size_bytes = max((sizes or document.sizes_bytes).values())
        name = f"{document.name} {document.version}"
        return cls(name, document.best_run.figures.miou, size_bytes, min(timed) if timed else None)


def confusion(figures: Figures) -> bytes:
    """Shares of the pixels of each true class, by the class that was predicted."""
    names = list(figures.classes)
    counts = np.asarray(figures.confusion, np.float64)
    totals = counts.sum(1, keepdims=True)
    shares = np.divide(counts, totals, out=np.zeros_like(counts), where=totals > 0)
    side = 1.9 + 0.62 * len(names)
    figure, (axes,) = _figure((side, side), 1)
    axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    for row, column in np.ndindex(*shares.shape):
        text = f"{shares[row, column]:.0%}" if totals[row] and shares[row, column] >= 0.005 else ""
        axes.text(column, row, text, ha="center", va="center", fontsize=9, color=_on(shares[row, column]))
    axes.set_xticks(range(len(names)), names, rotation=40, ha="right")
    axes.set_yticks(range(len(names)), names)
    axes.set_xlabel("predicted")
    axes.set_ylabel("true")
    axes.tick_params(length=0)
    for spine in axes.spines.values():
        spine.set_visible(False)
    return _png(figure)


def by_class(runs: dict[str, Run]) -> bytes:
    """IoU of each class, one bar a run."""
    names = list(next(iter(runs.values())).figures.classes)
    figure, (axes,) = _figure((5.6, 1.9 + 0.62 * len(names)), 1)
    width = 0.8 / len(runs)
    for place, (name, run) in enumerate(runs.items()):
        values = [run.figures.classes[each].iou or 0.0 for each in names]
        at = np.arange(len(names)) + (place - (len(runs) - 1) / 2) * width
        axes.barh(at, values, width * 0.9, label=name, color=_COLOURS[place % len(_COLOURS)])
    axes.set_yticks(range(len(names)), names)
    axes.invert_yaxis()
    axes.set_xlim(0, 1)
    axes.set_xlabel("IoU")
    axes.grid(axis="x", color=_FAINT)
    axes.legend(ncols=len(runs), loc="lower left", bbox_to_anchor=(0, 1), frameon=False, borderaxespad=0.2)
    return _png(figure)


def comparison(points: Sequence[Point]) -> bytes:
    """Accuracy against size, and against latency where it is known of any."""
    timed = [point for point in points if point.latency_ms is not None]
    figure, panes = _figure((9.5 if timed else 5.2, 3.8), 2 if timed else 1)
    _scatter(panes[0], points, [point.size_bytes / 1e6 for point in points], "size of the file in MB")
    if timed:
        _scatter(panes[1], timed, [point.latency_ms or 0.0 for point in timed], "median inference in ms (CPU)")
    return _png(figure)


def _scatter(axes: Any, points: Sequence[Point], across: Sequence[float], label: str) -> None:
    for place, (point, x) in enumerate(zip(points, across, strict=True)):
        axes.scatter([x], [point.miou], s=55, color=_COLOURS[place % len(_COLOURS)], zorder=3)
        # To the side that has room, and in turns above and below, so that near ones can be told apart.
        left = x > (min(across) + max(across)) / 2
        offset = (-8 if left else 8, 9 if place % 2 else -9)
        axes.annotate(
            point.name,
            (x, point.miou),
            xytext=offset,
            textcoords="offset points",
            ha="right" if left else "left",
            va="center",
            fontsize=8,
        )
    axes.set_xlabel(label)
    axes.set_ylabel("mIoU")
    lowest = min(point.miou for point in points)
    axes.set_ylim(max(0.0, lowest - 0.1), min(1.02, max(point.miou for point in points) + 0.1))
    axes.margins(x=0.15)
    axes.grid(color=_FAINT)


def _figure(size: tuple[float, float], panes: int) -> tuple[Figure, list[Any]]:
    figure = Figure(figsize=size, dpi=_DPI, layout="constrained")
    FigureCanvasAgg(figure)
    axes = list(figure.subplots(1, panes, squeeze=False)[0])
    for each in axes:
        each.set_axisbelow(True)
        each.tick_params(colors=_INK, labelsize=9)
        for side in ("top", "right"):
            each.spines[side].set_visible(False)
    return figure, axes


def _png(figure: Figure) -> bytes:
    out = io.BytesIO()
    figure.savefig(out, format="png")
    return out.getvalue()


def _on(share: float) -> str:
    return "white" if share > 0.55 else _INK


def shown_first(runs: dict[str, Run]) -> tuple[str, Run]:
    """The run whose details are shown: int8 where there is one, else float, else what there is."""
    name = next((each for each in (INT8, FLOAT) if each in runs), next(iter(runs)))
    return name, runs[name]
