"""`python -m modelkit`: from nothing to a measured bundle."""

import argparse
import sys
from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any, Final

from modelkit import build, bundle_eval, sources, synthesise
from modelkit.convert_rknn import ConversionFailed
from modelkit.data import Sample, read_all
from modelkit.data.deeppcb import Box, DeepPcb
from modelkit.deeppcb_eval import write_predictions
from modelkit.plan import Plan
from modelkit.report import box_table, table

_ENVIRONMENT: Final = Path(".venv-convert")
_EXAMPLES: Final = """examples:
  python -m modelkit synthesise --count 32 --out build/pictures
  python -m modelkit build --architecture unet --roles image --width 16 --version 1.2.0 --out build/pcb-unet-1.2.0
or step by step, with the same --work and, for pairs with a golden reference, the same --deeppcb:
  python -m modelkit train --work build/mine --deeppcb FOLDER --steps 4500
  python -m modelkit export --work build/mine --deeppcb FOLDER
  python -m modelkit convert --work build/mine --deeppcb FOLDER
  python -m modelkit pack --work build/mine --deeppcb FOLDER --name mine --version 1.0.0 --out build/mine-1.0.0
and to measure any bundle, float or int8 (the converter's simulator), on pairs of your own:
  python -m modelkit evaluate --bundle BUNDLE --deeppcb FOLDER
  python -m modelkit evaluate --bundle BUNDLE --deeppcb FOLDER --int8 --images LIST --predictions DIR
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Return 0, or 1 with a sentence on stderr."""
    args = _parser().parse_args(argv)
    try:
        _COMMANDS[args.command](args)
    except (build.StepMissing, ConversionFailed, OSError, ValueError) as error:
        print(f"modelkit {args.command}: {error}", file=sys.stderr)
        return 1
    except ModuleNotFoundError as error:
        print(f"modelkit {args.command} needs {error.name}: pip install 'rkfleet[modelkit]'", file=sys.stderr)
        return 1
    return 0


def _parser() -> argparse.ArgumentParser:
    style = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(prog="modelkit", description=__doc__, epilog=_EXAMPLES, formatter_class=style)
    commands = parser.add_subparsers(dest="command", required=True)
    draw = commands.add_parser("synthesise", help="write pictures, masks and a sheet with the defects framed")
    draw.add_argument("--count", type=int, default=16)
    draw.add_argument("--size", type=int, default=synthesise.PLATE_PX, help="pixels; default %(default)s")
    draw.add_argument("--out", type=Path, required=True)
    for name, text in (
        ("train", "train the U-Net (needs torch)"),
        ("export", "write the two ONNX files (needs torch)"),
        ("convert", "int8 models for all targets, and the simulator's readings"),
        ("pack", "write the bundle"),
        ("build", "all of these"),
    ):
        step = commands.add_parser(name, help=text)
        step.add_argument("--work", type=Path, default=Path("build/modelkit"), help="folder; default %(default)s")
        if name in {"train", "build"}:
            for spec in fields(Plan):
                _add_field(step, spec.name, spec.default)
        step.add_argument("--deeppcb", type=Path, help="folder of the DeepPCB set; else drawn boards are used")
        if name in {"convert", "build"}:
            step.add_argument("--environment", type=Path, default=_ENVIRONMENT, help="made if absent")
        if name in {"pack", "build"}:
            step.add_argument("--name", default="pcb-unet")
            step.add_argument("--version", required=True)
            step.add_argument("--out", type=Path, required=True, help="the bundle's folder, which must not exist")
        if name == "train":
            step.add_argument("--resume", action="store_true", help="go on from last.pt in the work folder")
    _add_evaluate(commands.add_parser("evaluate", help="measure a bundle, float or int8"))
    return parser


def _add_field(step: argparse.ArgumentParser, name: str, default: object) -> None:
    flag = f"--{name.replace('_', '-')}"
    if isinstance(default, tuple):
        step.add_argument(flag, type=type(default[0]), nargs="+", default=default)
    else:
        step.add_argument(flag, type=type(default), default=default)


