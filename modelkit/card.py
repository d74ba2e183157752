"""The model card: what a model was made from, how good it is, where its limits are, and how to make it again."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal

from pydantic import Field

from modelkit.lineage import Change
from modelkit.lineage import table as change_table
from modelkit.report.document import FLOAT, INT8, WORDS, Document, Run
from modelkit.report.tables import markdown, three
from schemas.base import Strict, Text, UtcTime
from schemas.manifest import Manifest

_POOR_IOU: Final = 0.5


class DataCard(Strict):
    """`measured_on` says which pictures the figures are of."""

    source: Text
    terms: Text
    measured_on: Text
    images: int


class FileCard(Strict):
    target: str
    file: str
    bytes: int
    dtype: str
    toolkit_version: str


class ClassCard(Strict):
    """By run (`float32`, `int8`, `board`): IoU and Dice by pixel, F and AP by instance."""

    iou: dict[str, float | None]
    dice: dict[str, float | None]
    f1: dict[str, float | None]
    ap: dict[str, float | None]


class GateCard(Strict):
    text: str
    holds: bool


class Card(Strict):
    """`over_all` is by run and figure; `compression` are `modelkit.lineage.Change` as they are."""

    schema_id: Literal["rkfleet.card/1"] = Field(default="rkfleet.card/1", alias="schema")
    name: str
    version: str
    created_at: UtcTime
    description: Text
    licence: Text
    data: DataCard
    architecture: Text
    parameters: int
    quantisation: str
    training: dict[str, str | int | float]
    compression: list[Change]
    over_all: dict[str, dict[str, float | None]]
    classes: dict[str, ClassCard]
    files: list[FileCard]
    gates: list[GateCard]
    limits: list[Text]
    reproduce: list[str]


@dataclass(frozen=True, slots=True)
class Told:
    """What neither manifest nor figures know: where the data come from and on which terms, the gates as (text, holds),
    limits that the makers know of, and the commands that make and measure the model.
    """

    source: str
    terms: str
    gates: Sequence[tuple[str, bool]] = ()
    limits: Sequence[str] = ()
    reproduce: Sequence[str] = ()


def card_of(manifest: Manifest, document: Document, changes: Sequence[Change], told: Told) -> Card:
    lineage = manifest.lineage
    return Card(
        name=manifest.name,
        version=manifest.version,
        created_at=manifest.created_at,
        description=manifest.description,
        licence=manifest.licence,
        data=DataCard(
            source=told.source,
            terms=told.terms,
            measured_on=document.dataset,
            images=document.best_run.figures.images,
        ),
        architecture=lineage.architecture,
        parameters=lineage.parameters,
        quantisation=lineage.quantisation,
        training=dict(lineage.training),
        compression=list(changes),
        over_all={name: _over_all(run) for name, run in document.runs.items()},
        classes={name: _of_class(document, name) for name in document.best_run.figures.classes},
        files=[
            FileCard(
                target=each.target.value,
                file=each.file,
                bytes=each.bytes,
                dtype=each.dtype,
                toolkit_version=each.toolkit_version,
            )
            for each in manifest.variants
        ],
        gates=[GateCard(text=text, holds=holds) for text, holds in told.gates],
        limits=[*told.limits, *limits(manifest, document)],
        reproduce=list(told.reproduce),
    )


def limits(manifest: Manifest, document: Document) -> list[str]:
    """What the figures themselves say against the model."""
    run = document.best_run
    out = ["Int8 was measured by the converter's simulator, not on an NPU."] if INT8 in document.runs else []
    poor = {name: each.iou for name, each in run.figures.classes.items() if each.iou is not None}
    weak = [f"{name} ({iou:.2f})" for name, iou in poor.items() if iou < _POOR_IOU]
    if weak:
        out.append(f"Of these classes less than half is covered (IoU): {', '.join(weak)}.")
    if run.clean and run.false_alarms:
        out.append(f"{run.false_alarms} of {run.clean} pictures without defects got a false alarm.")
    unseen = [name for name, each in run.figures.classes.items() if each.iou is None]
    if unseen:
        out.append(f"Nothing was measured of {', '.join(unseen)}: the pictures have none.")
    calibration = manifest.calibration
    if calibration is not None and calibration.brightness_range is not None:
        low, high = calibration.brightness_range
        out.append(f"Int8 ranges come from pictures of mean brightness {low:g} to {high:g}; others were not looked at.")
    shapes = ", ".join(f"{high}x{wide}" for high, wide in manifest.inputs[0].shapes)
    return [*out, f"Pictures are scaled to {shapes} px: finer detail is lost."]


def in_markdown(card: Card) -> str:
    """For people."""
    runs = list(card.over_all)
    parts = [
        f"# {card.name} {card.version}",
        card.description,
        _facts(card),
        "## Data",
        card.data.source,
        f"Terms: {card.data.terms}",
        f"Measured on {card.data.images} pictures that training never saw: {card.data.measured_on}.",
        "## Accuracy",
        _over_all_table(card, runs),
        "\n".join(f"- `{name}`: {WORDS.get(name, name)}" for name in runs),
        _class_table(card, runs),
        "## Training",
        _listed({name: value for name, value in card.training.items() if "." not in name}),
    ]
    if card.compression:
        told = [f"- {each.step}: {_listed(each.settings)}" for each in card.compression]
        parts += ["## Compression", change_table(card.compression), "\n".join(told)]
    if card.gates:
        parts += ["## Gates", "\n".join(f"- {'holds' if g.holds else 'MISSED'}: {g.text}" for g in card.gates)]
    files = [[f.target, f.file, f"{f.bytes:,}", f.dtype, f.toolkit_version] for f in card.files]
    parts += ["## Files", markdown([["target", "file", "bytes", "type", "toolkit"], ["---"] * 5, *files])]
    parts += ["## Limits", "\n".join(f"- {each}" for each in card.limits)]
    if card.reproduce:
        parts += ["## To make it again", "```\n" + "\n".join(card.reproduce) + "\n```"]
    return "\n\n".join(part for part in parts if part) + "\n"


def write(card: Card, as_markdown: Path, as_json: Path) -> None:
    """Each whole or not at all."""
    as_markdown.parent.mkdir(parents=True, exist_ok=True)
    made = card.model_dump_json(by_alias=True, indent=1) + "\n"
    for path, text in ((as_markdown, in_markdown(card)), (as_json, made)):
        part = path.with_name(f"{path.name}.part")
        part.write_text(text)
        part.replace(path)


def _listed(settings: Mapping[str, str | int | float]) -> str:
    return ", ".join(f"{name} {value}" for name, value in settings.items() if value != "") + "."


def _facts(card: Card) -> str:
    how = {"ptq": "int8, quantised after training", "qat": "int8, ranges learned in training", "none": "not quantised"}
    rows = [
        ["architecture", card.architecture],
        ["parameters", f"{card.parameters:,}"],
        ["quantisation", how[card.quantisation]],
        ["licence", card.licence or "not stated"],
        ["made", f"{card.created_at:%Y-%m-%d}"],
    ]
    return markdown([["", ""], ["---", "---"], *rows])


def _over_all(run: Run) -> dict[str, float | None]:
    figures = run.figures
    out: dict[str, float | None] = {
        "miou": figures.miou,
        "meanDice": figures.mean_dice,
        "precision": figures.precision,
        "recall": figures.recall,
        "f1": figures.f1,
        "map": figures.mean_ap,
    }
    if run.boxes is not None:
        out |= {"boxes.f1": run.boxes.f1, "boxes.map": run.boxes.mean_ap}
    return {name: None if value is None else round(value, 4) for name, value in out.items()}


def _of_class(document: Document, name: str) -> ClassCard:
    def by_run(field: str) -> dict[str, float | None]:
        values = {each: getattr(run.figures.classes[name], field) for each, run in document.runs.items()}
        return {each: None if value is None else round(value, 4) for each, value in values.items()}

    return ClassCard(iou=by_run("iou"), dice=by_run("dice"), f1=by_run("f1"), ap=by_run("ap"))


def _over_all_table(card: Card, runs: Sequence[str]) -> str:
    words = {
        "miou": "mIoU",
        "meanDice": "mean Dice",
        "precision": "instance precision",
        "recall": "instance recall",
        "f1": "instance F",
        "map": "instance mAP",
        "boxes.f1": "boxes F (DeepPCB's evaluation)",
        "boxes.map": "boxes mAP",
    }
    known = [key for key in words if key in card.over_all[runs[0]]]
    rows: list[list[Any]] = [[words[key], *(three(card.over_all[run].get(key)) for run in runs)] for key in known]
    return markdown([["", *runs], ["---"] * (1 + len(runs)), *rows])


def _class_table(card: Card, runs: Sequence[str]) -> str:
    shown = [run for run in (FLOAT, INT8) if run in runs] or list(runs[:1])
    head = ["class", *(f"IoU {run}" for run in shown), *(f"Dice {run}" for run in shown)]
    head += [f"instance F {run}" for run in shown]
    rows = [
        [name, *(three(getattr(each, field)[run]) for field in ("iou", "dice", "f1") for run in shown)]
        for name, each in card.classes.items()
    ]
    return markdown([head, ["---"] * len(head), *rows])
