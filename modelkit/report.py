"""Measurements as Markdown tables."""

from collections.abc import Mapping

from modelkit.data.deeppcb import CLASSES
from modelkit.deeppcb_eval import BoxScore
from modelkit.measure import Measured


def table(columns: Mapping[str, Measured]) -> str:
    """IoU by class and regions, one column a measurement."""
    rows = [["", *columns], ["---"] * (len(columns) + 1)]
    rows.append(["mIoU", *(f"{m.score.miou:.3f}" for m in columns.values())])
    rows += [[f"IoU {name}", *(_three(m.score.iou.get(name)) for m in columns.values())] for name in CLASSES]
    rows += [
        [f"regions: {label}", *(_three(getattr(m.score, label)) for m in columns.values())]
        for label in ("precision", "recall", "f1")
    ]
    rows.append(["clean pictures with a false alarm", *(f"{m.false_alarms} of {m.clean}" for m in columns.values())])
    return _markdown(rows)


def box_table(columns: Mapping[str, BoxScore]) -> str:
    """DeepPCB's evaluation, one column a measurement; per class right, predicted and annotated boxes."""
    rows = [["boxes", *columns], ["---"] * (len(columns) + 1)]
    for label, field in (("F-score", "f1"), ("mAP", "mean_ap"), ("precision", "precision"), ("recall", "recall")):
        rows.append([label, *(f"{getattr(score, field):.4f}" for score in columns.values())])
    classes = next(iter(columns.values())).by_class
    rows += [[name, *(" / ".join(map(str, score.by_class[name])) for score in columns.values())] for name in classes]
    return _markdown(rows)


def _markdown(rows: list[list[str]]) -> str:
    return "\n".join("| " + " | ".join(row) + " |" for row in rows)


def _three(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"