def _add_evaluate(score: argparse.ArgumentParser) -> None:
    score.add_argument("--bundle", type=Path, required=True)
    score.add_argument("--deeppcb", type=Path, help="folder of the DeepPCB set: its held-out part is measured")
    score.add_argument(
        "--images", type=Path, help="a list in the form of trainval.txt to measure instead; paths from its own folder"
    )
    score.add_argument("--count", type=int, help="so many samples, spread over all; default all")
    score.add_argument(
        "--aligned-masks", action="store_true", help="measure pixels by masks of aligned pairs; else by the pairs as is"
    )
    score.add_argument("--int8", action="store_true", help="by the converter's simulator; calibrates on --deeppcb")
    score.add_argument("--environment", type=Path, default=_ENVIRONMENT, help="for --int8; made if absent")
    score.add_argument("--predictions", type=Path, help="folder for ID.txt: x1,y1,x2,y2,confidence,type a line")


def _synthesise(args: argparse.Namespace) -> None:
    synthesise.write(synthesise.validation(args.count, args.size), args.out)


def _source(args: argparse.Namespace) -> sources.Source:
    return sources.deeppcb(args.deeppcb) if args.deeppcb else sources.procedural()


def _train(args: argparse.Namespace) -> None:
    build.train(_plan(args), _source(args), args.work, resume=args.resume)


def _export(args: argparse.Namespace) -> None:
    build.export(_source(args), args.work)


def _convert(args: argparse.Namespace) -> None:
    build.convert_all(_source(args), args.work, args.environment)


def _pack(args: argparse.Namespace) -> None:
    build.bundle(args.name, args.version, _source(args), args.work, args.out)


def _build(args: argparse.Namespace) -> None:
    build.build(args.name, args.version, _plan(args), _source(args), (args.work, args.environment, args.out))


def _evaluate(args: argparse.Namespace) -> None:
    manifest, model = bundle_eval.open_bundle(args.bundle)
    samples, truth = _samples(args)
    reader = bundle_eval.cpu_reader(model)
    if args.int8:
        source = _source(args)
        if source.roles != tuple(spec.role for spec in manifest.inputs):
            raise ValueError("--int8 of a model with a golden reference calibrates on pairs: give --deeppcb")
        reader = bundle_eval.int8_reader(model, source, args.environment)
    done = bundle_eval.evaluate_bundle(manifest, reader, samples, truth)
    title = f"{args.bundle.name}, {'int8' if args.int8 else 'float'}"
    print(table({title: done.measured}))
    if done.boxes:
        print(box_table({title: done.boxes}))
    if args.predictions:
        write_predictions(args.predictions, done.found)


def _samples(args: argparse.Namespace) -> tuple[list[Sample], dict[str, list[Box]]]:
    if args.images:
        data = DeepPcb(args.images.parent, "all", args.images, aligned_masks=args.aligned_masks)
    elif args.deeppcb:
        data = DeepPcb(args.deeppcb, "validation", aligned_masks=args.aligned_masks)
    else:
        return synthesise.validation(args.count or sources.VALIDATION_IMAGES, first=sources.MEASURED_FROM), {}
    ids = data.ids[:: max(1, len(data.ids) // args.count)][: args.count] if args.count else data.ids
    return read_all(data, ids), {name: data.boxes(name) for name in ids}


def _plan(args: argparse.Namespace) -> Plan:
    values: dict[str, Any] = {spec.name: getattr(args, spec.name) for spec in fields(Plan)}
    values = {name: tuple(value) if isinstance(value, list) else value for name, value in values.items()}
    return Plan(**values)


_COMMANDS: Final = {
    "synthesise": _synthesise,
    "train": _train,
    "export": _export,
    "convert": _convert,
    "pack": _pack,
    "build": _build,
    "evaluate": _evaluate,
}
