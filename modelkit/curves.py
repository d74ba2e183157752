"""How a training went: a line of JSON for each validation, and the same as a picture of curves."""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

LOG: Final = "log.jsonl"
PICTURE: Final = "curves.png"


@dataclass(frozen=True, slots=True)
class Point:
    """At a validation: means since the one before of the loss and of its parts, the rate of learning, the mean IoU, the
    IoU of each class (None where it is in neither map), and the seconds since the start of this run.
    """

    step: int
    loss: float
    parts: dict[str, float]
    rate: float
    miou: float
    iou: tuple[float | None, ...]
    elapsed_s: float


class Log:
    """`log.jsonl` and `curves.png` in one folder."""

    def __init__(self, folder: Path, resumed_at: int) -> None:
        """What an earlier run wrote past `resumed_at` is dropped: it is trained anew."""
        self._folder = folder
        self.points = [point for point in read(folder / LOG) if point.step <= resumed_at]
        (folder / LOG).write_text("".join(map(_line, self.points)))

    def add(self, point: Point) -> None:
        self.points.append(point)
        with (self._folder / LOG).open("a") as log:
            log.write(_line(point))
        draw(self.points, self._folder / PICTURE)


def read(path: Path) -> list[Point]:
    """The points of a log, none if there is no log; a last line that a crash cut short is left out."""
    points = []
    for line in path.read_text().splitlines() if path.exists() else ():
        try:
            values = json.loads(line)
            points.append(Point(**values | {"iou": tuple(values["iou"])}))
        except (ValueError, TypeError, KeyError):
            break
    return points


def draw(points: Sequence[Point], path: Path) -> None:
    """Loss with its parts, IoU with its mean, and the rate, over the steps, as PNG."""
    figure = Figure(figsize=(12, 3.6), dpi=100, layout="constrained")
    FigureCanvasAgg(figure)
    loss, iou, rate = figure.subplots(1, 3)
    steps = [point.step for point in points]
    loss.plot(steps, [point.loss for point in points], "k.-", label="loss")
    for name in points[0].parts if points else ():
        loss.plot(steps, [point.parts[name] for point in points], ".-", linewidth=1, label=name)
    loss.set(title="loss, mean since the last validation", yscale="log")
    for class_id in range(len(points[0].iou) if points else 0):
        iou.plot(steps, [_drawn(point.iou[class_id]) for point in points], ".-", linewidth=1, label=str(class_id))
    iou.plot(steps, [point.miou for point in points], "k.-", label="mean")
    iou.set(title="IoU by class id", ylim=(0, 1))
    rate.plot(steps, [point.rate for point in points], "k.-")
    rate.set(title="rate of learning")
    for axes in (loss, iou, rate):
        axes.set_xlabel("step")
        axes.grid(visible=True, alpha=0.3)
    for axes in (loss, iou):
        axes.legend(fontsize="x-small", ncols=2)
    figure.savefig(path)


def _drawn(value: float | None) -> float:
    return float("nan") if value is None else value


def _line(point: Point) -> str:
    return json.dumps(asdict(point)) + "\n"
