"""Models for every Rockchip target, built in an environment of their own, and what the simulator says of them.

The converter (rknn-toolkit2) needs old versions of what the trainer needs new, so the two never share an environment.
`python -m modelkit.convert_rknn [FOLDER]` makes the environment.
"""

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

from modelkit.rknn_job import ALGORITHMS, DTYPES, Conversion, Fallback, Hybrid, Job, Made, Progress
from modelkit.rknn_log import REFUSED, errors, fallbacks
from schemas.target import Target

__all__ = [
    "TARGETS",
    "TOOLKIT",
    "Conversion",
    "ConversionFailed",
    "EnvironmentAbsent",
    "Fallback",
    "Hybrid",
    "Job",
    "Progress",
    "UnknownTarget",
    "convert",
    "make_environment",
]

TOOLKIT: Final = "2.5.0"
TARGETS: Final = tuple(target.value for target in Target if target is not Target.CPU)
LOCK: Final = Path(__file__).with_name("requirements-convert.lock")
LOG: Final = "convert.log"
_ROOT: Final = Path(__file__).resolve().parent.parent
_TAIL_LINES: Final = 8


class ConversionFailed(Exception):
    """The environment could not be made, or the converter gave up; with the toolkit's own words."""


class EnvironmentAbsent(ConversionFailed):
    """The converter's environment is not there; the text has the command that makes it."""


class UnknownTarget(ConversionFailed, ValueError):
    """No model can be built for it; the text has those that there are."""


def make_environment(folder: Path) -> Path:
    """Return the environment's Python; makes the environment from the lock if it is not there.

    `--no-deps`, because the converter's own pins ask for a CUDA build of torch that it works without.
    """
    python = folder / "bin" / "python"
    if (folder / "complete").exists():
        return python
    for command in (
        [sys.executable, "-m", "venv", "--clear", str(folder)],
        [str(python), "-m", "pip", "install", "--quiet", "--no-deps", "--requirement", str(LOCK)],
    ):
        result = subprocess.run(command, cwd=_ROOT, check=False)  # noqa: S603 # our own words alone
        if result.returncode != 0:
            raise ConversionFailed(f"{' '.join(command[:4])} ended with {result.returncode}; its words are above")
    (folder / "complete").touch()
    return python


def convert(job: Job, environment: Path, progress: Callable[[Progress], None] | None = None) -> Conversion:
    """Write `TARGET.rknn` for each target, `conversion.json`, and `NAME.map.png` and `NAME.score.png` for each
    simulated sample, NAME being that of its first picture. All of them appear together at the end, or none; the
    toolkit's log, `convert.log`, in any case.

    Raises ConversionFailed and its kinds.
    """
    _check(job)
    python = environment.resolve() / "bin" / "python"
    if not (environment / "complete").exists():
        raise EnvironmentAbsent(
            f"no converter in {environment}: `{Path(sys.executable).name} -m modelkit.convert_rknn {environment}`"
            " makes its environment (1.5 GB)"
        )
    out, started = Path(job.out), time.monotonic()
    out.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(prefix=".converting-", dir=out) as folder:
        part = Path(folder)
        (part / "job.json").write_text(replace(job, out=folder).to_json())
        last: list[Progress] = []

        def told(step: Progress) -> None:
            last.append(step)
            if progress is not None:
                progress(step)

        code = _run(python, part, out / LOG, told)
        log = (out / LOG).read_text(errors="replace")
        if code != 0 or not (part / "made.json").exists():
            raise ConversionFailed(_reason(log, code, last, out / LOG))
        fields = json.loads((part / "made.json").read_text())
        made = Made(**fields | {"nodes": tuple(tuple(each) for each in fields["nodes"])})
        conversion = Conversion(
            models={target: str(out / f"{target}.rknn") for target in job.targets},
            quantisation=made.quantisation,
            seconds=round(time.monotonic() - started, 1),
            float16_layers=tuple(made.float16_layers),
            cosines=tuple(made.cosines),
            fallbacks=fallbacks(log, made.nodes),
        )
        conversion.write(part / "conversion.json")
        for file in (
            *part.glob("*.rknn"),
            *part.glob("*.map.png"),
            *part.glob("*.score.png"),
            part / "conversion.json",
        ):
            file.replace(out / file.name)
    return conversion


