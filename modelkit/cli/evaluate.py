"""`evaluate`."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from pydantic import TypeAdapter

from modelkit.cli.options import BOARDS, ENVIRONMENT, DataPlace, DeepPcbFolder, Environment, parsed
from modelkit.cli.said import AsJson, Failed, aside, command, examples, show
from schemas.manifest import Clahe

if TYPE_CHECKING:
    from modelkit.bundle_eval import Evaluated
    from modelkit.data import Sample
    from modelkit.data.deeppcb import Box
    from modelkit.pipeline.data import Supply
    from modelkit.readers import Reader
    from modelkit.report.document import Document
    from schemas.manifest import Manifest


def add(app: typer.Typer) -> None:
    app.command(
        epilog=examples(
            "{p} evaluate modelkit/zoo/pcb-unet-1.1.0 --report build/report.html",
            "{p} evaluate BUNDLE --deeppcb FOLDER --int8",
            "{p} evaluate BUNDLE --deeppcb FOLDER --int8 --images LIST --predictions DIR",
            "{p} evaluate BUNDLE BETTER --int8 --board --report build/both.html",
            "{p} evaluate BUNDLE --report build/all.html --compare old.json --compare other.json",
        )
    )(evaluate)


@dataclass(frozen=True, slots=True)
class Wanted:
    """What to measure on, and how."""

    data: str
    deeppcb: Path | None
    images: Path | None
    count: int | None
    aligned_masks: bool
    int8: bool
    board: bool
    environment: Path


@command
def evaluate(  # noqa: PLR0913  options of a command
    bundles: Annotated[list[Path] | None, typer.Argument(metavar="BUNDLE...", help="Folders of bundles.")] = None,
    *,
    bundle: Annotated[list[Path] | None, typer.Option(help="The same as the argument.")] = None,
    data: DataPlace = BOARDS,
    deeppcb: DeepPcbFolder = None,
    images: Annotated[
        Path | None, typer.Option(help="A list like trainval.txt to measure on; paths from its own folder.")
    ] = None,
    count: Annotated[int | None, typer.Option(min=1, help="So many samples, spread over all.")] = None,
    aligned_masks: Annotated[
        bool, typer.Option("--aligned-masks", help="Measure pixels by masks of aligned pairs; else as the pairs are.")
    ] = False,
    int8: Annotated[
        bool,
        typer.Option("--int8", help="By the converter's simulator too, calibrated on --data."),
    ] = False,
    board: Annotated[bool, typer.Option("--board", help="Through the segmenter that a board runs, too.")] = False,
    environment: Environment = ENVIRONMENT,
    predictions: Annotated[
        Path | None, typer.Option(help="Folder for ID.txt: x1,y1,x2,y2,confidence,type a line; of one bundle.")
    ] = None,
    report: Annotated[Path | None, typer.Option(help="Write an HTML report of the first bundle to this file.")] = None,
    compare: Annotated[
        list[Path] | None, typer.Option(help="Evaluations kept with --save, for the report's plot.")
    ] = None,
    save: Annotated[Path | None, typer.Option(help="Keep the first bundle's figures in this JSON file.")] = None,
    as_json: AsJson = False,
) -> None:
    """Measure bundles: IoU, Dice, instances, parts, and DeepPCB's boxes; float, int8, or as a board runs them.

    Measured on the held-out part of --data, or on --images.
    """
    folders = [*(bundles or []), *(bundle or [])]
    if not folders:
        raise Failed("name at least one bundle")
    if predictions and len(folders) != 1:
        raise Failed("--predictions is of one bundle: name one")
    wanted = Wanted(data, deeppcb, images, count, aligned_masks, int8, board, environment)
    with aside(as_json=as_json):
        done = [_measured(folder, wanted) for folder in folders]
        first = done[0]
        if predictions:
            from modelkit.deeppcb_eval import write_predictions  # noqa: PLC0415  numpy, and help does without

            write_predictions(predictions, first.shown.found)
        if save:
            first.document.write(save)
        if report:
            _report(report, done, compare or ())
    words = "\n\n".join(_in_words(folder.name, each) for folder, each in zip(folders, done, strict=True))
    show([_plain(each.document) for each in done], words, as_json=as_json)


@dataclass(frozen=True, slots=True)
class Measured:
    """`shown` is the run that predictions and pictures are of: int8 where there is one."""

    manifest: "Manifest"
    document: "Document"
    runs: "dict[str, Evaluated]"
    samples: "Sequence[Sample]"

    @property
    def shown(self) -> "Evaluated":
        from modelkit.report.document import INT8  # noqa: PLC0415  as above

        return self.runs.get(INT8) or next(iter(self.runs.values()))


def _measured(folder: Path, wanted: Wanted) -> Measured:
    from modelkit.bundle_eval import evaluate_bundle, open_bundle  # noqa: PLC0415  OpenCV, and help does without
    from modelkit.report.document import Document, Run  # noqa: PLC0415  as above

    manifest, model = open_bundle(folder)
    given = _supply(wanted, manifest)
    samples, truth, dataset = _samples(wanted, given)
    readers = _readers(manifest, model, wanted, given)
    runs = {name: evaluate_bundle(manifest, reader, samples, truth) for name, reader in readers.items()}
    document = Document.of(manifest, dataset, {name: Run.of(each) for name, each in runs.items()})
    return Measured(manifest, document, runs, samples)


def _supply(wanted: Wanted, manifest: "Manifest") -> "Supply":
    """Of the bundle's size; drawn boards in pairs where it compares with a reference."""
    from modelkit.pipeline.data import Supply  # noqa: PLC0415  as above
    from modelkit.pipeline.spec_data import Boards  # noqa: PLC0415  as above
    from modelkit.sources import VALIDATION_IMAGES  # noqa: PLC0415  as above

    size_px = manifest.inputs[0].shapes[0][0]
    data = parsed(f"deeppcb:{wanted.deeppcb}" if wanted.deeppcb else wanted.data, size_px)
    if isinstance(data, Boards):
        paired = any(spec.role == "reference" for spec in manifest.inputs)
        count = wanted.count or VALIDATION_IMAGES
        data = Boards(kind="boards", size_px=size_px, reference=paired, validation=count)
    return Supply(data, next((step for step in manifest.preprocess if isinstance(step, Clahe)), None))


