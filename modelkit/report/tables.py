"""Measurements as Markdown tables."""

from collections.abc import Mapping, Sequence

from modelkit.deeppcb_eval import BoxScore
from modelkit.measure import Measured


def table(columns: Mapping[str, Measured]) -> str:
    """By class and over all, one column a measurement. `regions` meet an annotated one, `instances` cover it too."""
    measured = list(columns.values())
    names = list(measured[0].figures.classes)
    rows = [["", *columns], ["---"] * (len(columns) + 1)]
    rows.append(["mIoU", *(f"{m.figures.miou:.3f}" for m in measured)])
    rows.append(["mean Dice", *(f"{m.figures.mean_dice:.3f}" for m in measured)])
    rows += [[f"IoU {name}", *(three(m.figures.classes[name].iou) for m in measured)] for name in names]
    rows += [
        [f"regions: {label}", *(three(getattr(m.score, label)) for m in measured)]
        for label in ("precision", "recall", "f1")
    ]
    rows += [
        [f"instances: {label}", *(three(getattr(m.figures, field)) for m in measured)]
        for label, field in (("precision", "precision"), ("recall", "recall"), ("f1", "f1"), ("mAP", "mean_ap"))
    ]
    rows.append(["clean pictures with a false alarm", *(f"{m.false_alarms} of {m.clean}" for m in measured)])
    return markdown(rows)


def box_table(columns: Mapping[str, BoxScore]) -> str:
    """DeepPCB's evaluation, one column a measurement; per class right, predicted and annotated boxes."""
    rows = [["boxes", *columns], ["---"] * (len(columns) + 1)]
    for label, field in (("F-score", "f1"), ("mAP", "mean_ap"), ("precision", "precision"), ("recall", "recall")):
        rows.append([label, *(f"{getattr(score, field):.4f}" for score in columns.values())])
    classes = next(iter(columns.values())).by_class
    rows += [[name, *(" / ".join(map(str, score.by_class[name])) for score in columns.values())] for name in classes]
    return markdown(rows)


def markdown(rows: Sequence[Sequence[str]]) -> str:
    return "\n".join("| " + " | ".join(row) + " |" for row in rows)


def three(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"