def _check(job: Job) -> None:
    """What needs no converter to be seen wrong."""
    if unknown := [target for target in job.targets if target not in TARGETS]:
        raise UnknownTarget(f"no target {', '.join(unknown)}: there are {', '.join(TARGETS)}")
    if not job.targets:
        raise UnknownTarget(f"no target is named: there are {', '.join(TARGETS)}")
    for name, value, known in (("algorithm", job.algorithm, ALGORITHMS), ("dtype", job.dtype, DTYPES)):
        if value not in known:
            raise ConversionFailed(f"no {name} {value!r}: there are {', '.join(known)}")
    if job.hybrid and job.dtype != "int8":
        raise ConversionFailed("hybrid quantisation is int8 with some layers in float16: its dtype is int8")
    if job.batch < 1 or any(min(shape) < 1 for shape in job.shapes):
        raise ConversionFailed(f"a batch of {job.batch}, shapes {job.shapes}: both are of 1 and more")
    if job.shapes and job.batch > 1:
        raise ConversionFailed("a model of several shapes takes one picture a call: give a batch or shapes")
    if not Path(job.onnx).is_file():
        raise ConversionFailed(f"{job.onnx} is missing: export the model first")
    if job.calibration:
        _check_calibration(Path(job.calibration), job.inputs)


def _check_calibration(listing: Path, inputs: int) -> None:
    if not listing.is_file():
        raise ConversionFailed(f"{listing}, the list of calibration pictures, is missing")
    samples = [line.split() for line in listing.read_text().splitlines() if line.strip()]
    if not samples:
        raise ConversionFailed(f"{listing}: the calibration set is empty; int8 ranges come from its pictures")
    for paths in samples:
        if len(paths) != inputs:
            raise ConversionFailed(f"{listing}: {len(paths)} pictures in a line, the model takes {inputs}")
        if missing := [path for path in paths if not Path(path).is_file()]:
            raise ConversionFailed(f"{listing}: {missing[0]} is missing")


def _run(python: Path, part: Path, log: Path, told: Callable[[Progress], None]) -> int:
    """Run the worker in `part`, where the toolkit leaves files of its own; return how it ended."""
    reading, writing = os.pipe()
    command = [str(python), "-m", "modelkit.rknn_worker", str(part / "job.json"), str(writing)]
    with log.open("wb") as sink, os.fdopen(reading, encoding="utf-8") as steps:
        try:
            process = subprocess.Popen(  # noqa: S603 # our own words alone
                command,
                cwd=part,
                env=os.environ | {"PYTHONPATH": str(_ROOT)},
                stdout=sink,
                stderr=subprocess.STDOUT,
                pass_fds=(writing,),
            )
        finally:
            os.close(writing)
        with process:
            try:
                for line in steps:
                    told(Progress(**json.loads(line)))
            except BaseException:
                process.kill()  # interrupted, or the callback failed: nobody would wait for it
                raise
        return process.returncode


def _reason(log: str, code: int, last: list[Progress], path: Path) -> str:
    told = errors(log) or [line for line in log.splitlines() if line.strip()]
    ours = [line for line in log.splitlines() if line.startswith(REFUSED)]
    where = f" in step {last[-1].step} for {last[-1].target}" if last else ""
    how = f"ended with {code}" if code >= 0 else f"crashed (signal {-code})"
    words = "\n  ".join(dict.fromkeys([*ours, *told[-_TAIL_LINES:]]))
    return f"the converter {how}{where}; all it said is in {path}:\n  {words}"


if __name__ == "__main__":
    print(make_environment(Path(sys.argv[1] if len(sys.argv) > 1 else ".venv-convert")))