def _readers(manifest: "Manifest", model: Path, wanted: Wanted, given: "Supply") -> "dict[str, Reader]":
    from modelkit import readers  # noqa: PLC0415  ONNX Runtime, and help does without
    from modelkit.report.document import BOARD, FLOAT, INT8  # noqa: PLC0415  as above

    out = {FLOAT: readers.cpu_reader(model)}
    if wanted.int8:
        roles = tuple(spec.role for spec in manifest.inputs)
        drawn = not wanted.deeppcb and wanted.data == BOARDS
        if given.source.roles != roles or (wanted.images and drawn and "reference" in roles):
            raise Failed("--int8 of a model with a golden reference calibrates on pairs: give --deeppcb")
        out[INT8] = readers.int8_reader(model, given.source, wanted.environment)
    if wanted.board:
        out[BOARD] = readers.board_reader(readers.board_segmenter(manifest, model))
    return out


def _samples(wanted: Wanted, given: "Supply") -> "tuple[Sequence[Sample], dict[str, list[Box]], str]":
    """Samples, boxes by sample, and what they are in words."""
    from modelkit.data import read_all  # noqa: PLC0415  OpenCV, and help does without
    from modelkit.data.deeppcb import DeepPcb  # noqa: PLC0415  as above
    from modelkit.pipeline import spec_data  # noqa: PLC0415  as above

    if wanted.images:
        pairs = DeepPcb(wanted.images.parent, "all", wanted.images, aligned_masks=wanted.aligned_masks)
        words = f"the pairs of {wanted.images}"
    elif isinstance(given.data, spec_data.DeepPcb):
        pairs = DeepPcb(given.data.folder, "validation", aligned_masks=wanted.aligned_masks)
        words = "DeepPCB, the held-out part of its training split"
    else:
        samples = given.measured()
        every = max(1, len(samples) // (wanted.count or len(samples)))
        return samples[::every][: wanted.count], {}, given.source.dataset
    ids = pairs.ids
    if wanted.count:
        ids = ids[:: max(1, len(ids) // wanted.count)][: wanted.count]
    return read_all(pairs, ids), {name: pairs.boxes(name) for name in ids}, words


def _report(path: Path, done: Sequence[Measured], compare: Sequence[Path]) -> None:
    from modelkit.report import worst  # noqa: PLC0415  OpenCV, and help does without
    from modelkit.report.document import Document  # noqa: PLC0415  as above
    from modelkit.report.html import Report, facts, write  # noqa: PLC0415  as above

    first = done[0]
    pictures = worst.rows(first.samples, first.shown.maps, first.shown.measured.figures.by_image, 12)
    others = [each.document for each in done[1:]] + [Document.read(each) for each in compare]
    sheet = worst.sheet(pictures, list(first.document.colours.values()))
    write(Report(first.document, facts(first.manifest), sheet, others), path)


def _in_words(title: str, done: Measured) -> str:
    from modelkit.report import box_table, table  # noqa: PLC0415  as above

    parts = [table({f"{title}, {name}": run.measured for name, run in done.runs.items()})]
    boxes = {f"{title}, {name}": run.boxes for name, run in done.runs.items() if run.boxes is not None}
    return "\n\n".join([*parts, *([box_table(boxes)] if boxes else [])])


def _plain(document: "Document") -> object:
    from modelkit.report.document import flat  # noqa: PLC0415  as above

    known: object = TypeAdapter(type(document)).dump_python(document, mode="json")
    return {"evaluation": known, "figures": flat(document)}
