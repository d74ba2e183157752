"""What was measured of one model, as a file: `evaluation.json`, which reports and comparisons are made from."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Self

from pydantic import TypeAdapter, ValidationError

from modelkit.bundle_eval import Evaluated, Verdicts
from modelkit.confusion import Figures
from modelkit.data import DataError
from modelkit.deeppcb_eval import BoxScore
from schemas.manifest import Manifest

SCHEMA: Final = "rkfleet.evaluation/1"
FLOAT, INT8, BOARD = "float32", "int8", "board"
WORDS: Final = {
    FLOAT: "float: the exported network on ONNX Runtime",
    INT8: "int8: the converter's simulator",
    BOARD: "bundle: the packed bundle through the segmenter of a board, CPU variant",
}
"""How each run of a document was made."""


@dataclass(frozen=True, slots=True)
class Run:
    """One way through the pictures. `latency_ms` is the median inference, on the machine that measured."""

    figures: Figures
    clean: int
    false_alarms: int
    boxes: BoxScore | None = None
    verdicts: Verdicts | None = None
    latency_ms: float | None = None

    @classmethod
    def of(cls, done: Evaluated) -> Self:
        measured = done.measured
        return cls(measured.figures, measured.clean, measured.false_alarms, done.boxes, done.verdicts, done.latency_ms)


@dataclass(frozen=True, slots=True)
class Document:
    """`runs` are by FLOAT, INT8 and BOARD; `sizes_bytes` by target."""

    name: str
    version: str
    dataset: str
    parameters: int
    sizes_bytes: dict[str, int]
    runs: dict[str, Run]
    colours: dict[str, str] = field(default_factory=dict)
    schema: str = SCHEMA

    @classmethod
    def of(cls, manifest: Manifest, dataset: str, runs: dict[str, Run]) -> Self:
        return cls(
            name=manifest.name,
            version=manifest.version,
            dataset=dataset,
            parameters=manifest.lineage.parameters,
            sizes_bytes={each.target.value: sum(f.bytes for f in each.files()) for each in manifest.variants},
            runs=runs,
            colours={spec.name: spec.colour for spec in manifest.classes},
        )

    @property
    def best_run(self) -> Run:
        """Int8 where it was measured, else the first."""
        return self.runs.get(INT8) or next(iter(self.runs.values()))

    def write(self, path: Path) -> None:
        part = path.with_name(f"{path.name}.part")
        part.write_bytes(_ADAPTER.dump_json(self, indent=1) + b"\n")
        part.replace(path)

    @classmethod
    def read(cls, path: Path) -> "Document":
        """Errors: DataError for what is no such file."""
        try:
            document = _ADAPTER.validate_json(path.read_bytes())
        except (OSError, ValidationError) as error:
            raise DataError(f"{path} is no evaluation: {error}") from None
        if document.schema != SCHEMA or not document.runs:
            raise DataError(f"{path} is no evaluation: its schema is {document.schema}, not {SCHEMA}, or it has no run")
        return document


_ADAPTER: Final = TypeAdapter(Document)


def flat(document: Document) -> dict[str, float]:
    """The figures by the names that gates use; what was not measured is not there."""
    out: dict[str, float] = {"parameters": float(document.parameters)}
    out |= {f"bytes.{target}": float(size) for target, size in document.sizes_bytes.items()}
    for name, run in document.runs.items():
        out |= {f"{name}.{key}": value for key, value in _of_run(run).items() if value is not None}
    for key in ("miou", "meanDice", "f1", "map", "boxes.f1", "boxes.map"):
        before, after = out.get(f"{FLOAT}.{key}"), out.get(f"{INT8}.{key}")
        if before is not None and after is not None:
            out[f"loss.{key}"] = before - after
    return out


def _of_run(run: Run) -> dict[str, float | None]:
    figures = run.figures
    out: dict[str, float | None] = {
        "miou": figures.miou,
        "meanDice": figures.mean_dice,
        "precision": figures.precision,
        "recall": figures.recall,
        "f1": figures.f1,
        "map": figures.mean_ap,
    }
    out |= {f"iou.{name}": each.iou for name, each in figures.classes.items()}
    if run.boxes is not None:
        out |= {"boxes.f1": run.boxes.f1, "boxes.map": run.boxes.mean_ap}
    if run.verdicts is not None:
        said = run.verdicts
        out["escapes"] = said.escapes / said.bad if said.bad else None
        out["overkill"] = said.overkill / said.good if said.good else None
    return out
