"""The worked case of docs/endoscopy.md: draw its pictures, and measure bundles with and without the step `crf`.

python -m modelkit.endoscopy draw FOLDER
python -m modelkit.endoscopy compare BUNDLE ...
"""

import argparse
import shutil
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

import cv2
import numpy as np

from agent.core.frame import Layout, Picture
from agent.core.vision import Prepared, Stitch, View, prepare, refine
from modelkit.boundary import Boundaries
from modelkit.bundle_eval import open_bundle
from modelkit.classmap import Map
from modelkit.confusion import Figures, Ledger
from modelkit.data import DataError, Dataset, Sample, read_all
from modelkit.data.endoscopy import Endoscopy
from modelkit.evaluate import without_small
from modelkit.readers import Reader, cpu_reader
from schemas.manifest import Crf, Manifest
from schemas.recipe import ClassRules

PICTURES: Final = 480
LEARNED_SEED: Final = 1
UNSEEN: Final = 80
UNSEEN_SEED: Final = 3
SIZE_PX: Final = 256


@dataclass(frozen=True, slots=True)
class Row:
    """One bundle, with or without the step. Times are medians for a picture, in ms."""

    bundle: str
    clahe: bool
    crf: bool
    figures: Figures
    outlines: float
    prepare_ms: float
    inference_ms: float
    refine_ms: float


@dataclass(frozen=True, slots=True)
class _Seen:
    """A picture, and what the model made of it before the step."""

    sample: Sample
    prepared: Prepared
    class_map: Map
    score: Map
    prepare_ms: float
    inference_ms: float


def write_folder(data: Dataset, folder: Path) -> None:
    """Pictures and label maps as `modelkit.data.folder` reads them. Raises DataError where the folder is there already;
    nothing is left of it when writing fails.
    """
    if folder.exists():
        raise DataError(f"{folder} is there already: name another folder, or remove it")
    part = folder.with_name(f".{folder.name}.part")
    shutil.rmtree(part, ignore_errors=True)
    try:
        for name in ("images", "masks"):
            (part / name).mkdir(parents=True)
        (part / "classes.txt").write_text("".join(f"{name}\n" for name in data.classes))
        for sample_id in data.ids:
            sample = data.read(sample_id)
            _write(part / "images" / f"{sample_id}.png", sample.image[:, :, ::-1])
            _write(part / "masks" / f"{sample_id}.png", sample.mask)
        part.rename(folder)
    finally:
        shutil.rmtree(part, ignore_errors=True)


def _write(path: Path, picture: Map) -> None:
    if not cv2.imwrite(str(path), picture):
        raise DataError(f"{path} cannot be written")


def compare(name: str, manifest: Manifest, reader: Reader, samples: Sequence[Sample], step: Crf) -> list[Row]:
    """Without the step, then with the manifest's own, or with `step` where it has none. Errors: ValueError for class
    ids that the manifest has not; LibraryMissing.
    """
    names = tuple(spec.name for spec in manifest.classes)
    view = View.of(manifest, None, ClassRules())
    seen = list(_seen(view, reader, samples))
    own = view.crf or step
    return [_row(name, names, replace(view, crf=crf), seen) for crf in (None, own)]


def _seen(view: View, reader: Reader, samples: Sequence[Sample]) -> Iterator[_Seen]:
    prepared, prepare_ms = [], []
    for sample in samples:
        started = time.perf_counter()
        prepared.append(prepare(Picture(np.ascontiguousarray(sample.image), Layout.RGB), view))
        prepare_ms.append((time.perf_counter() - started) * 1e3)
    readings = reader(inputs for each in prepared for inputs in each.inputs)
    for sample, each, took_ms in zip(samples, prepared, prepare_ms, strict=True):
        stitch, inference_ms = Stitch(each.placement), 0.0
        for tile in range(each.placement.tiles):
            reading = next(readings)
            stitch.add(tile, reading.winner, reading.score)
            inference_ms += reading.took_ms or 0.0
        yield _Seen(sample, each, *stitch.result(), took_ms, inference_ms)


