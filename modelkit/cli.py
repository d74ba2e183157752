"""`python -m modelkit`: from nothing to a measured bundle."""

import argparse
import sys
from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path
from typing import Final

from modelkit import build, deeppcb, synthesise
from modelkit.convert_rknn import ConversionFailed
from modelkit.plan import Plan

_ENVIRONMENT: Final = Path(".venv-convert")
_EXAMPLES: Final = """examples:
  python -m modelkit synthesise --count 32 --out build/pictures
  python -m modelkit build --version 1.2.0 --steps 2000 --out build/pcb-unet-1.2.0
or step by step, with the same --work:
  python -m modelkit train --work build/mine --base 16 --steps 2000
  python -m modelkit export --work build/mine
  python -m modelkit convert --work build/mine
  python -m modelkit pack --work build/mine --version 1.2.0 --out build/pcb-unet-1.2.0
and to measure any bundle's cpu variant:
  python -m modelkit evaluate --bundle modelkit/zoo/pcb-unet-1.1.0 --deeppcb FOLDER
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
                step.add_argument(f"--{spec.name.replace('_', '-')}", type=type(spec.default), default=spec.default)
        if name in {"convert", "build"}:
            step.add_argument("--environment", type=Path, default=_ENVIRONMENT, help="made if absent")
        if name in {"pack", "build"}:
            step.add_argument("--name", default="pcb-unet")
            step.add_argument("--version", required=True)
            step.add_argument("--out", type=Path, required=True, help="the bundle's folder, which must not exist")
        if name == "train":
            step.add_argument("--resume", action="store_true", help="go on from last.pt in the work folder")
    score = commands.add_parser("evaluate", help="measure the cpu variant of a bundle")
    score.add_argument("--bundle", type=Path, required=True)
    score.add_argument("--count", type=int, default=build.VALIDATION_IMAGES)
    score.add_argument("--deeppcb", type=Path, help="folder of the DeepPCB set; else procedural pictures are used")
    return parser


def _synthesise(args: argparse.Namespace) -> None:
    synthesise.write(synthesise.validation(args.count, args.size), args.out)


def _train(args: argparse.Namespace) -> None:
    build.train(_plan(args), args.work, resume=args.resume)


def _export(args: argparse.Namespace) -> None:
    build.export(args.work)


def _convert(args: argparse.Namespace) -> None:
    build.convert_all(args.work, args.environment)


def _pack(args: argparse.Namespace) -> None:
    build.bundle(args.name, args.version, args.work, args.out)


def _build(args: argparse.Namespace) -> None:
    build.build(args.name, args.version, _plan(args), (args.work, args.environment, args.out))


def _evaluate(args: argparse.Namespace) -> None:
    if args.deeppcb:
        samples = deeppcb.load(args.deeppcb, args.count)
    else:
        samples = synthesise.validation(args.count, first=build.MEASURED_FROM)
    print(build.table({args.bundle.name: build.evaluate(args.bundle / "model-cpu.onnx", samples)}))


def _plan(args: argparse.Namespace) -> Plan:
    return Plan(**{spec.name: getattr(args, spec.name) for spec in fields(Plan)})


_COMMANDS: Final = {
    "synthesise": _synthesise,
    "train": _train,
    "export": _export,
    "convert": _convert,
    "pack": _pack,
    "build": _build,
    "evaluate": _evaluate,
}