def _row(name: str, names: Sequence[str], view: View, seen: Sequence[_Seen]) -> Row:
    ledger, outlines = Ledger(names), Boundaries(names)
    limits = np.frombuffer(view.limits, np.uint8)
    refine_ms = []
    for each in seen:
        started = time.perf_counter()
        class_map, score = refine(each.prepared, view, each.class_map, each.score)
        refine_ms.append((time.perf_counter() - started) * 1e3)
        shown = np.where(score > limits[class_map], class_map, np.uint8(0)).astype(np.uint8)
        scale = shown.size / each.sample.mask.size
        final = without_small(shown, [area_px * scale for area_px in view.least_area_px])
        truth = cv2.resize(each.sample.mask, final.shape[::-1], interpolation=cv2.INTER_NEAREST).astype(np.uint8)
        ledger.add(each.sample.id, final, score, truth)
        outlines.add(final, truth)
    return Row(
        bundle=name,
        clahe=view.clahe is not None,
        crf=view.crf is not None,
        figures=ledger.figures(),
        outlines=outlines.mean(),
        prepare_ms=float(np.median([each.prepare_ms for each in seen])),
        inference_ms=float(np.median([each.inference_ms for each in seen])),
        refine_ms=float(np.median(refine_ms)),
    )


def table(rows: Sequence[Row]) -> str:
    """In Markdown. Errors: ValueError for no row."""
    if not rows:
        raise ValueError("there is nothing to show")
    names = list(rows[0].figures.classes)
    heads = ["bundle", "CLAHE", "CRF", "mIoU", "Dice", "outlines F (2 px)", *(f"IoU {name}" for name in names)]
    heads += ["prepare ms", "inference ms", "CRF ms"]
    lines = [heads, ["---"] * len(heads)]
    for row in rows:
        told = [row.figures.miou, row.figures.mean_dice, row.outlines, *(row.figures.classes[n].iou for n in names)]
        times = [row.prepare_ms, row.inference_ms, row.refine_ms]
        cells = [row.bundle, *("yes" if each else "no" for each in (row.clahe, row.crf))]
        cells += ["-" if value is None else f"{value:.3f}" for value in told]
        lines.append(cells + [f"{value:.1f}" for value in times])
    return "".join("| " + " | ".join(line) + " |\n" for line in lines)


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m modelkit.endoscopy", description="The worked case of docs/endoscopy.md."
    )
    commands = parser.add_subparsers(dest="command", required=True)
    draw = commands.add_parser("draw", help="write pictures and label maps to a folder, for `data: {kind: folder}`")
    draw.add_argument("folder", type=Path)
    draw.add_argument("--count", type=int, default=PICTURES)
    draw.add_argument("--size-px", type=int, default=SIZE_PX)
    draw.add_argument("--seed", type=int, default=LEARNED_SEED)
    measure = commands.add_parser("compare", help="measure bundles on unseen pictures, with and without the step crf")
    measure.add_argument("bundles", type=Path, nargs="+", metavar="BUNDLE")
    measure.add_argument("--count", type=int, default=UNSEEN)
    measure.add_argument("--size-px", type=int, default=SIZE_PX)
    measure.add_argument("--seed", type=int, default=UNSEEN_SEED)
    given = parser.parse_args(argv)
    try:
        data = Endoscopy(given.count, given.size_px, given.seed)
        if given.command == "draw":
            write_folder(data, given.folder)
        else:
            print(_compared(given.bundles, data), end="")
    except DataError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


def _compared(folders: Sequence[Path], data: Endoscopy) -> str:
    rows: list[Row] = []
    samples = read_all(data)
    for folder in folders:
        manifest, model = open_bundle(folder)
        if tuple(spec.name for spec in manifest.classes) != data.classes:
            raise DataError(f"{folder} has other classes than {', '.join(data.classes)}: it is of another case")
        rows += compare(folder.name, manifest, cpu_reader(model), samples, Crf())
    return table(rows)


if __name__ == "__main__":
    sys.exit(main())
